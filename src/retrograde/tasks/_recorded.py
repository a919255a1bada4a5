"""Data of one's own, from arrays, files, or a data set of Tonic."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from numpy.typing import ArrayLike

from retrograde.data import DataError
from retrograde.tasks._abstract import SPLITS, AbstractTask, Trials, check_integer, check_split, check_trials_exist
from retrograde.tasks._events import Camera, check_binning, read_hdf5
from retrograde.tasks._recording import LAYOUT, NAMES, Recording, make_recording, outputs_and_loss

SUFFIXES = {".npz": "from_npz", ".h5": "from_hdf5", ".hdf5": "from_hdf5"}


class Recorded(AbstractTask):
    """Trials that somebody recorded: your own data.

    Give arrays, trial first, to `from_arrays`; files to `from_npz` or `from_hdf5`; event data to `from_tonic`. A recipe
    names a file: `task = { name = "recorded", path = "mine.npz" }`.

    | targets | dtype | shape | what is wanted |
    | --- | --- | --- | --- |
    | one class for each trial | integer | `trial` | the class, at the last step |
    | a class for each step | integer | `trial steps` | the class, in each of the last `steps` steps |
    | values | floating point | `trial steps output` | the values, in each of the last `steps` steps |

    The inputs are taken as they are, not scaled. Those of dtype `bool` or `uint8` are kept in one byte each.

    Attributes:
        parts: The trials of each split.
        outputs: Number of classes, or of values in a step.
        loss: `"cross_entropy"` for classes; for values `"mean_squared_error"`, unless one asks for
            `"half_squared_error"` (or gives probabilities and asks for `"cross_entropy"`).

    Args:
        path: A file, `.npz`, `.h5` or `.hdf5`, see `from_npz` and `from_hdf5`.
        loss: Another loss than the usual one, see `loss`.
        classes: Number of classes. `None`: one more than the largest in the training part.
        parts: The trials themselves, in place of a file.

    Raises:
        ValueError: If shapes, types or values are not as they must be; the message says which.
        retrograde.data.DataError: If a file is missing or damaged, or what it holds is not as it must be.

    Example:
        >>> inputs, classes = np.zeros((6, 20, 3), np.uint8), np.array([0, 1, 2, 0, 1, 2])
        >>> task = Recorded.from_arrays(inputs[:4], classes[:4], test=(inputs[4:], classes[4:]))
        >>> task.size("test"), task.outputs, task.take(jnp.array([1, 3])).inputs.shape
        (2, 3, (20, 2, 3))
    """

    parts: dict[str, Recording]
    outputs: int = eqx.field(static=True)
    loss: str = eqx.field(static=True)

    def __init__(
        self,
        path: str | None = None,
        loss: str | None = None,
        classes: int | None = None,
        *,
        parts: Mapping[str, Recording] | None = None,
    ):
        if (path is None) == (parts is None):
            raise ValueError(
                "`Recorded` needs a file, `Recorded(path=...)`, or data: `Recorded.from_arrays(inputs, targets)`."
            )
        if path is not None:
            if Path(path).suffix.lower() not in SUFFIXES:
                raise ValueError(f"`Recorded(path=...)` must end in {', '.join(SUFFIXES)}, got {path!r}.")
            read = getattr(Recorded, SUFFIXES[Path(path).suffix.lower()])
            other = read(path, loss=loss, classes=classes)
            self.parts, self.outputs, self.loss = other.parts, other.outputs, other.loss
            return
        assert parts is not None
        self.parts = {split: parts[split] for split in SPLITS if split in parts}
        self.outputs, self.loss = outputs_and_loss(self.parts, loss, classes)

    @classmethod
    def from_arrays(
        cls,
        inputs: ArrayLike,
        targets: ArrayLike,
        mask: ArrayLike | None = None,
        *,
        test: tuple | None = None,
        validation: tuple | None = None,
        loss: str | None = None,
        classes: int | None = None,
    ) -> "Recorded":
        """Makes a task of arrays.

        Args:
            inputs: Inputs to train on, shape `trial time input`.
            targets: Targets, see the table of the class.
            mask: How much each target counts, 0 or more, shape `trial steps`, so that trials may differ in length.
                `None`: all alike.
            test: The same for the test part: `(inputs, targets)` or `(inputs, targets, mask)`.
            validation: The same for the validation part.
            loss: See the class.
            classes: See the class.

        Returns:
            The task.

        Raises:
            ValueError: If a shape, a type or a value is not as it must be.
        """
        given = {"train": (inputs, targets, mask), "validation": validation, "test": test}
        parts = {}
        for split, arrays in given.items():
            if arrays is None:
                continue
            if not isinstance(arrays, tuple) or not 2 <= len(arrays) <= 3:
                raise ValueError(f"`Recorded.from_arrays({split}=...)` must be (inputs, targets) or (…, mask).")
            parts[split] = make_recording(split, *arrays)
        return cls(parts=parts, loss=loss, classes=classes)

    @classmethod
    def from_npz(cls, path: str | os.PathLike, *, loss: str | None = None, classes: int | None = None) -> "Recorded":
        """Makes a task of a file that `numpy.savez` or `numpy.savez_compressed` wrote.

        Args:
            path: The file, with arrays `inputs` and `targets`, as for `from_arrays`, and, if one likes, `mask`; for a
                test part `test_inputs`, `test_targets`, `test_mask`; for a validation part `validation_inputs`, ….
            loss: See the class.
            classes: See the class.

        Returns:
            The task.

        Raises:
            retrograde.data.DataError: If the file is missing or damaged, or an array is not as it must be.
        """
        path = _existing(path)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        # A file that is no archive is, to NumPy, a pickle that it must not open, or an array without names.
        except (AttributeError, EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path} cannot be read as an .npz file of plain arrays: {error}. {LAYOUT}") from error
        return cls._from_named(path, arrays, loss, classes)

    @classmethod
    def from_hdf5(
        cls,
        path: str | os.PathLike,
        test: str | os.PathLike | None = None,
        *,
        steps: int = 250,
        dt: float = 4.0,
        channels: int = 700,
        loss: str | None = None,
        classes: int | None = None,
    ) -> "Recorded":
        """Makes a task of an HDF5 file (needs h5py: `pip install 'retrograde[hdf5]'`).

        Two layouts are understood: data sets named as for `from_npz`; and that of the Heidelberg spiking data sets
        (SHD, SSC), `spikes/times` in seconds, `spikes/units` and `labels`, whose training and test part are two files.
        Their spikes are sorted into steps as by `encoders.bin_events`, binary, and channel `i` is unit `i`.

        Args:
            path: The file, or that of the training part.
            test: For the second layout, the file of the test part.
            steps: For the second layout, length of a trial [step]; later spikes are dropped.
            dt: For the second layout, length of a step [ms].
            channels: For the second layout, number of units.
            loss: See the class.
            classes: See the class.

        Returns:
            The task.

        Raises:
            ImportError: If h5py is not installed.
            ValueError: If an argument is out of range.
            retrograde.data.DataError: If a file is missing or damaged, or what it holds is not as it must be.
        """
        check_binning("from_hdf5", steps, dt)
        check_integer("Recorded.from_hdf5", "channels", channels, 1)
        path = _existing(path)
        arrays = read_hdf5(path, steps, dt, channels)
        if test is not None:
            other = _existing(test)
            held_out = read_hdf5(other, steps, dt, channels)
            if unknown := sorted({"inputs", "targets"} - set(held_out)):
                raise DataError(f"{other} lacks {', '.join(unknown)}. {LAYOUT}")
            arrays |= {f"test_{name}": held_out[name] for name in NAMES if name in held_out}
        return cls._from_named(path, arrays, loss, classes)

    @classmethod
    def from_tonic(
        cls,
        dataset: Any,
        test: Any = None,
        *,
        steps: int,
        dt: float,
        sensor_size: tuple[int, int, int] | None = None,
        pool: int = 1,
        counts: bool = False,
        classes: int | None = None,
    ) -> "Recorded":
        """Makes a task of event data in the form of Tonic's data sets; Tonic itself is not needed.

        Input channels are polarities, in each of them the pixels row after row. A step holds the events from its
        beginning to before its end. The label is to be named at the last step.

        Args:
            dataset: Anything with a length whose items are pairs `(events, label)`: `events` a structured array with
                fields `t` [µs], `x`, `p` and, for a camera, `y`; `label` a class number.
            test: The same for the test part.
            steps: Length of a trial [step]; later events are dropped.
            dt: Length of a step [ms].
            sensor_size: Numbers of columns, rows and polarities. `None`: `dataset.sensor_size`.
            pool: Side of the squares of pixels that are taken together [pixel].
            counts: If true, an input is the number of events, at most 255; if false, whether there is one.
            classes: See the class.

        Returns:
            The task.

        Raises:
            ValueError: If items are not as they must be, or there is no event in the time of a trial.
        """
        check_binning("from_tonic", steps, dt)
        check_integer("Recorded.from_tonic", "pool", pool, 1)
        size = getattr(dataset, "sensor_size", None) if sensor_size is None else sensor_size
        if size is None or len(size) != 3 or not all(isinstance(n, int | np.integer) and n > 0 for n in size):
            raise ValueError(
                f"`Recorded.from_tonic(sensor_size=...)` must be the numbers of columns, rows and polarities, got "
                f"{size!r}. Name them where the data set does not."
            )
        camera = Camera(tuple(int(n) for n in size), pool, steps, dt, counts)
        parts = {}
        for split, items in {"train": dataset, "test": test}.items():
            if items is not None:
                inputs, labels = camera.record(items, f"`Recorded.from_tonic`, {split!r}")
                parts[split] = make_recording(split, inputs, labels, None)
        return cls(parts=parts, classes=classes)

    @classmethod
    def _from_named(
        cls, path: Path, arrays: Mapping[str, np.ndarray], loss: str | None, classes: int | None
    ) -> "Recorded":
        parts = {}
        for split in SPLITS:
            prefix = "" if split == "train" else f"{split}_"
            found = [f"{prefix}{name}" for name in NAMES if f"{prefix}{name}" in arrays]
            if not found and split != "train":
                continue
            if missing := [f"{prefix}{name}" for name in NAMES[:2] if f"{prefix}{name}" not in arrays]:
                there = ", ".join(arrays) or "nothing"
                raise DataError(f"{path} lacks {' and '.join(missing)}; it holds {there}. {LAYOUT}")
            part = (arrays[f"{prefix}inputs"], arrays[f"{prefix}targets"], arrays.get(f"{prefix}mask"))
            try:
                parts[split] = make_recording(split, *part)
            except ValueError as error:
                raise DataError(f"{path}: {error}") from error
        try:
            return cls(parts=parts, loss=loss, classes=classes)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error

    @property
    def inputs(self) -> int:
        return self.parts["train"].inputs.shape[2]

    @property
    def steps(self) -> int:
        return self.parts["train"].inputs.shape[1]

    @property
    def target_steps(self) -> int:
        return self.parts["train"].targets.shape[1]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def size(self, split: str = "train") -> int:
        hint = " Give some with `Recorded.from_arrays(..., test=(inputs, targets))`." if split in SPLITS else ""
        check_split(self, split, hint)
        return self.parts[split].inputs.shape[0]

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        check_trials_exist(self, index, split)
        dtype, part = jnp.result_type(float), self.parts[split]
        targets = jnp.moveaxis(part.targets[index], 0, 1)
        return Trials(
            inputs=part.inputs[index].transpose(1, 0, 2).astype(dtype),
            targets=targets.astype(dtype) if targets.ndim == 3 else targets,
            mask=part.mask[index].T.astype(dtype),
        )


def _existing(path: str | os.PathLike) -> Path:
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}. Correct the path.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty. {LAYOUT}")
    return path
