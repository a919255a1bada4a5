"""Checkpoints: written by Orbax (arrays only, no pickle), whole or not there at all."""

import errno
import gc
import hashlib
import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from retrograde.training._errors import CheckpointError, RunError

FORMAT = 1
SPARE_BYTES = 2**18  # a checkpoint's own files: names, shapes, metadata


class Checkpoints:
    """The checkpoints of one run: `checkpoints/00000200` is the state after update 200.

    Orbax writes into a folder with a temporary name and renames it when all is on disk, so a killed process leaves
    nothing that looks like a checkpoint and is not one. Each also carries a digest of its arrays, checked on
    reading.

    Attributes:
        folder: Where they lie.
        keep: How many of the latest are kept.
    """

    def __init__(self, folder: Path, keep: int):
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1 checkpoint, got {keep}")
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps with a checkpoint, latest first."""
        names = (path.name for path in self.folder.iterdir()) if self.folder.is_dir() else ()
        return sorted((int(name) for name in names if name.isdigit()), reverse=True)

    def save(self, step: int, tree: dict[str, PyTree]) -> None:
        """Writes `tree` as the checkpoint of `step` and deletes the ones too many.

        Raises:
            RunError: If it cannot be written. Earlier checkpoints stay as they are.
        """
        path = self._path(step)
        _, reason = _quietly(lambda: self._save(path, tree))
        if reason is not None:
            shutil.rmtree(self.folder / f"{path.name}.orbax-checkpoint-tmp", ignore_errors=True)
            raise RunError(
                f"could not write the checkpoint {path}: {reason}. "
                f"Checkpoints still there: {', '.join(map(str, self.steps())) or 'none'}. "
                "Free some space or mend the permissions, then resume the run."
            )

    def _save(self, path: Path, tree: dict[str, PyTree]) -> None:
        import orbax.checkpoint as ocp  # half a second: not for those who only import the library

        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            content = _encode(tree)
            # asked first, as Orbax's threads stumble over a full disk long after it has failed
            if shutil.disk_usage(self.folder).free < SPARE_BYTES + 2 * sum(array.nbytes for array in content.values()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            _checkpointer().save(path.absolute(), args=ocp.args.PyTreeSave(content))
        for old in self.steps()[self.keep :]:
            # by a name that is no checkpoint, lest a kill between two files leave half of one
            shutil.rmtree(self._path(old).rename(self.folder / f"{old:08d}.deleting"))

    def load(
        self, template: dict[str, PyTree], warn: Callable[[str], None], step: int | None = None
    ) -> tuple[int, dict[str, PyTree]]:
        """Reads the latest checkpoint that is whole.

        Args:
            template: A tree of the same structure, shapes and dtypes as the one saved, or some entries of it.
            warn: Is told of each damaged checkpoint that was passed over.
            step: Read this one instead of the latest.

        Raises:
            CheckpointError: If none can be read, or it belongs to something else.
        """
        tried = []
        for candidate in self.steps() if step is None else [step]:
            path = self._path(candidate)
            content, reason = _quietly(lambda path=path: _read(path))
            if content is None:
                tried.append(f"{path.name}: {reason}")
                warn(f"checkpoint {path} is damaged ({reason}); trying the one before it")
                continue
            leaves, stored = content
            return candidate, _decode(template, leaves, stored, path)
        raise CheckpointError(
            f"no checkpoint in {self.folder} can be read"
            + (f" ({'; '.join(tried)})" if tried else ": there is none")
            + ". Start the run again in a new folder, or put back a copy of the checkpoint."
        )

    def tidy(self, step: int) -> None:
        """Clears away what a killed process left, and sets aside damaged checkpoints later than `step`."""
        if not self.folder.is_dir():
            return
        for path in list(self.folder.iterdir()):
            if path.name.endswith((".deleting", "-tmp")):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.isdigit() and int(path.name) > step:
                aside = path.with_name(f"{path.name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:08d}"


def _checkpointer():
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


def _quietly(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """What `call` returns, or why it failed; without what Orbax's threads and coroutines print beside an exception."""
    log = logging.getLogger("absl")
    before = log.level, threading.excepthook, sys.unraisablehook
    log.setLevel(logging.CRITICAL + 1)
    threading.excepthook = lambda _: None
    sys.unraisablehook = lambda _: None
    try:
        try:
            return call(), None
        except Exception as error:  # of a full disk or damaged bytes Orbax, tensorstore and json make many kinds
            reason = _reason(error)
        # threads and coroutines that were cut short complain when they end: here, unheard
        time.sleep(0.1)
        gc.collect()
        return None, reason
    finally:
        log.setLevel(before[0])
        threading.excepthook, sys.unraisablehook = before[1:]


def _encode(tree: dict[str, PyTree]) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    arrays = {f"{i:05d}": _to_numpy(leaf) for i, (_, leaf) in enumerate(leaves)}
    manifest = {
        "format": FORMAT,
        "digest": _digest(arrays),
        "leaves": [
            [jax.tree_util.keystr(path), *_kind(array)]
            for (path, _), array in zip(leaves, arrays.values(), strict=True)
        ],
    }
    stored = {name: array for name, array in arrays.items() if array.size}  # tensorstore refuses empty arrays
    return stored | {"manifest": np.frombuffer(json.dumps(manifest).encode(), dtype=np.uint8)}


def _read(path: Path) -> tuple[list[np.ndarray], list[list]]:
    import orbax.checkpoint as ocp

    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist")
    checkpointer = _checkpointer()
    metadata = checkpointer.metadata(path.absolute()).item_metadata.tree
    as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in metadata}
    arrays = checkpointer.restore(path.absolute(), args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    manifest = json.loads(arrays.pop("manifest").tobytes())
    if manifest["format"] != FORMAT:
        raise ValueError(f"written in format {manifest['format']}, this version reads format {FORMAT}")
    for i, (_, shape, dtype) in enumerate(manifest["leaves"]):
        if 0 in shape:
            arrays[f"{i:05d}"] = np.zeros(shape, dtype)
    arrays = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
    if _digest(arrays) != manifest["digest"]:
        raise ValueError("the digest of its arrays is not the one written with them")
    return list(arrays.values()), manifest["leaves"]


def _decode(template: dict[str, PyTree], leaves: list[np.ndarray], stored: list[list], path: Path) -> dict[str, PyTree]:
    wanted, structure = jax.tree_util.tree_flatten_with_path(template)
    entries = tuple(f"[{name!r}]" for name in template)
    chosen = [i for i, (name, _, _) in enumerate(stored) if name.startswith(entries)]
    stored, leaves = [stored[i] for i in chosen], [leaves[i] for i in chosen]
    expected = [[jax.tree_util.keystr(name), *_kind(_to_numpy(leaf))] for name, leaf in wanted]
    if expected != stored:
        here = next((e for e in expected if e not in stored), None)
        there = next((s for s in stored if s not in expected), None)
        raise CheckpointError(
            f"the checkpoint {path} belongs to another network, rule or optimiser: it holds {_describe(there)}, "
            f"this run needs {_describe(here)}. Resume with the recipe that is stored in the run folder."
        )
    restored = [_like(leaf, array) for (_, leaf), array in zip(wanted, leaves, strict=True)]
    return jax.tree.unflatten(structure, restored)


def _describe(leaf: list | None) -> str:
    return "nothing more" if leaf is None else f"{leaf[0]} of shape {tuple(leaf[1])} and type {leaf[2]}"


def _to_numpy(leaf) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _like(leaf, array: np.ndarray):
    if not isinstance(leaf, jax.Array):
        return array
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    return jnp.asarray(array)


def _kind(array: np.ndarray) -> tuple[list[int], str]:
    return list(array.shape), str(array.dtype)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    text = str(error)
    if "No space left" in text or "RESOURCE_EXHAUSTED" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return "the disk is full"
    return (text.splitlines() or [type(error).__name__])[0][:200]
