"""The full MNIST database, from files that are already on this machine."""

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path

import numpy as np
import pooch
from jaxtyping import UInt8

from retrograde.data._digits import Digits
from retrograde.data._errors import DataError

# sha256 of the *decompressed* content: copies of the .gz differ (level, name and time in their header).
DIGESTS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# The third byte of an IDX file says "unsigned byte", the fourth the number of axes.
MAGIC = {1: b"\0\0\x08\x01", 3: b"\0\0\x08\x03"}
ENVIRONMENT = "RETROGRADE_DATA"


def cache_folder() -> Path:
    """Returns the folder in which `fetch_mnist` keeps MNIST, unless it is told another."""
    return Path(pooch.os_cache("retrograde")) / "mnist"


def mnist_folder() -> Path:
    """Finds the folder with the four MNIST files.

    If the environment variable `RETROGRADE_DATA` is set, it is `$RETROGRADE_DATA/mnist` or, without such a folder,
    `$RETROGRADE_DATA` itself; otherwise the folder that `fetch_mnist` fills.

    Returns:
        The folder.

    Raises:
        DataError: If it does not exist or lacks a file.
    """
    root = os.environ.get(ENVIRONMENT)
    if not root:
        return _checked_folder(
            cache_folder(),
            f"Run `retrograde data fetch mnist` (11 MB), or set the environment variable {ENVIRONMENT} to a folder "
            "with the four files.",
        )
    folder = Path(root) / "mnist" if (Path(root) / "mnist").is_dir() else Path(root)
    return _checked_folder(
        folder,
        f"The environment variable {ENVIRONMENT} names this place: correct it, or unset it and run "
        "`retrograde data fetch mnist`.",
    )


def load_mnist(folder: str | os.PathLike | None = None) -> Digits:
    """Loads the full MNIST database: 60,000 digits to train on and 10,000 to test on.

    Each file is checked against the sha256 of its decompressed content.

    Args:
        folder: Where the four IDX files are, as `.gz` or decompressed. `None`: see `mnist_folder`.

    Returns:
        The digits, 28 × 28 pixels each.

    Raises:
        DataError: If the folder or a file is missing, or a file is empty, cut short, or not the official content.

    Source:
        LeCun, Cortes and Burges, the MNIST database of handwritten digits.
    """
    advice = "Name a folder with the four files, or run `retrograde data fetch mnist`."
    folder = mnist_folder() if folder is None else _checked_folder(Path(folder), advice)
    train_images, train_labels, test_images, test_labels = (read_idx(_find(folder, name)) for name in DIGESTS)
    return Digits(train_images, train_labels, test_images, test_labels)


def _find(folder: Path, name: str) -> Path:
    """Returns the file `name` in `folder`, compressed if there is one, else decompressed (if there is one)."""
    compressed = folder / f"{name}.gz"
    return compressed if compressed.is_file() else folder / name


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Reads one of the four MNIST files, compressed or not, and checks it.

    Args:
        path: The file, named as in the official distribution.

    Returns:
        `trial row column` or `trial`.

    Raises:
        DataError: If the file is empty, cut short, not IDX, or not the official content.
    """
    name = path.name.removesuffix(".gz")
    again = "Replace it by an intact copy, or run `retrograde data fetch mnist`."
    content = _content(path, again)
    axes = 3 if "idx3" in name else 1
    if content[:4] != MAGIC[axes]:
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes with {axes} axes: its content starts with "
            f"{content[:4].hex(' ')}, expected {MAGIC[axes].hex(' ')}. {again}"
        )
    header = content[4 : 4 + 4 * axes].ljust(4 * axes, b"\0")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
    expected = 4 + 4 * axes + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{path} is cut short or too long: its header promises {expected:,} bytes (shape {shape}), there are "
            f"{len(content):,}. {again}"
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != DIGESTS[name]:
        raise DataError(
            f"{path} is not the official MNIST file: the sha256 of its decompressed content is {digest}, expected "
            f"{DIGESTS[name]}. {again}"
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _content(path: Path, again: str) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error
    if not raw:
        raise DataError(f"{path} is empty. {again}")
    if path.suffix != ".gz":
        return raw
    if raw[:2] != b"\x1f\x8b":
        raise DataError(f"{path} is not a gzip file: it starts with {raw[:2].hex(' ')}, not 1f 8b. {again}")
    try:
        return gzip.decompress(raw)
    except EOFError:
        raise DataError(f"{path} is cut short: the gzip stream ends after {len(raw):,} bytes. {again}") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. {again}") from error


def _checked_folder(folder: Path, advice: str) -> Path:
    if not folder.is_dir():
        raise DataError(f"MNIST is not here: there is no folder {folder}. {advice}")
    missing = [name for name in DIGESTS if not _find(folder, name).is_file()]
    if missing:
        files = ", ".join(f"{name}.gz" for name in missing)
        raise DataError(f"MNIST is incomplete: {folder} lacks {files}. {advice}")
    return folder
