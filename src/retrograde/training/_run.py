"""A run folder: what was run, with what, what came out, and the checkpoints to go on from."""

import contextlib
import datetime
import errno
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from retrograde.training._checkpoints import Checkpoints
from retrograde.training._errors import RunError
from retrograde.training._history import COLUMNS, METRICS, Rows, read_rows

PACKAGES = ("retrograde", "jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "numpy")


class Run:
    """A run folder, opened for one process alone.

        run.json       recipe, settings, versions, commit, devices
        metrics.csv    one line per logged step and seed
        timing.csv     when, and how fast: the only numbers that differ between two identical runs
        checkpoints/   the last few states
        events/        for TensorBoard, if `tensorboardX` is installed
        result.json    written at the end

    Use it in a `with` statement: the folder is locked until the end of it, or of the process.
    """

    def __init__(self, folder: str | Path, *, settings: dict, recipe: dict | None, keep: int, resume: bool):
        self.folder = Path(folder)
        with _reported(self.folder, "use"):
            self._create(resume)
            self._lock = _lock(self.folder)
        try:
            with _reported(self.folder, "use"):
                if (self.folder / "run.json").exists():
                    self._check_settings(settings)
                else:
                    self._write_json("run.json", origin() | {"settings": settings, "recipe": recipe})
        except BaseException:
            self.close()
            raise
        self.checkpoints = Checkpoints(self.folder / "checkpoints", keep)
        self._metrics: Any = None
        self._timing: Any = None
        self._events: Any = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _create(self, resume: bool) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file; name a new folder for the run")
        self.folder.mkdir(parents=True, exist_ok=True)
        # a process killed in its first moments leaves nothing but these
        names = {path.name for path in self.folder.iterdir()} - {".lock", "run.json.new"}
        if names and "run.json" not in names:
            raise RunError(
                f"{self.folder} is not empty and not a run (it has no run.json, but {sorted(names)[0]!r}); "
                "name a new or an empty folder, so that nothing of yours is overwritten"
            )
        if names and not resume:
            raise RunError(f"{self.folder} holds a run already; resume it (`resume=True`) or name another folder")

    def _check_settings(self, settings: dict) -> None:
        old = read_run(self.folder)["settings"]
        for name, value in settings.items():
            if name != "steps" and old.get(name) != value:
                raise RunError(
                    f"{self.folder} was started with {name} = {old.get(name)!r}, not {value!r}; a resumed run must "
                    "go on as it began. Use the same value, or another folder"
                )

    def open_metrics(self, offset: int | None, seeds: int, tensorboard: bool | None, step: int) -> Rows:
        """Opens `metrics.csv` where the checkpoint left it (`offset` bytes; `None`: anew) and returns its rows."""
        path = self.folder / "metrics.csv"
        header = (",".join(COLUMNS) + "\n").encode()
        with _reported(path, "write"):
            self._metrics = open(path, "r+b" if path.exists() else "w+b", buffering=0)
            size = self._metrics.seek(0, os.SEEK_END)
            if offset is not None and size < offset:
                raise RunError(
                    f"{path} has {size} bytes, but {offset} were written before the checkpoint of step {step}: "
                    "it was changed or lost. Put it back, or start again in a new folder"
                )
            self._metrics.truncate(offset or 0)
            self._metrics.seek(0)
            text = self._metrics.read().decode()
            if not text:
                _write(self._metrics, header)
            try:
                rows = read_rows(text) if offset else Rows(seeds)
            except (ValueError, KeyError) as error:
                raise RunError(f"{path} is damaged: {error}. Start again in a new folder") from error
            rows.seeds = seeds
            timing = self.folder / "timing.csv"
            fresh = not timing.exists()
            self._timing = open(timing, "ab", buffering=0)
            if fresh:
                _write(self._timing, b"time,step,seconds,steps_per_second\n")
            self._events = _event_writer(self.folder / "events", tensorboard, step)
        return rows

    def write_metrics(self, lines: str) -> None:
        with _reported(self.folder / "metrics.csv", "write"):
            _write(self._metrics, lines.encode())

    def metrics_offset(self) -> int:
        return self._metrics.tell()

    def write_timing(self, step: int, seconds: float, steps_per_second: float) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        with _reported(self.folder / "timing.csv", "write"):
            _write(self._timing, f"{now},{step},{seconds:.3f},{steps_per_second:.3f}\n".encode())

    def write_events(self, step: int, table: np.ndarray) -> None:
        if self._events is None:
            return
        with _reported(self.folder / "events", "write"):
            for seed, values in enumerate(table):
                for name, value in zip(METRICS, values, strict=True):
                    if not np.isnan(value):
                        tag = name if len(table) == 1 else f"{name}/seed_{seed}"
                        self._events.add_scalar(tag, float(value), step)

    def write_result(self, result: dict) -> None:
        self._write_json("result.json", result)

    def _write_json(self, name: str, content: dict) -> None:
        path = self.folder / name
        with _reported(path, "write"):
            new = path.with_name(f"{name}.new")
            new.write_text(json.dumps(content, indent=2, default=str) + "\n")
            new.replace(path)

    def close(self) -> None:
        for file in (getattr(self, name, None) for name in ("_metrics", "_timing", "_events", "_lock")):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()


def read_run(folder: str | Path) -> dict[str, Any]:
    """Reads `run.json`: recipe, settings, versions, commit and devices of a run.

    Args:
        folder: A run folder of `fit`.

    Raises:
        RunError: If the folder is not a run.
    """
    path = Path(folder) / "run.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(
            f"{str(folder)!r} is not a run folder: it has no run.json. Name a folder made by training"
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(
            f"cannot read {path}: {error}. Restore it from a copy, or start again in a new folder"
        ) from error


def origin() -> dict:
    """When, with what, and on what machine something is run: for the record."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "format": 1,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | versions,
        "commit": _commit(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "machine": platform.platform(),
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


def _commit() -> str | None:
    """The commit of the library, if it runs from a checkout."""
    checkout = Path(__file__).resolve().parents[3]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _lock(folder: Path):
    """Locks the folder for this process; the system itself unlocks it when the process dies, however it does."""
    path = folder / ".lock"
    file = open(path, "a+")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise RunError(
            f"{folder} is in use by another run (process {owner}); wait for it, stop it, or name another folder"
        ) from error
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()} on {platform.node()}\n")
    file.flush()
    return file


def _write(file, content: bytes) -> None:
    """Writes all of it: an unbuffered file may take a part, and on a full disk does."""
    while content:
        content = content[file.write(content) :]


@contextlib.contextmanager
def _reported(path: Path, verb: str) -> Iterator[None]:
    """Turns what the operating system refuses into a `RunError`."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "The disk is full: free some space, then resume the run",
            errno.EDQUOT: "Your disk quota is used up: free some space, then resume the run",
            errno.EFBIG: "The file may not grow further: raise the limit (`ulimit -f`), then resume the run",
            errno.EROFS: "The file system is read-only: name a folder elsewhere",
            errno.EACCES: "You may not write there: name another folder or mend its permissions",
            errno.EPERM: "You may not write there: name another folder or mend its permissions",
        }.get(error.errno or 0, "Name another folder or mend this one")
        raise RunError(f"cannot {verb} {path}: {error.strerror or error}. {advice}") from error


def _event_writer(folder: Path, wanted: bool | None, step: int):
    if wanted is False:
        return None
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        if wanted is None:
            return None
        raise ImportError(
            "TensorBoard events need the package `tensorboardX`: pip install 'retrograde[tensorboard]', "
            "or leave out `tensorboard=True` (metrics.csv has the same numbers)"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
