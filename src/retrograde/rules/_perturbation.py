"""What the perturbation rules share: their draws, and what they may change."""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from ..network import Network
from ..unroll import Trajectory, unroll
from ._abstract import AbstractRule

Distribution = Literal["gaussian", "sign"]
Objective = Callable[[Network, AbstractRule, Key[Array, ""]], tuple[Array, Any]]


class AbstractPerturbation(AbstractRule):
    """A rule that tries out changes and watches the loss: no transposition, so it overrides `value_and_grad`."""

    def unroll(self, network: Network, *args: Any, **options: Any) -> Trajectory:
        """Runs the network forward; differentiating through the call raises `TypeError`."""
        return _forward_only(type(self).__name__, unroll(network, *args, **options))

    @abc.abstractmethod
    def value_and_grad(
        self, objective: Objective, network: Network, *, rule_state: PyTree = None, key: Key[Array, ""]
    ) -> tuple[tuple[Array, Any], Network, PyTree]:
        """Evaluates an objective without perturbation, and estimates its gradient; see `AbstractRule`."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _forward_only(rule: str, trajectory: Trajectory) -> Trajectory:
    return trajectory


def _no_way_back(rule: str, residuals: None, cotangent: Any):
    raise TypeError(
        f"`{rule}` cannot be differentiated through: it has no backward pass. Call "
        f"`{rule}(...).value_and_grad(objective, network, key=key)`, as `retrograde.fit` does."
    )


_forward_only.defvjp(lambda rule, trajectory: (trajectory, None), _no_way_back)


def perturbation_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """The key of a rule's own draws.

    Every evaluation of the objective gets `key` itself: perturbed and unperturbed runs see the same noise (common
    random numbers), and the loss is the one that any other rule would return. `jr.split(key)[i]` equals
    `jr.fold_in(key, i)` and the network splits its key, so what is folded in here is a number nobody counts up to.
    """
    return jr.fold_in(key, 0x70657274)


def draw(key: Key[Array, ""], like: PyTree, distribution: Distribution = "gaussian") -> PyTree:
    """Draws independent numbers of mean 0 and variance 1, one for every entry of a pytree of arrays."""
    leaves, tree = jax.tree.flatten(like)
    sample = jr.normal if distribution == "gaussian" else jr.rademacher
    ends = np.cumsum([leaf.size for leaf in leaves])
    flat = sample(key, (int(ends[-1]),), leaves[0].dtype)  # all in one: a draw for each leaf takes long to compile
    parts = jnp.split(flat, ends[:-1])
    draws = [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(tree, draws)


def average(estimate: Callable[[Key[Array, ""]], PyTree], key: Key[Array, ""], count: int) -> PyTree:
    """The mean of `count` independent estimates, made at once."""
    if count == 1:
        return estimate(key)
    return jax.tree.map(lambda estimates: estimates.mean(axis=0), jax.vmap(estimate)(jr.split(key, count)))


def add(tree: PyTree, direction: PyTree, size: float | Float[Array, ""] = 1.0) -> PyTree:
    """Adds `size` times a direction."""
    return jax.tree.map(lambda leaf, step: leaf + size * step, tree, direction)


def scale(factor: float | Float[Array, ""], tree: PyTree) -> PyTree:
    """Multiplies every array by a number."""
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def only(mask: PyTree, tree: PyTree) -> PyTree:
    """Sets what `mask` does not hold to 0."""
    return jax.tree.map(lambda held, leaf: jnp.where(held, leaf, jnp.zeros_like(leaf)), mask, tree)


def free(params: Network, rest: Network) -> PyTree:
    """Which parameters do anything at all: not those of entries that a synapse's mask holds fixed."""
    moments, pull = jax.vjp(lambda params: eqx.combine(params, rest).moments(), params)
    return reached(params, *pull(draw(jr.key(0), moments)))


def reached(params: Network, answer: Network) -> PyTree:
    """Which parameters random credit has reached; a neuron's own always count.

    Sums of random numbers do not cancel: an answer of exactly 0 comes from a parameter that transmits nothing.
    """
    mask = jax.tree.map(lambda answer: answer != 0, answer)
    neurons = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params.populations)
    return eqx.tree_at(lambda network: network.populations, mask, neurons)


def check_number(rule: AbstractRule, field: str) -> None:
    """Refuses a number of draws that is not a positive whole number."""
    count = getattr(rule, field)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(
            f"`{type(rule).__name__}({field}=...)` is a number of draws to average, 1 or more, got {count!r}."
        )


def check_sigma(rule: AbstractRule, sigma: float) -> None:
    """Refuses a perturbation without size."""
    if not 0 < sigma < float("inf"):
        raise ValueError(
            f"`{type(rule).__name__}(sigma=...)` is the size of a perturbation and must be positive, got {sigma}. "
            "For the limit of vanishing size use `ForwardGradient()`."
        )


def check_choice(rule: AbstractRule, field: str, choices: tuple[str, ...]) -> None:
    """Refuses a word that is none of `choices`."""
    value = getattr(rule, field)
    if value not in choices:
        raise ValueError(
            f"`{type(rule).__name__}({field}={value!r})` is unknown; use one of {', '.join(map(repr, choices))}."
        )
