"""A rule's gradient of a batch, as NumPy arrays."""

from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from retrograde.network import Network
from retrograde.rules import AbstractRule
from retrograde.tasks import Trials

Loss = Callable[[Float[Array, "steps batch output"], Trials], Float[Array, ""]]
Gradient = dict[str, Float[np.ndarray, "..."]]


def rule_gradient(
    network: Network, trials: Trials, rule: AbstractRule, *, loss: Loss, rule_state: PyTree, key: Key[Array, ""]
) -> Gradient:
    """Gives a rule's gradient of the loss of a batch.

    Args:
        network: The network.
        trials: The batch.
        rule: The rule.
        loss: `(outputs, trials) -> scalar`.
        rule_state: What the rule remembers.
        key: Seeds the network's noise, the same for every rule, and what the rule itself draws.

    Returns:
        The gradient by the label of each trained array (`"hidden->hidden.weight"`), 0 where the rule gives none.
    """
    return by_label(network, _gradient(network, trials, rule, loss, rule_state, key))


@eqx.filter_jit
def _gradient(network, trials, rule, loss, rule_state, key):
    noise_key, rule_key = jr.split(key)

    def objective(network, rule, _):
        outputs = network(trials.inputs, rule=rule, key=noise_key, readout_steps=trials.targets.shape[0]).outputs
        return loss(outputs, trials), None

    _, gradient, _ = rule.value_and_grad(objective, network, rule_state=rule_state, key=rule_key)
    return trained(network, gradient)


def trained(network: Network, gradient: PyTree) -> PyTree:
    """Keeps of a gradient what belongs to trained weights and neurons, with zeros where it has nothing."""
    network, gradient = without_feedback(network), without_feedback(gradient)
    trainable = network.trainable()
    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(network, trainable))
    return eqx.filter(eqx.combine(gradient, zeros), trainable)


def without_feedback(network: Network) -> Network:
    """Gives the network whose projections return credit by the transpose of their weights: the exact gradient's."""
    for name, projection in network.projections.items():
        if projection.feedback is not None:
            network = eqx.tree_at(lambda n, name=name: n.projections[name].feedback, network, None)
    return network


def by_label(network: Network, gradient: PyTree) -> Gradient:
    """Names the arrays of a gradient that `trained` has made; in float64, whatever they were."""
    network = without_feedback(network)
    labels = jax.tree.map(lambda keep, label: label if keep else None, network.trainable(), network.labels())
    leaves = jax.device_get(jax.tree.leaves(gradient))
    return {label: np.asarray(g, np.float64) for label, g in zip(jax.tree.leaves(labels), leaves, strict=True)}


def by_owner(gradient: Mapping[str, Float[np.ndarray, "..."]]) -> dict[str, Float[np.ndarray, " number"]]:
    """Joins what belongs to one projection or population: `"hidden->hidden.m"` and `"hidden->hidden.pi"`."""
    parts: dict[str, list[np.ndarray]] = {}
    for label, array in gradient.items():
        parts.setdefault(label.rpartition(".")[0], []).append(array.ravel())
    return {owner: np.concatenate(arrays) for owner, arrays in parts.items()}
