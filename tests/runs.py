"""A tiny run made by the command, once per process, for tests that need one."""

import contextlib
import functools
import io
import os
import tempfile
from pathlib import Path

from retrograde.cli import main

TINY = [
    *("--set", "neuron.size=4"),
    *("--set", "training.batch=8"),
    *("--set", "task.pool=14"),  # images of 2 × 2: two time steps
    *("--set", "evaluation.samples=2"),
    *("--set", "training.log_every=1"),
    *("--set", "training.validate_every=2"),
    *("--set", "training.checkpoint_every=2"),
]


@functools.cache
def tiny_run() -> Path:
    """A finished run of four updates. Do not change it: copy it."""
    # What the command compiles here is not to be found by later tests, nor by the user.
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()
    folder = Path(tempfile.mkdtemp()) / "digits-tiny"
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["train", "digits", "--steps", "4", "--out", str(folder), *TINY]) == 0
    return folder
