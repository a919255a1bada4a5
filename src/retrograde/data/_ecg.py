"""Electrocardiograms as spikes, from files that are already on this machine."""

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from retrograde.data._found import checked_folder, find_folder, read_checked

ECG_DIGESTS = {
    "QTDB_train.mat": "72d1a10c96f1540880447e07256835d66da419c0b34f3dff495731a7928c5bc7",
    "QTDB_test.mat": "916f11e21679a5b61988305bbb7cd1e6df8b34f1ed4a157a7a4e295d400ef232",
}
ECG_WAVES = ("P", "PQ", "QR", "RS", "ST", "TP")
TITLE = "The ECG data set"
ADVICE = "Run `retrograde data fetch ecg` (0.7 MB), or name a folder with QTDB_train.mat and QTDB_test.mat."


@dataclasses.dataclass(frozen=True)
class Heartbeats:
    """Spikes of two ECG leads and the wave of the heart beat at every step, in two parts by patient.

    Attributes:
        train_spikes: 0 or 1, shape `trial time channel`: lead 0 rising, lead 0 falling, lead 1 rising, lead 1 falling.
        train_waves: Number of the wave, an index of `ECG_WAVES`; 255 where there is no label. Shape `trial time`.
        test_spikes: As `train_spikes`, of the test part.
        test_waves: As `train_waves`, of the test part.
    """

    train_spikes: UInt8[np.ndarray, "train time 4"]
    train_waves: UInt8[np.ndarray, "train time"]
    test_spikes: UInt8[np.ndarray, "test time 4"]
    test_waves: UInt8[np.ndarray, "test time"]


def ecg_folder() -> Path:
    """Finds the folder with the two files: `$RETROGRADE_DATA/ecg`, `$RETROGRADE_DATA`, or the one `fetch_ecg` fills.

    Returns:
        The folder.

    Raises:
        DataError: If it does not exist or lacks a file.
    """
    return find_folder("ecg", TITLE, tuple(ECG_DIGESTS), ADVICE)


def load_ecg(folder: str | os.PathLike | None = None) -> Heartbeats:
    """Loads the QT database as Yin et al. encoded it: 618 sequences to train on and 141 to test on, 1,301 steps each.

    Both files are checked by their sha256. The -1 with which the source marks the end of each sequence, in the last
    step of channel 0, is read as 0.

    Args:
        folder: Where the two files are. `None`: see `ecg_folder`.

    Returns:
        Spikes and waves; 250 steps are one second.

    Raises:
        DataError: If the folder or a file is missing, or a file is not the expected one.

    Source:
        Yin, Corradi and Bohte (2021), Nat. Mach. Intell. 3:905-913, and their repository's `data/` (MIT licence), from
        the QT database of PhysioNet (ODC-By 1.0): Laguna et al. (1997), Computers in Cardiology 24:673-676; Goldberger
        et al. (2000), Circulation 101(23):e215-e220.
    """
    if folder is None:
        folder = ecg_folder()
    folder = checked_folder(Path(folder), TITLE, tuple(ECG_DIGESTS), ADVICE)
    train, test = (_read(folder / name) for name in ECG_DIGESTS)
    return Heartbeats(*train, *test)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import scipy.io  # slow to import, and rarely needed

    content = read_checked(path, ECG_DIGESTS[path.name], ADVICE)
    file = scipy.io.loadmat(io.BytesIO(content), variable_names=("x", "y"))
    x, y = file["x"], file["y"]
    spikes = np.clip(x, 0, 1).astype(np.uint8)
    waves = np.where(y.any(axis=-1), y.argmax(axis=-1), 255).astype(np.uint8)
    return spikes, waves
