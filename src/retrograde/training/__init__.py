"""Training: `fit`, optimisers, run folders, checkpoints, evaluation."""

from ._checkpoints import Checkpoints
from ._compile_cache import compile_cache
from ._cost import Update, compile_update, time_updates
from ._early_stop import EarlyStop
from ._errors import CheckpointError, DivergedError, RunError
from ._evaluate import Evaluation, evaluate, task_loss
from ._fit import fit, load_network
from ._history import History, read_history
from ._optimisers import clip_by_spectral_norm, halving, optimiser
from ._result import Progress, Result, Stage
from ._run import Run, origin, read_run

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "DivergedError",
    "EarlyStop",
    "Evaluation",
    "History",
    "Progress",
    "Result",
    "Run",
    "RunError",
    "Stage",
    "Update",
    "clip_by_spectral_norm",
    "compile_cache",
    "compile_update",
    "evaluate",
    "fit",
    "halving",
    "load_network",
    "optimiser",
    "origin",
    "read_history",
    "read_run",
    "task_loss",
    "time_updates",
]
