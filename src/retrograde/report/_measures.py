import dataclasses
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from retrograde.analysis import ConnectionShares, confusion_matrix, connection_shares
from retrograde.report._files import save_arrays, write_file
from retrograde.training import RunError, evaluate

# What a person reads → the `weights` of `Network.__call__`. In this order everywhere.
SAMPLERS = {"mean-field": "mean_field", "annealed": "annealed", "quenched": "quenched"}
FILE = "measures.npz"


@dataclasses.dataclass(frozen=True)
class Measures:
    """A trained network in numbers.

    Attributes:
        accuracies: Share of right answers on the test split [fraction], shape `seed sample`, by sampler; NaN for a
            regression.
        losses: Mean loss on the test split, shape `seed sample`, by sampler.
        confusion: Number of answers of all seeds and samples of the mean field, shape `label answer`; `None` for a
            regression.
        parameters: Trained arrays, first axis `seed`, by label (`"hidden->hidden.pi"`).
    """

    accuracies: Mapping[str, Float[np.ndarray, "seed sample"]]
    losses: Mapping[str, Float[np.ndarray, "seed sample"]]
    confusion: Int[np.ndarray, "label answer"] | None
    parameters: Mapping[str, np.ndarray]

    @property
    def is_classification(self) -> bool:
        """Whether there are right and wrong answers."""
        return self.confusion is not None

    def by_projection(self, parameter: str) -> dict[str, np.ndarray]:
        """Gives the arrays called `parameter` by the projection (or population) that they belong to."""
        labels = {label.rpartition("."): value for label, value in self.parameters.items()}
        return {owner: value for (owner, _, name), value in labels.items() if name == parameter}

    def shares(self) -> dict[str, ConnectionShares]:
        """Counts certain, absent and uncertain connections of each spike-and-slab projection, and of `"all"`."""
        pi, xi = self.by_projection("pi"), self.by_projection("xi")
        if not pi:
            return {}
        everything = [np.concatenate([value.ravel() for value in values.values()]) for values in (pi, xi)]
        return {name: connection_shares(pi[name], xi[name]) for name in pi} | {"all": connection_shares(*everything)}

    def summary(self) -> dict[str, Any]:
        """Gives what `retrograde train --json` says about the trained network."""
        summary: dict[str, Any] = {
            "accuracy": {name: _mean_and_sd(self.accuracies[key]) for key, name in SAMPLERS.items()},
            "loss": {name: _mean_and_sd(self.losses[key]) for key, name in SAMPLERS.items()},
        }
        if shares := self.shares():
            summary["connections"] = {name: share._asdict() for name, share in shares.items()}
        return summary

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes the numbers into a run folder, whole or not at all."""
        arrays: dict[str, np.ndarray] = {f"accuracy {name}": value for name, value in self.accuracies.items()}
        arrays |= {f"loss {name}": value for name, value in self.losses.items()}
        arrays |= {f"parameter {name}": value for name, value in self.parameters.items()}
        if self.confusion is not None:
            arrays["confusion"] = self.confusion
        return write_file(Path(folder) / FILE, lambda new: save_arrays(new, arrays))

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Measures | None":
        """Reads them back; `None` if the run has not been measured yet.

        Raises:
            RunError: If the file is damaged.
        """
        path = Path(folder) / FILE
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{path} is damaged ({error}); `retrograde evaluate {folder}` writes it anew") from error
        return cls(
            _under("accuracy ", arrays), _under("loss ", arrays), arrays.get("confusion"), _under("parameter ", arrays)
        )


def measure(network: Any, task: Any, *, seeds: int, samples: int, key: Key[Array, ""]) -> Measures:
    """Measures trained networks on the test split.

    Args:
        network: A network; several are stacked along a first axis `seed`.
        task: The task.
        seeds: Number of networks.
        samples: How often each sampler draws: noise (mean-field), weights in each time step (annealed), or one
            network for all trials (quenched).
        key: Seeds the draws.

    Returns:
        Accuracies, confusion matrix and parameters. Where nothing is random, one sample says all.
    """
    axis = None if seeds == 1 else seeds
    is_random = any(moments.variance is not None for moments in network.moments().values())
    samplers = SAMPLERS if is_random else ("mean-field",)
    evaluations = {
        name: evaluate(network, task, sampler_key, weights=name, samples=samples if is_random else 1, seeds=axis)
        for name, sampler_key in zip(samplers, jr.split(key, len(samplers)), strict=True)
    }
    evaluations = {name: evaluations.get(name, evaluations["mean-field"]) for name in SAMPLERS}
    mean_field = evaluations["mean-field"]
    confusion = None
    if mean_field.predictions is not None:
        targets, counts = mean_field.targets, np.asarray(mean_field.mask) > 0
        labels = targets.argmax(axis=-1) if targets.ndim == 3 else targets
        answers = mean_field.predictions
        labels, counts = (np.broadcast_to(array, answers.shape) for array in (labels, counts))
        confusion = confusion_matrix(labels[counts], answers[counts], task.outputs)
    return Measures(
        {name: evaluation.accuracies for name, evaluation in evaluations.items()},
        {name: evaluation.losses for name, evaluation in evaluations.items()},
        confusion,
        {name: value if axis else value[None] for name, value in _parameters(network).items()},
    )


def _parameters(network: Any) -> dict[str, np.ndarray]:
    values, names = eqx.filter(network, network.trainable()), network.labels()
    named = jax.tree.map(lambda value, name: None if value is None else (name, value), values, names, is_leaf=_is_none)
    pairs = jax.tree.leaves(named, is_leaf=lambda node: isinstance(node, tuple) and isinstance(node[0], str))
    return {name: np.asarray(value) for name, value in pairs}


def _is_none(node: Any) -> bool:
    return node is None


def _mean_and_sd(values: Float[np.ndarray, "seed sample"]) -> dict[str, float | None]:
    if np.isnan(values).any():
        return {"mean": None, "sd": None}
    return {"mean": float(values.mean()), "sd": float(values.std())}


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
