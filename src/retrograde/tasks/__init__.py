"""Tasks: numbered trials, with what should come out and where it counts."""

from retrograde.tasks._abstract import AbstractTask as AbstractTask
from retrograde.tasks._abstract import Trials as Trials
from retrograde.tasks._add import Add as Add
from retrograde.tasks._digits import SequentialDigits as SequentialDigits
from retrograde.tasks._recall import DelayedRecall as DelayedRecall

# Name in recipes and on the command line → class.
TASKS: dict[str, type[AbstractTask]] = {
    "sequential_digits": SequentialDigits,
    "delayed_recall": DelayedRecall,
    "add": Add,
}
