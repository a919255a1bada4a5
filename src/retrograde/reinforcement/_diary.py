"""What came of learning from reward, row by row, and the folder in which it is kept."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Key, PyTree

from retrograde.network import Network
from retrograde.training import Checkpoints, DivergedError

KEEP_SECONDS = 60.0  # least time between two checkpoints
KEPT = 2  # checkpoints: if the last is damaged, there is one before it

T = TypeVar("T")


class Row(NamedTuple):
    """A part of the learning.

    Attributes:
        step: Steps made by each actor when it ended.
        episodes: Episodes that ended in it.
        reward: Their mean reward; NaN where none ended.
        seconds: Since learning began, interruptions left out [s].
    """

    step: int
    episodes: int
    reward: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Learning:
    """What came of it.

    Attributes:
        network: The network, trained.
        step: Steps made by each actor at the end of each row.
        episodes: Episodes that ended in each row.
        reward: Mean reward of an episode in each row; NaN where none ended.
        seconds: Since learning began, at the end of each row [s].
    """

    network: Network
    step: np.ndarray
    episodes: np.ndarray
    reward: np.ndarray
    seconds: np.ndarray


class Diary:
    """The rows of a learning; and the folder, if there is one, that it goes on from.

    Attributes:
        rows: One after another.
    """

    def __init__(
        self,
        folder: str | Path | None,
        steps: int,
        settings: Mapping[str, int | Key[Array, ""] | None],
        on_row: Callable[[Row], bool | None] | None,
    ):
        self.rows: list[Row] = []
        self._steps, self._on_row = steps, on_row
        self._settings = {name: _array(value) for name, value in settings.items()}
        self._checkpoints = None if folder is None else Checkpoints(Path(folder), keep=KEPT)
        self._is_told_to_stop = False
        self._started = self._kept = time.perf_counter()

    @property
    def made(self) -> int:
        """Steps made."""
        return self.rows[-1].step if self.rows else 0

    @property
    def is_over(self) -> bool:
        """Whether all steps are made, or `on_row` has told to stop."""
        return self._is_told_to_stop or self.made >= self._steps

    def go_on(self, state: T) -> T:
        """What the folder holds, or `state` if it holds nothing.

        Raises:
            ValueError: If it belongs to a learning with other settings.
            CheckpointError: If it belongs to another network, rule or optimiser, or nothing in it can be read.
        """
        if self._checkpoints is None or not self._checkpoints.steps():
            return state
        step, begun = self._checkpoints.load({"settings": self._settings, "count": np.asarray(0)}, _warn)
        for name, here in self._settings.items():
            there = begun["settings"][name]
            if not np.array_equal(here, there):
                raise ValueError(
                    f"{self._checkpoints.folder} holds a learning with another `{name}` ({there}, not {here}): "
                    "give the same, or another folder"
                )
        template = {"rows": np.zeros((int(begun["count"]), len(Row._fields))), "state": eqx.filter(state, eqx.is_array)}
        _, kept = self._checkpoints.load(template, _warn, step)
        self._checkpoints.tidy(step)
        self.rows = [
            Row(int(made), int(ended), reward, seconds) for made, ended, reward, seconds in kept["rows"].tolist()
        ]
        self._started -= self.rows[-1].seconds
        return eqx.combine(kept["state"], state)

    def write(self, step: int, episodes: int, reward: float, params: PyTree, state: PyTree) -> None:
        """Adds a row, and keeps the state if it is time.

        Raises:
            DivergedError: If a weight is NaN or infinite.
            RunError: If the folder cannot be written.
        """
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params)):
            message = f"learning diverged before step {step}: a weight became NaN or infinite; learn slower"
            raise DivergedError(message, step=step, groups=())
        now = time.perf_counter()
        self.rows.append(Row(step, episodes, reward, now - self._started))
        self._is_told_to_stop = self._on_row is not None and bool(self._on_row(self.rows[-1]))
        if self._checkpoints is not None and (self.is_over or now - self._kept >= KEEP_SECONDS):
            self._checkpoints.save(
                step,
                {
                    "settings": self._settings,
                    "count": np.asarray(len(self.rows)),
                    "rows": np.array(self.rows, float),
                    "state": eqx.filter(state, eqx.is_array),
                },
            )
            self._kept = now

    def close(self, network: Network) -> Learning:
        """All rows, and the network that came of them."""
        return Learning(network, *(np.array(column) for column in zip(*self.rows, strict=True)))


def _array(value: int | Key[Array, ""] | None) -> np.ndarray:
    if value is None or isinstance(value, int):
        return np.asarray(value or 0)
    return np.asarray(jr.key_data(value))


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
