"""What training leaves: a network, its history, and where the files are."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Key

from retrograde.network import Network
from retrograde.tasks import AbstractTask
from retrograde.training._evaluate import Evaluation, evaluate
from retrograde.training._history import History


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is; handed to `on_progress` a few times per second.

    Attributes:
        step: Updates made.
        steps: Updates to make.
        loss: Training loss, mean over the updates since the last report and over seeds.
        accuracy: Training accuracy likewise [fraction]; NaN for a regression.
        validation_loss: Latest one, mean over seeds; NaN before the first.
        validation_accuracy: Latest one, mean over seeds [fraction]; NaN before the first.
        steps_per_second: Speed now [1/s].
        seconds: Since `fit` was called [s].
        seconds_left: Estimate [s].
    """

    step: int
    steps: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    steps_per_second: float
    seconds: float
    seconds_left: float


@dataclasses.dataclass(frozen=True)
class Stage:
    """How far a job of several parts is; handed to `on_progress`.

    Attributes:
        number: Which part, from 1; of `total`.
        total: How many there are.
        label: What it is called.
        progress: How far its training is; `None` while something else is done.
    """

    number: int
    total: int
    label: str
    progress: Progress | None


@dataclasses.dataclass(frozen=True)
class Result:
    """A trained network and how it got there.

    Attributes:
        network: The network; with several seeds every array has a first axis `seed`, see `seed`.
        history: What was measured on the way.
        step: Updates made in all.
        seeds: Number of networks.
        seconds: Time spent in this call of `fit` [s].
        stopped_early: Whether the `EarlyStop` ended it.
        folder: The run folder, if there is one.
        task: What it was trained on.
        loss: The loss function.
        key: Key of the run.
    """

    network: Network
    history: History
    step: int
    seeds: int
    seconds: float
    stopped_early: bool
    folder: Path | None
    task: AbstractTask
    loss: Callable
    key: Key[Array, ""]

    def seed(self, number: int) -> Network:
        """The network of one seed.

        Args:
            number: 0 to `seeds - 1`.

        Raises:
            IndexError: If there is no such seed.
        """
        if not 0 <= number < self.seeds:
            raise IndexError(f"no seed {number}: this result has the seeds 0 to {self.seeds - 1}")
        if self.seeds == 1:
            return self.network
        return jax.tree.map(lambda x: x[number] if eqx.is_array(x) else x, self.network)

    def evaluate(
        self,
        key: Key[Array, ""] | None = None,
        *,
        split: str = "test",
        weights: str = "mean-field",
        samples: int = 1,
        batch: int = 500,
        trials: int = 1000,
    ) -> Evaluation:
        """Runs the network, or those of all seeds, over a split; see `evaluate`.

        Args:
            key: Draws noise and weights; by default one that follows from the key of the run.
            split: As in `evaluate`.
            weights: As in `evaluate`.
            samples: As in `evaluate`.
            batch: As in `evaluate`.
            trials: As in `evaluate`.
        """
        return evaluate(
            self.network,
            self.task,
            jr.fold_in(self.key, 2**31 - 1) if key is None else key,
            split=split,
            weights=weights,
            samples=samples,
            batch=batch,
            trials=trials,
            loss=self.loss,
            seeds=None if self.seeds == 1 else self.seeds,
        )

    def plot(self, axes=None):
        """Draws loss and, for a classification, accuracy against updates; mean ± s.d. over seeds.

        Args:
            axes: One Matplotlib axes for the loss and one for the accuracy; a new figure if not given.

        Returns:
            The axes drawn on.
        """
        panels = ["loss"] + ["accuracy"] * (self.task.loss == "cross_entropy")
        if axes is None:
            import matplotlib.pyplot as plt  # not needed to train

            _, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3), layout="constrained", squeeze=False)
            axes = axes[0]
        for ax, panel in zip(axes, panels, strict=True):
            for metric, name, colour in ((panel, "training", "#0072B2"), (f"validation_{panel}", "test", "#D55E00")):
                step, values = self.history.measured(metric)
                if len(step):
                    mean, sd = values.mean(axis=0), np.std(values, axis=0)
                    ax.plot(step, mean, color=colour, label=name)
                    ax.fill_between(step, mean - sd, mean + sd, color=colour, alpha=0.2, linewidth=0)
            ax.set(xlabel="update", ylabel=panel)
        axes[0].legend(frameon=False)
        return axes
