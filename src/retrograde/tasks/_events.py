"""Events of one's own, sorted into steps."""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retrograde.data import DataError
from retrograde.encoders import bin_events
from retrograde.tasks._abstract import check_integer
from retrograde.tasks._recording import LAYOUT


def check_binning(function: str, steps: int, dt: float) -> None:
    check_integer(f"Recorded.{function}", "steps", steps, 1)
    if not dt > 0:
        raise ValueError(f"`Recorded.{function}(dt=...)` must be positive, got {dt}. It is in milliseconds.")


def read_hdf5(path: Path, steps: int, dt: float, channels: int) -> dict[str, np.ndarray]:
    try:
        import h5py  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ImportError("Reading HDF5 files needs h5py: pip install 'retrograde[hdf5]'") from error
    try:
        with h5py.File(path, "r") as file:
            if "spikes" not in file:
                return {name: value[()] for name, value in file.items() if isinstance(value, h5py.Dataset)}
            times, units, labels = (file[name][()] for name in ("spikes/times", "spikes/units", "labels"))
    except (OSError, KeyError) as error:
        raise DataError(f"{path} cannot be read as an HDF5 file: {error}. {LAYOUT}") from error
    if not len(times) == len(units) == len(labels) or not len(labels):
        raise DataError(f"{path} has {len(times)} trials of times, {len(units)} of units and {len(labels)} labels.")

    def spikes(trial: int) -> np.ndarray:
        seconds, unit = np.asarray(times[trial], np.float64), np.asarray(units[trial], np.int64)
        return bin_events(1000 * seconds, unit, steps=steps, size=channels, dt=dt)

    try:
        inputs = _stacked(spikes, len(labels), steps, channels)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return {"inputs": inputs, "targets": np.asarray(labels).astype(np.int64)}


def _stacked(spikes: Callable[[int], np.ndarray], count: int, steps: int, size: int) -> np.ndarray:
    """Puts trials together, one byte an entry; an error says in which trial it is."""
    inputs = np.empty((count, steps, size), np.uint8)
    for trial in range(count):
        try:
            inputs[trial] = np.minimum(spikes(trial), 255)
        except ValueError as error:
            raise ValueError(f"trial {trial}: {error}") from error
    return inputs


class Camera:
    """How events become inputs."""

    def __init__(self, sensor: tuple[int, ...], pool: int, steps: int, dt: float, counts: bool):
        self.sensor = dict(zip("xyp", sensor, strict=True))
        self.columns, self.rows = (-(-n // pool) for n in sensor[:2])
        self.size = self.columns * self.rows * sensor[2]
        self.pool, self.steps, self.dt, self.counts = pool, steps, dt, counts

    def record(self, items: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
        try:
            count = len(items)
        except TypeError as error:
            raise ValueError(f"{where}: the data set must have a length and items (events, label).") from error
        if count == 0:
            raise ValueError(f"{where}: the data set is empty.")
        labels = np.zeros(count, np.int64)

        def spikes(number: int) -> np.ndarray:
            try:
                events, label = items[number]
                labels[number] = operator.index(label)
            except (TypeError, ValueError) as error:
                raise ValueError(f"an item must be (events, label) with a class number for a label: {error}") from error
            return self._binned(events)

        try:
            inputs = _stacked(spikes, count, self.steps, self.size)
        except ValueError as error:
            raise ValueError(f"{where}, {error}") from error
        if not inputs.any():
            raise ValueError(
                f"{where}: no event lies within the {self.steps * self.dt:g} ms of a trial. Times must be in "
                "microseconds and begin at 0."
            )
        return inputs, labels

    def _binned(self, events: Any) -> np.ndarray:
        names = getattr(getattr(events, "dtype", None), "names", None) or ()
        if missing := [name for name in "txp" if name not in names]:
            raise ValueError(
                f"events must be a structured array with fields t, x, p (and y), without {missing} got {names}"
            )
        place = {name: np.asarray(events[name]).astype(np.int64) for name in "xyp" if name in names}
        place.setdefault("y", np.zeros(len(place["x"]), np.int64))
        for name, values in place.items():
            if len(values) and not 0 <= values.min() <= values.max() < self.sensor[name]:
                raise ValueError(
                    f"events have {name} from {values.min()} to {values.max()}, but `sensor_size` allows 0 to "
                    f"{self.sensor[name] - 1}"
                )
        x, y = place["x"] // self.pool, place["y"] // self.pool
        channel = (place["p"] * self.rows + y) * self.columns + x
        time = np.asarray(events["t"], np.float64) / 1000
        return bin_events(
            time, channel, steps=self.steps, size=self.size, dt=self.dt, counts=self.counts, closed="left"
        )
