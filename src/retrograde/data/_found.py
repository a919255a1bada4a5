"""Where the smaller data sets are looked for, and how their files are checked."""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pooch

from retrograde.data._errors import DataError
from retrograde.data._mnist import ENVIRONMENT


def cache_of(name: str) -> Path:
    """Returns the folder in which a data set is kept, unless one is told another."""
    return Path(pooch.os_cache("retrograde")) / name


def find_folder(name: str, title: str, files: Sequence[str], advice: str) -> Path:
    """Finds the folder with the files of a data set: `$RETROGRADE_DATA/name`, `$RETROGRADE_DATA`, or the cache.

    Args:
        name: Name of the folder.
        title: What the data are called in messages.
        files: Names of the files that must be there.
        advice: How to get them.

    Returns:
        The folder.

    Raises:
        DataError: If it does not exist or lacks a file.
    """
    root = os.environ.get(ENVIRONMENT)
    if not root:
        return checked_folder(cache_of(name), title, files, advice)
    folder = Path(root) / name if (Path(root) / name).is_dir() else Path(root)
    here = f"The environment variable {ENVIRONMENT} names this place: correct it, or unset it. "
    return checked_folder(folder, title, files, here + advice)


def checked_folder(folder: Path, title: str, files: Sequence[str], advice: str) -> Path:
    """Returns the folder if it has all the files; the error says what is missing, and the advice."""
    if not folder.is_dir():
        raise DataError(f"{title} is not here: there is no folder {folder}. {advice}")
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise DataError(f"{title} is not here: {folder} lacks {', '.join(missing)}. {advice}")
    return folder


def read_checked(path: Path, sha256: str, advice: str) -> bytes:
    """Reads a file whose sha256 is known.

    Raises:
        DataError: If it cannot be read, is empty, or is another file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error
    if not content:
        raise DataError(f"{path} is empty. {advice}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataError(f"{path} is not the expected file: its sha256 is {digest}, expected {sha256}. {advice}")
    return content


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the sha256 of arrays' names, types, shapes and bytes, in the order of the mapping."""
    sha256 = hashlib.sha256()
    for name, array in arrays.items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        sha256.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
        sha256.update(little.tobytes())
    return sha256.hexdigest()


def read_arrays(path: Path, names: Sequence[str], sha256: str, advice: str) -> dict[str, np.ndarray]:
    """Reads arrays from an `.npz` file and checks their content (compressed or not, the file may differ).

    Raises:
        DataError: If the file cannot be read, lacks an array, or holds other content.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if missing := [name for name in names if name not in file.files]:
                raise DataError(f"{path} lacks {', '.join(missing)}. {advice}")
            arrays = {name: file[name] for name in names}
    except DataError:
        raise
    # A file that is no archive is, to NumPy, a pickle that it must not open, or an array without names.
    except (
        AttributeError,
        EOFError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(f"{path} cannot be read: it is empty, cut short or no .npz file ({error}). {advice}") from error
    digest = digest_of(arrays)
    if digest != sha256:
        raise DataError(
            f"{path} does not hold the expected data: the sha256 of its arrays is {digest}, expected {sha256}. {advice}"
        )
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], title: str) -> None:
    """Writes arrays to an `.npz` file, which appears only when it is whole."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        part.replace(path)
    except OSError as error:
        raise DataError(
            f"{title} cannot be stored in {path.parent}: {error.strerror or error}. Free some space, mend the "
            "permissions, or name another folder."
        ) from error
