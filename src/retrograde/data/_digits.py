"""What a set of digits is, and the small set that comes with the package."""

import dataclasses
import functools
import hashlib
import importlib.resources
import zipfile
import zlib

import numpy as np
from jaxtyping import UInt8

from retrograde.data._errors import DataError

# Written by `scripts/make_digits.py`; beside the file, `digits.LICENSE.txt` says where it comes from.
SHIPPED = "digits.npz"
SHIPPED_DIGEST = "2dc76dbd3c7e889ec7b38cb31b9528c6efc63014ee900f6e90c6390493b518f5"


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images of handwritten digits and their labels, in two parts.

    Attributes:
        train_images: Grey levels, 0 (background) to 255 [1], shape `trial row column`, top row first.
        train_labels: The digit, 0 to 9, shape `trial`.
        test_images: As `train_images`, of the test part.
        test_labels: As `train_labels`, of the test part.
    """

    train_images: UInt8[np.ndarray, "train row column"]
    train_labels: UInt8[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test row column"]
    test_labels: UInt8[np.ndarray, " test"]

    def digest(self) -> str:
        """Returns the sha256 of the four arrays' bytes, in the order of the fields."""
        sha256 = hashlib.sha256()
        for field in dataclasses.fields(self):
            sha256.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return sha256.hexdigest()


@functools.cache
def load_digits() -> Digits:
    """Loads the 5,000 real MNIST digits that come with the package.

    Balanced: 400 of each class from the official training part, 100 of each from the official test part. Nothing
    is downloaded.

    Returns:
        The digits: 4,000 of 28 × 28 pixels to train on, 1,000 to test on. They are read once per process; the
        arrays cannot be written to.

    Raises:
        DataError: If the file is missing from the installation or damaged.

    Example:
        >>> from retrograde.data import load_digits
        >>> load_digits().train_images.shape
        (4000, 28, 28)

    Source:
        LeCun, Cortes and Burges, the MNIST database; a subset, made by `scripts/make_digits.py`. Licence: CC BY-SA
        3.0, see `digits.LICENSE.txt` beside the file.
    """
    file = importlib.resources.files("retrograde.data") / SHIPPED
    repair = "The installation is incomplete: install retrograde again."
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            digits = Digits(**{field.name: arrays[field.name] for field in dataclasses.fields(Digits)})
    except FileNotFoundError:
        raise DataError(f"The shipped digits are missing: there is no file {file}. {repair}") from None
    except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"The shipped digits cannot be read: {file}: {error}. {repair}") from error
    if digits.digest() != SHIPPED_DIGEST:
        raise DataError(
            f"The shipped digits are not the expected ones: the sha256 of the arrays in {file} is "
            f"{digits.digest()}, expected {SHIPPED_DIGEST}. {repair}"
        )
    for field in dataclasses.fields(digits):
        getattr(digits, field.name).setflags(write=False)
    return digits
