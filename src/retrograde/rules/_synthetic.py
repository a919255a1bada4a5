"""Synthetic gradients: a linear guess of the credit that the future sends to what a network remembers."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..network import Network
from ..stepping import Linearised, from_state


def no_guess(network: Network) -> Float[Array, "memory feature"]:
    """The map that guesses 0."""
    now = jax.eval_shape(lambda: from_state(network, network.initial_state(1)))
    memory = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(now.memory))
    features = memory + network.populations[network.readout].size + 1
    dtype = jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))[0].dtype
    return jnp.zeros((memory, features), dtype)


def features(network: Network, at: Linearised, credit: dict[str, Array]) -> Float[Array, "batch feature"]:
    """What the guess is made from: the memory after a step, the credit of the step's outputs, and 1."""
    flat = by_trial(at.after.memory)
    return jnp.concatenate([flat, credit[network.readout], jnp.ones_like(flat[:, :1])], axis=1)


def by_trial(memory: Any) -> Float[Array, "batch memory"]:
    """What a network remembers, or its credit, in one row for each trial."""
    rows = [jnp.moveaxis(leaf, -2, 0).reshape(leaf.shape[-2], -1) for leaf in jax.tree.leaves(memory)]
    return jnp.concatenate(rows, axis=1)


def as_memory(rows: Float[Array, "batch memory"], like: Any) -> Any:
    """The inverse of `by_trial`."""
    leaves, structure = jax.tree.flatten(like)
    ends = [math.prod(leaf.shape) // leaf.shape[-2] for leaf in leaves]
    parts = jnp.split(rows, [sum(ends[: i + 1]) for i in range(len(ends) - 1)], axis=1)
    shaped = [
        jnp.moveaxis(part.reshape(leaf.shape[-2], *leaf.shape[:-2], leaf.shape[-1]), 0, -2)
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, shaped)
