"""Tasks: numbered trials, with what should come out and where it counts."""

from retrograde.tasks._abstract import AbstractTask as AbstractTask
from retrograde.tasks._abstract import Trials as Trials
from retrograde.tasks._add import Add as Add
from retrograde.tasks._digits import SequentialDigits as SequentialDigits
from retrograde.tasks._endless import AbstractEndlessTask as AbstractEndlessTask
from retrograde.tasks._mimic import Mimic as Mimic
from retrograde.tasks._multisensory import Multisensory as Multisensory
from retrograde.tasks._recall import DelayedRecall as DelayedRecall
from retrograde.tasks._sine import Sine as Sine

# Name in recipes and on the command line → class.
TASKS: dict[str, type[AbstractTask]] = {
    "sequential_digits": SequentialDigits,
    "delayed_recall": DelayedRecall,
    "add": Add,
    "mimic": Mimic,
    "multisensory": Multisensory,
    "sine": Sine,
}
