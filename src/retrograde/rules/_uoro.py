"""Unbiased online recurrent optimisation."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from ..network import Network
from ..stepping import Linearised, Now
from ..synapses import Moments
from ._influence import both, remembered, zero_currents, zero_memory
from ._online import AbstractOnlineRule, Gradient, all_credit, channels, direct

# Trees of the memory hold populations' states `"batch neuron"` and delay lines `"delay batch neuron"`: the batch is the
# last axis but one of each.


class RankOne(eqx.Module):
    """The influence as one outer product for each trial.

    Attributes:
        memory: The factor of the memory.
        weights: The factor of the weights' mean and variance (or `None`), `"batch post pre"` or `"batch post"`.
        neurons: The factor of the neurons' parameters, `"batch neuron"`.
    """

    memory: Any
    weights: dict[str, tuple[Array, Array | None]]
    neurons: dict[str, Any]


class UORO(AbstractOnlineRule):
    r"""Unbiased online recurrent optimisation: the influence as a random outer product.

    $M_t \approx A_t \otimes B_t$ with $\mathbb E[A_t \otimes B_t] = M_t$: with random signs $\nu$ of the memory's size,

    $$A_t = p_0\,J_t A_{t-1} + p_1\,\nu, \quad B_t = B_{t-1}/p_0 + \nu^\top \bar M_t/p_1, \quad
      p_0 = \sqrt{\frac{|B_{t-1}|}{|J_t A_{t-1}|}}, \quad p_1 = \sqrt{\frac{|\nu^\top\bar M_t|}{|\nu|}}.$$

    Unbiased for fixed weights; its variance grows with the number of neurons. Memory and time per step are those
    of the network's own weights, for each trial.

    Source:
        Tallec & Ollivier (2017), arXiv:1702.05043; notation of Marschall, Cho & Savin (2020), JMLR 21. Differs: starts
        from zero, and what a step's loss owes to the use of the weights in that step is exact, as are the weights of a
        memoryless readout.
    """

    def begin(self, network: Network, moments: dict[str, Moments], now: Now) -> RankOne:
        """No influence."""
        leaf = jax.tree.leaves(now.memory)[0]
        batch, dtype = leaf.shape[-2], leaf.dtype

        def zeros(matrix):
            return None if matrix is None else jnp.zeros((batch, *matrix.shape), dtype)

        names = remembered(network, now)
        weights = {name: (zeros(moments[name].mean), zeros(moments[name].variance)) for name in names}
        own = eqx.filter(network.populations, eqx.is_inexact_array)
        return RankOne(zero_memory(now), weights, jax.tree.map(zeros, own))

    def push(self, network, moments, at, memory, learnt, key):
        """The factors after a step."""
        carried = at.push(memory.memory, zero_currents(network, at))
        signs = random_signs(key, carried)
        _, currents, _ = at.pull(signs, jax.tree.map(jnp.zeros_like, at.activity))
        used = by_trial(network, moments, at, currents, list(memory.weights)), at.pull_parameters(signs)
        old = memory.weights, memory.neurons
        p0 = ratio(norm(old), norm(carried, -2))
        p1 = ratio(norm(used), norm(signs, -2))
        state = jax.tree.map(
            lambda a, s: a * spread(p0, a, -2) + s * spread(p1, s, -2),
            carried,
            signs,
        )
        weights, neurons = jax.tree.map(lambda b, u: b / spread(p0, b, 0) + u / spread(p1, u, 0), old, used)
        return RankOne(state, weights, neurons), learnt

    def contract(self, network, moments, at, memory, credit, learnt):
        """Credit of the memory, through one outer product for each trial."""
        back, currents, neurons = at.pull(zero_memory(at), all_credit(network, at, credit))
        now = direct(network, moments, at, currents, neurons)
        blame = inner(back, memory.memory)

        def summed(tree) -> Any:
            return jax.tree.map(lambda b: jnp.tensordot(blame, b, 1), tree)

        past = Gradient(
            {name: Moments(*summed(pair)) for name, pair in memory.weights.items()},
            summed(memory.neurons),
        )
        return both(now, past), memory, learnt


def random_signs(key: Key[Array, ""], like: Any) -> Any:
    """Independent signs ±1 in the shape of a tree."""
    leaves, structure = jax.tree.flatten(like)
    keys = jr.split(key, len(leaves))
    return jax.tree.unflatten(
        structure, [jr.rademacher(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )


def by_trial(
    network: Network,
    moments: dict[str, Moments],
    at: Linearised,
    currents: dict[str, Float[Array, "batch current"]],
    names: list[str],
) -> dict[str, tuple[Array, Array | None]]:
    """Gradient of these projections' weights from the credit of the currents in this step, trial by trial."""
    found = {}
    for name in names:
        rows, target, pre = channels(network, name), network.projections[name].target, at.pre[name]
        mean = currents[target][:, rows]
        is_matrix = moments[name].mean.ndim == 2
        variance = None
        if moments[name].variance is not None:
            slope = mean * at.slopes[target][:, rows]
            variance = slope[..., None] * pre[:, None] ** 2 if is_matrix else slope * pre**2
        found[name] = (mean[..., None] * pre[:, None] if is_matrix else mean * pre, variance)
    return found


def norm(tree: Any, batch: int = 0) -> Float[Array, " batch"]:
    """Euclidean norm of a tree, trial by trial; `batch` is the axis of the trials in each leaf."""
    squares = []
    for leaf in jax.tree.leaves(tree):
        axis = batch % leaf.ndim
        squares.append(jnp.sum(leaf**2, axis=tuple(i for i in range(leaf.ndim) if i != axis)))
    return jnp.sqrt(sum(squares[1:], squares[0]))


def inner(a: Any, b: Any) -> Float[Array, " batch"]:
    """Inner product of two trees of the memory, trial by trial."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    products = [jnp.sum(x * y, axis=tuple(i for i in range(x.ndim) if i != x.ndim - 2)) for x, y in pairs]
    return sum(products[1:], products[0])


def ratio(above: Float[Array, " batch"], below: Float[Array, " batch"]) -> Float[Array, " batch"]:
    """√(above/below), and 1 where either is 0: any positive number keeps the estimate unbiased."""
    good = (above > 0) & (below > 0)
    return jnp.where(good, jnp.sqrt(jnp.where(good, above, 1) / jnp.where(good, below, 1)), 1)


def spread(factor: Float[Array, " batch"], like: Array, batch: int) -> Array:
    """A factor for each trial in the shape of an array."""
    axis = batch % like.ndim
    return factor.reshape([-1 if i == axis else 1 for i in range(like.ndim)])
