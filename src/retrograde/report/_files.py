import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

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


def read_json(path: Path, default: Any) -> Any:
    """Reads a file that `write_json` wrote; `default` if there is none.

    Raises:
        RunError: If it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}. Put back a copy, or name another folder") from error


def write_json(path: Path, content: Any) -> Path:
    """Writes a file whole or not at all."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return write_file(path, lambda new: new.write_text(text, encoding="utf-8"))


def plain(value: Any) -> float | None:
    """A number as JSON has it, `None` for NaN."""
    value = float(value)
    return None if np.isnan(value) else value


def numbers(values: Any) -> Float[np.ndarray, "..."]:
    """Numbers from JSON, NaN for `None`."""
    return np.array(values, dtype=float)
