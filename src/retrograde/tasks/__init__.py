"""Tasks: numbered trials, with what should come out and where it counts."""

from retrograde.tasks._abstract import AbstractTask as AbstractTask
from retrograde.tasks._abstract import Trials as Trials
from retrograde.tasks._add import Add as Add
from retrograde.tasks._copy_repeat import CopyRepeat as CopyRepeat
from retrograde.tasks._digits import SequentialDigits as SequentialDigits
from retrograde.tasks._ecg import ECG as ECG
from retrograde.tasks._endless import AbstractEndlessTask as AbstractEndlessTask
from retrograde.tasks._evidence import EvidenceAccumulation as EvidenceAccumulation
from retrograde.tasks._evidence import decision_error as decision_error
from retrograde.tasks._mimic import Mimic as Mimic
from retrograde.tasks._multisensory import Multisensory as Multisensory
from retrograde.tasks._nmnist import NMNIST as NMNIST
from retrograde.tasks._pattern import PatternGeneration as PatternGeneration
from retrograde.tasks._recall import DelayedRecall as DelayedRecall
from retrograde.tasks._recorded import Recorded as Recorded
from retrograde.tasks._recorded import Recording as Recording
from retrograde.tasks._sine import Sine as Sine
from retrograde.tasks._spoken import SpokenDigits as SpokenDigits
from retrograde.tasks._store_recall import StoreRecall as StoreRecall

# Name in recipes and on the command line → class.
TASKS: dict[str, type[AbstractTask]] = {
    "sequential_digits": SequentialDigits,
    "delayed_recall": DelayedRecall,
    "add": Add,
    "mimic": Mimic,
    "multisensory": Multisensory,
    "sine": Sine,
    "pattern_generation": PatternGeneration,
    "store_recall": StoreRecall,
    "evidence_accumulation": EvidenceAccumulation,
    "copy_repeat": CopyRepeat,
    "ecg": ECG,
    "spoken_digits": SpokenDigits,
    "nmnist": NMNIST,
    "recorded": Recorded,
}
