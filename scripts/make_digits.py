"""Makes the small set of digits that the package ships, from the four official MNIST files.

    python scripts/make_digits.py [FOLDER]

FOLDER holds the four IDX files (.gz or decompressed); without it, the folder that RETROGRADE_DATA names.

The rule: of the n images of a class in a part of MNIST, in the official order, numbers `floor(i · n / k)` for
i = 0 … k-1; k = 400 in the training part and 100 in the test part. So the choice is spread evenly over the part (the
first half of the official test part is known to be easier than the second). The images chosen keep their official
order.
"""

import argparse
import dataclasses
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

from retrograde.data import Digits, load_mnist

OUTPUT = Path(__file__).parents[1] / "src" / "retrograde" / "data" / "digits.npz"
TRAIN_PER_CLASS, TEST_PER_CLASS = 400, 100


def choose(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Returns the numbers of the images chosen, ascending."""
    members = [np.flatnonzero(labels == digit) for digit in range(10)]
    return np.sort(np.concatenate([member[np.arange(per_class) * len(member) // per_class] for member in members]))


def make_digits(mnist: Digits) -> Digits:
    """Returns the balanced subset of MNIST that the package ships."""
    train = choose(mnist.train_labels, TRAIN_PER_CLASS)
    test = choose(mnist.test_labels, TEST_PER_CLASS)
    return Digits(
        mnist.train_images[train], mnist.train_labels[train], mnist.test_images[test], mnist.test_labels[test]
    )


def write(digits: Digits, path: Path) -> None:
    """Writes an .npz file whose bytes depend on nothing but the arrays (no time stamps)."""
    with zipfile.ZipFile(path, "w") as archive:
        for field in dataclasses.fields(digits):
            content = BytesIO()
            np.lib.format.write_array(content, getattr(digits, field.name), version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{field.name}.npy")
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(entry, content.getvalue(), compresslevel=9)


def main() -> None:
    """Reads the command line, writes the file and says what was written."""
    parser = argparse.ArgumentParser(description="Make the small set of digits that the package ships.")
    parser.add_argument("folder", nargs="?", help="folder with the four MNIST files (default: RETROGRADE_DATA)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the file to write")
    arguments = parser.parse_args()
    digits = make_digits(load_mnist(arguments.folder))
    write(digits, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes, sha256 of the arrays {digits.digest()}")


if __name__ == "__main__":
    main()
