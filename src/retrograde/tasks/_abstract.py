"""What every task is, and what it gives."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

SPLITS = ("train", "validation", "test")


class Trials(eqx.Module):
    """A batch of trials: what goes in, what should come out, and where it counts.

    `targets` and `mask` cover the **last** `steps` of the `time` steps of `inputs`.

    Attributes:
        inputs: What the network receives, shape `time batch input`.
        targets: What it should answer: class numbers, shape `steps batch`; or numbers (probabilities of the classes,
            or values for a regression), shape `steps batch output`.
        mask: How much each entry counts, shape `steps batch`: 1 or `True` where there is a target, 0 or `False` where
            there is none. So trials of one batch may differ in length.
    """

    inputs: Float[Array, "time batch input"]
    targets: Int[Array, "steps batch"] | Float[Array, "steps batch output"]
    mask: Float[Array, "steps batch"] | Bool[Array, "steps batch"]


class AbstractTask(eqx.Module):
    """A source of numbered trials.

    A task is a pure function from the number of a trial to the trial. Where it holds data, they are array fields (so
    they are an argument of a compiled function, not a constant in it); all else is static.

    `retrograde.testing.check_task` verifies the contract.

    Attributes:
        inputs: Number of input channels.
        outputs: Number of outputs: classes, or dimensions of a regression.
        steps: Number of time steps of a trial.
        target_steps: Number of time steps, the last ones, that `targets` and `mask` cover.
        loss: Name of the loss, a key of `retrograde.losses.LOSSES`.
        splits: Names of the parts that have trials; `"train"` is one of them.
    """

    inputs: eqx.AbstractVar[int]
    outputs: eqx.AbstractVar[int]
    steps: eqx.AbstractVar[int]
    target_steps: eqx.AbstractVar[int]
    loss: eqx.AbstractVar[str]
    splits: eqx.AbstractVar[tuple[str, ...]]

    @abc.abstractmethod
    def size(self, split: str = "train") -> int | None:
        """Counts the trials.

        Args:
            split: One of `splits`.

        Returns:
            The number of trials of a finite data set; `None` if there is no end of them.

        Raises:
            ValueError: If there is no such split.
        """

    @abc.abstractmethod
    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        """Gives the trials of these numbers. Pure; can be compiled and mapped.

        Args:
            index: Numbers of the trials, from 0 to `size(split) - 1`, shape `batch`.
            split: One of `splits`.

        Returns:
            The trials, in the order of `index`.

        Raises:
            ValueError: If there is no such split, or (where it can be seen: not while compiling) no such trial.
        """

    def sample(self, key: Key[Array, ""], batch: int, split: str = "train") -> Trials:
        """Gives trials drawn at random, each independently of the others.

        Args:
            key: Key of the draw.
            batch: Number of trials.
            split: One of `splits`.

        Returns:
            The trials.

        Raises:
            ValueError: If there is no such split.
        """
        size = self.size(split)
        # int32 whatever the default is: the same trials with and without x64.
        last = jnp.iinfo(jnp.int32).max if size is None else size
        return self.take(jr.randint(key, (batch,), 0, last, dtype=jnp.int32), split)


def check_trials_exist(task: AbstractTask, index: Int[Array, " batch"], split: str) -> None:
    """Refuses trial numbers out of range, which indexing would clamp without a word. Skipped while compiling."""
    size = task.size(split)
    if isinstance(index, jax.core.Tracer) or index.size == 0:
        return
    numbers = np.asarray(index)
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or (size is not None and high >= size):
        valid = "0 or more" if size is None else f"0 to {size - 1}"
        raise ValueError(
            f"`{type(task).__name__}.take` was asked for trial {low if low < 0 else high} of {split!r}, but they are "
            f"numbered {valid}."
        )


def check_split(task: AbstractTask, split: str, hint: str = "") -> None:
    """Refuses a split that the task does not have."""
    if split not in task.splits:
        names = ", ".join(repr(name) for name in task.splits)
        raise ValueError(f"`{type(task).__name__}` has no split {split!r}; it has {names}.{hint}")


def check_integer(owner: str, name: str, value: Any, least: int) -> None:
    """Refuses anything but an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{owner}({name}=...)` must be an integer of at least {least}, got {value!r}.")


def check_durations(task: Any, least: dict[str, int]) -> None:
    """Refuses lengths [ms] that are no whole number of steps, or fewer steps than `least` says."""
    owner = type(task).__name__
    for name, fewest in least.items():
        steps = getattr(task, name) / task.dt
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"`{owner}({name}={getattr(task, name):g})` must be a whole number of steps of dt={task.dt:g} ms, got "
                f"{steps:g} steps."
            )
        if round(steps) < fewest:
            raise ValueError(
                f"`{owner}({name}=...)` must be at least {fewest * task.dt:g} ms, got {getattr(task, name)}."
            )


def check_rates(task: Any, names: tuple[str, ...]) -> None:
    """Refuses rates [Hz] that are negative or exceed one spike in a step."""
    for name in names:
        if not 0 <= getattr(task, name) * task.dt <= 1000:
            raise ValueError(
                f"`{type(task).__name__}({name}=...)` must lie between 0 and {1000 / task.dt:g} Hz, one spike in a "
                f"step of {task.dt:g} ms, got {getattr(task, name)}."
            )
