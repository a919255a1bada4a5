import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retrograde.training import RunError


def write_file(path: Path, write: Callable[[Path], Any]) -> Path:
    """Writes a file whole or not at all: what was there stays until the new one is complete.

    Args:
        path: The file; its folder is made if need be.
        write: Writes to the path that it is given.

    Returns:
        `path`.

    Raises:
        RunError: If the system refuses.
    """
    new = path.with_name(f"{path.stem}.new{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(new)
        return new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. Free some space, mend the permissions, or name another "
            "place; what was there is unchanged"
        ) from error


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name, without pickle."""
    np.savez_compressed(path, allow_pickle=False, **arrays)
