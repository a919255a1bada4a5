"""Digits seen by an event camera, from a file that is already on this machine."""

import dataclasses
import os
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8, UInt32

from retrograde.data._errors import DataError
from retrograde.data._found import cache_of, checked_folder, digest_of, find_folder, read_arrays, write_arrays

NMNIST_FILE = "nmnist_small.npz"
NMNIST_DIGEST = "1c5bbef251559563e34f81eef0d9b29f2944a3cbf762bdbb6b51d01d3930d1da"
NMNIST_SIZES = {"train": 1000, "test": 100}
FIELDS = ("x", "y", "t", "p", "offsets", "label", "mnist_index")
NMNIST_ARRAYS = tuple(f"{split}_{field}" for split in NMNIST_SIZES for field in FIELDS)
TITLE = "Small N-MNIST"
ADVICE = (
    "Get N-MNIST (https://www.garrickorchard.com/datasets/n-mnist), unpack it and run `retrograde data pack nmnist "
    "FOLDER`, where FOLDER has `Train` and `Test`, or name a folder with nmnist_small.npz."
)


@dataclasses.dataclass(frozen=True)
class Events:
    """Events of a camera of 34 × 34 pixels, several recordings one after the other.

    Attributes:
        x: Column of each event, 0 to 33, shape `event`.
        y: Row, 0 to 33.
        t: Time since the recording's beginning [µs].
        p: Polarity: 1 where it became brighter, 0 darker.
        offsets: Recording `i` is events `offsets[i]` to `offsets[i + 1] - 1`, shape `recording + 1`.
        label: The digit, shape `recording`.
    """

    x: UInt8[np.ndarray, " event"]
    y: UInt8[np.ndarray, " event"]
    t: UInt32[np.ndarray, " event"]
    p: UInt8[np.ndarray, " event"]
    offsets: Int64[np.ndarray, " edge"]
    label: UInt8[np.ndarray, " recording"]


def nmnist_folder() -> Path:
    """Finds the folder with `nmnist_small.npz`: `$RETROGRADE_DATA/nmnist`, `$RETROGRADE_DATA`, or the user's cache.

    Returns:
        The folder.

    Raises:
        DataError: If it does not exist or lacks the file.
    """
    return find_folder("nmnist", TITLE, (NMNIST_FILE,), ADVICE)


def load_nmnist(folder: str | os.PathLike | None = None) -> dict[str, Events]:
    """Loads a part of N-MNIST: the first 1,000 digits to train on and the first 100 to test on.

    The content of the file is checked by its sha256. All 70,000 come with Tonic, see `tasks.Recorded.from_tonic`.

    Args:
        folder: Where `nmnist_small.npz` is, as `pack_nmnist` writes it. `None`: see `nmnist_folder`.

    Returns:
        The events of `"train"` and `"test"`.

    Raises:
        DataError: If the folder or the file is missing, or the file is damaged or holds other recordings.

    Source:
        Orchard, Jayawant, Cohen and Thakor (2015), Front. Neurosci. 9:437. Licence: CC BY-SA 4.0.
    """
    if folder is None:
        folder = nmnist_folder()
    folder = checked_folder(Path(folder), TITLE, (NMNIST_FILE,), ADVICE)
    arrays = read_arrays(folder / NMNIST_FILE, NMNIST_ARRAYS, NMNIST_DIGEST, ADVICE)
    parts = {}
    for split in NMNIST_SIZES:
        part = {field: arrays[f"{split}_{field}"] for field in FIELDS if field != "mnist_index"}
        part["p"] = np.unpackbits(part["p"])[: part["offsets"][-1]]
        parts[split] = Events(**part)
    return parts


def pack_nmnist(recordings: str | os.PathLike, folder: str | os.PathLike | None = None) -> Path:
    """Turns the first recordings of N-MNIST into the one file that is read here.

    Args:
        recordings: The folder with `Train` and `Test`, each with a folder for each digit and in it files as
            `00002.bin`.
        folder: Where to keep `nmnist_small.npz`. `None`: the user's cache folder, where `load_nmnist` looks.

    Returns:
        The file (14 MB).

    Raises:
        DataError: If a recording is missing or is not the official one, or the folder cannot be written to.
    """
    arrays: dict[str, np.ndarray] = {}
    for split, size in NMNIST_SIZES.items():
        root = Path(recordings) / split.capitalize()
        paths = {path.name: path for path in sorted(root.glob("[0-9]/*.bin"))}
        names = [f"{number + 1:05d}.bin" for number in range(size)]
        if missing := [name for name in names if name not in paths]:
            raise DataError(f"{root} lacks {len(missing):,} of {size:,} recordings, such as */{missing[0]}. {ADVICE}")
        events = [_read_bin(paths[name]) for name in names]
        x, y, t, p = (np.concatenate(column) for column in zip(*events, strict=True))
        arrays |= {
            f"{split}_x": x,
            f"{split}_y": y,
            f"{split}_t": t,
            f"{split}_p": np.packbits(p),
            f"{split}_offsets": np.cumsum([0, *(len(event[0]) for event in events)], dtype=np.int64),
            f"{split}_label": np.array([int(paths[name].parent.name) for name in names], np.uint8),
            f"{split}_mnist_index": np.arange(size, dtype=np.int32),
        }
    if (digest := digest_of(arrays)) != NMNIST_DIGEST:
        raise DataError(
            f"{recordings} holds other recordings than expected: the sha256 of their events is {digest}, expected "
            f"{NMNIST_DIGEST}. {ADVICE}"
        )
    file = (cache_of("nmnist") if folder is None else Path(folder)) / NMNIST_FILE
    write_arrays(file, arrays, TITLE)
    return file


def _read_bin(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reads events of 40 bits: 8 of x, 8 of y, 1 of polarity, 23 of time."""
    try:
        raw = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error
    if raw.size % 5 or not raw.size:
        raise DataError(f"{path} is empty or cut short: it has {raw.size:,} bytes, no multiple of 5. {ADVICE}")
    x, y, high, middle, low = raw.reshape(-1, 5).T
    t = (high & 0x7F).astype(np.uint32) << 16 | middle.astype(np.uint32) << 8 | low
    return x, y, t, high >> 7
