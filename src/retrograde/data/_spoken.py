"""Spoken digits, from a file that is already on this machine."""

import dataclasses
import os
import re
import wave
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64, UInt8

from retrograde.data._errors import DataError
from retrograde.data._found import cache_of, checked_folder, digest_of, find_folder, read_arrays, write_arrays

SPOKEN_FILE = "fsdd.npz"
SPOKEN_DIGEST = "f004f5a3de6f4940d272de44feb51108b85439477b448c8b9bc958e712726b3f"
SPOKEN_ARRAYS = ("samples", "offsets", "digit", "speaker", "index", "speakers", "sampling_rate")
TITLE = "The Free Spoken Digit Dataset"
ADVICE = (
    "Get the recordings (https://github.com/Jakobovski/free-spoken-digit-dataset, commit 26eb9aaf, of 2024-05-02) and "
    "run `retrograde data pack fsdd recordings`, or name a folder with fsdd.npz."
)


@dataclasses.dataclass(frozen=True)
class SpokenClips:
    """Recordings of spoken digits.

    Attributes:
        samples: All clips one after the other [1/32768 of full scale], shape `sample`.
        offsets: Clip `i` is `samples[offsets[i]:offsets[i + 1]]`, shape `clip + 1`.
        digit: What is said, 0 to 9, shape `clip`.
        speaker: Who says it, an index of `speakers`, shape `clip`.
        take: Which of the speaker's 50 takes of the digit, shape `clip`. Takes 0 to 4 are the official test part.
        speakers: Names of the speakers.
        sampling_rate: Samples in a second [Hz].
    """

    samples: Int16[np.ndarray, " sample"]
    offsets: Int64[np.ndarray, " edge"]
    digit: UInt8[np.ndarray, " clip"]
    speaker: UInt8[np.ndarray, " clip"]
    take: UInt8[np.ndarray, " clip"]
    speakers: tuple[str, ...]
    sampling_rate: int


def spoken_digits_folder() -> Path:
    """Finds the folder with `fsdd.npz`: `$RETROGRADE_DATA/fsdd`, `$RETROGRADE_DATA`, or the user's cache.

    Returns:
        The folder.

    Raises:
        DataError: If it does not exist or lacks the file.
    """
    return find_folder("fsdd", TITLE, (SPOKEN_FILE,), ADVICE)


def load_spoken_digits(folder: str | os.PathLike | None = None) -> SpokenClips:
    """Loads the Free Spoken Digit Dataset: 3,000 clips, 6 speakers, 10 digits, 50 takes of each, 8 kHz.

    The content of the file is checked by its sha256.

    Args:
        folder: Where `fsdd.npz` is, as `pack_spoken_digits` writes it. `None`: see `spoken_digits_folder`.

    Returns:
        The clips.

    Raises:
        DataError: If the folder or the file is missing, or the file is damaged or holds other recordings.

    Source:
        Jackson and contributors, Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset, as
        of 2024-05-02. Licence: CC BY-SA 4.0.
    """
    if folder is None:
        folder = spoken_digits_folder()
    folder = checked_folder(Path(folder), TITLE, (SPOKEN_FILE,), ADVICE)
    arrays = read_arrays(folder / SPOKEN_FILE, SPOKEN_ARRAYS, SPOKEN_DIGEST, ADVICE)
    return SpokenClips(
        samples=arrays["samples"],
        offsets=arrays["offsets"],
        digit=arrays["digit"],
        speaker=arrays["speaker"],
        take=arrays["index"],
        speakers=tuple(str(name) for name in arrays["speakers"]),
        sampling_rate=int(arrays["sampling_rate"]),
    )


def pack_spoken_digits(recordings: str | os.PathLike, folder: str | os.PathLike | None = None) -> Path:
    """Turns the 3,000 recordings of the Free Spoken Digit Dataset into the one file that is read here.

    Args:
        recordings: The folder `recordings` of its repository, with files as `7_jackson_32.wav`.
        folder: Where to keep `fsdd.npz`. `None`: the user's cache folder, where `load_spoken_digits` looks.

    Returns:
        The file (15 MB).

    Raises:
        DataError: If there are other recordings than those of 2024-05-02, or the folder cannot be written to.
    """
    recordings = Path(recordings)
    named = [(re.fullmatch(r"(\d)_([a-z]+)_(\d+)\.wav", path.name), path) for path in recordings.glob("*.wav")]
    clips = sorted((m[2], int(m[1]), int(m[3]), path) for m, path in named if m is not None)
    if not clips:
        raise DataError(f"{recordings} has no recordings: it needs files as 7_jackson_32.wav. {ADVICE}")
    speakers = sorted({speaker for speaker, *_ in clips})
    samples = [_read_wav(path) for *_, path in clips]
    arrays = {
        "samples": np.concatenate(samples),
        "offsets": np.cumsum([0, *map(len, samples)], dtype=np.int64),
        "digit": np.array([digit for _, digit, _, _ in clips], np.uint8),
        "speaker": np.array([speakers.index(speaker) for speaker, *_ in clips], np.uint8),
        "index": np.array([take for _, _, take, _ in clips], np.uint8),
        "speakers": np.array(speakers),
        "sampling_rate": np.array(8000, np.int32),
    }
    if (digest := digest_of(arrays)) != SPOKEN_DIGEST:
        raise DataError(
            f"{recordings} holds other recordings than expected: {len(clips):,} of {len(speakers)} speakers, sha256 "
            f"{digest}, expected 3,000 of 6 with {SPOKEN_DIGEST}. Take the commit 26eb9aaf, complete."
        )
    file = (cache_of("fsdd") if folder is None else Path(folder)) / SPOKEN_FILE
    write_arrays(file, arrays, TITLE)
    return file


def _read_wav(path: Path) -> np.ndarray:
    try:
        with wave.open(str(path)) as file:
            kind = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            if kind != (1, 2, 8000):
                raise DataError(f"{path} is not a recording of one channel, 16 bits, 8 kHz. {ADVICE}")
            return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
    except (OSError, EOFError, wave.Error) as error:
        raise DataError(f"{path} is not an intact .wav file ({error}). {ADVICE}") from error
