"""Kronecker-factored RTRL, and its reverse."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..network import Network
from ..stepping import Linearised, Now
from ..synapses import Moments
from ._influence import begin as no_influence
from ._influence import (
    both,
    current_effects,
    neurons_through,
    push_neurons,
    remembered,
    zero_currents,
    zero_memory,
)
from ._online import AbstractOnlineRule, Gradient, all_credit, channels, direct, learning
from ._uoro import norm, random_signs, ratio, spread


class Factors(eqx.Module):
    """Kronecker factors of the influence, for each kind: mean weights, variances.

    Attributes:
        near: Factors without the memory: of what projections read (KF-RTRL), or of the currents (reverse).
        far: Influences of the other index on the memory.
        neurons: Exact influences of the neurons' parameters.
    """

    near: list[dict[str, Float[Array, "batch _index"]]]
    far: list[dict[str, Any]]
    neurons: dict[str, list[Any]]


def _kinds(moments: dict[str, Moments], names: list[str]) -> list[list[str]]:
    """Projections by kind of parameter: all have means, some have variances."""
    fluctuating = [name for name in names if moments[name].variance is not None]
    return [names, fluctuating] if fluctuating else [names]


def _matrices(network: Network, moments: dict[str, Moments], now: Now) -> list[str]:
    return [name for name in remembered(network, now) if moments[name].mean.ndim == 2]


def _targets(network: Network, names: list[str]) -> dict[str, int]:
    """The populations that projections reach, and how many currents each has."""
    populations = {network.projections[name].target for name in names}
    return {n: p.size * len(p.ports) for n, p in network.populations.items() if n in populations}


def _zeros(now: Now, count: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), now.memory)


def _refuse_one_to_one(rule: str, network: Network) -> None:
    for name in learning(network):
        if jax.eval_shape(network.moments)[name].mean.ndim == 1:
            raise ValueError(
                f"`{rule}` factorises matrices, and the weights of {name!r} are one-to-one. Use `Dense`, or `UORO()`."
            )


class KFRTRL(AbstractOnlineRule):
    r"""Kronecker-factored RTRL: one random factor over what is read, one over the currents.

    $M^{kij}_t \approx A^j_t B^{ki}_t$ with the right mean: with random signs $\nu_0, \nu_1$,

    $$A_t = \nu_0 p_0 A_{t-1} + \nu_1 p_1 \hat a_t, \quad B_t = \nu_0 J_t B_{t-1}/p_0 + \nu_1 G_t/p_1, \quad
      p_0 = \sqrt{\frac{|J_t B_{t-1}|}{|A_{t-1}|}}, \quad p_1 = \sqrt{\frac{|G_t|}{|\hat a_t|}},$$

    where $\hat a_t$ is all that the projections read and $G_t$ the effect of the currents on the memory. Unbiased for
    fixed weights, with less variance than `UORO`. Memory: trials × states × currents; time: that × states.
    Parameters of neurons (time constants) get their exact influence.

    Raises:
        ValueError: If a projection with weights that learn is one-to-one.

    Source:
        Mujika, Meier & Steger (2018), NeurIPS; notation of Marschall, Cho & Savin (2020), JMLR 21. Differs as `UORO`
        does; with fluctuating weights, means and variances have a pair of factors each.
    """

    def check(self, network: Network, batch: int, itemsize: int) -> None:
        """Refuses one-to-one weights."""
        _refuse_one_to_one("KFRTRL", network)

    def begin(self, network: Network, moments: dict[str, Moments], now: Now) -> Factors:
        """No influence."""
        leaf = jax.tree.leaves(now.memory)[0]
        near, far = [], []
        for names in _kinds(moments, _matrices(network, moments, now)):
            near.append({n: jnp.zeros((leaf.shape[-2], moments[n].mean.shape[1]), leaf.dtype) for n in names})
            far.append({n: _zeros(now, size) for n, size in _targets(network, names).items()})
        return Factors(near, far, no_influence(network, moments, now).neurons)

    def push(self, network, moments, at, memory, learnt, key):
        """The factors after a step."""
        effects, none = current_effects(network, at), zero_currents(network, at)
        near, far = [], []
        for kind, names in enumerate(_kinds(moments, _matrices(network, moments, at.before))):
            used = {name: at.pre[name] ** (kind + 1) for name in names}
            effect = {target: effects[target] for target in memory.far[kind]}
            effect = _by_variance(at, effect) if kind else effect
            carried = {n: jax.vmap(lambda b: at.push(b, none))(b) for n, b in memory.far[kind].items()}
            batch = next(iter(used.values())).shape[0]
            nu = jr.rademacher(jr.fold_in(key, kind), (2, batch), next(iter(used.values())).dtype)
            p0 = ratio(norm(carried, -2), norm(memory.near[kind]))
            p1 = ratio(norm(effect, -2), norm(used))
            near.append(
                jax.tree.map(
                    lambda a, u, nu=nu, p0=p0, p1=p1: a * spread(nu[0] * p0, a, 0) + u * spread(nu[1] * p1, u, 0),
                    memory.near[kind],
                    used,
                )
            )
            far.append(
                jax.tree.map(
                    lambda b, g, nu=nu, p0=p0, p1=p1: b * spread(nu[0] / p0, b, -2) + g * spread(nu[1] / p1, g, -2),
                    carried,
                    effect,
                )
            )
        return Factors(near, far, push_neurons(network, at, memory.neurons)), learnt

    def contract(self, network, moments, at, memory, credit, learnt):
        """Credit of the memory, through one factor to the currents, times the other."""
        back, currents, neurons = at.pull(zero_memory(at), all_credit(network, at, credit))
        now = direct(network, moments, at, currents, neurons)
        kinds = []
        for near, far in zip(memory.near, memory.far, strict=True):
            blame = {name: _by_index(back, b) for name, b in far.items()}  # index batch
            targets = {name: network.projections[name].target for name in near}
            kinds.append({name: blame[targets[name]][channels(network, name)] @ a for name, a in near.items()})
        past = Gradient(_both(moments, kinds), neurons_through(network, back, memory.neurons))
        return both(now, past), memory, learnt


class RKFRTRL(AbstractOnlineRule):
    r"""Reverse Kronecker-factored RTRL: one random factor over the currents, one over what is read.

    $M^{kij}_t \approx A^i_t B^{kj}_t$ with the right mean: with random signs $\nu$, one for each current,

    $$A_t = p_0 A_{t-1} + p_1 \nu, \quad B_t = J_t B_{t-1}/p_0 + (G_t\nu)\otimes\hat a_t/p_1,$$

    and $p_0, p_1$ as for `UORO`. Memory: trials × states × what is read; time: that × states. Parameters of neurons get
    their exact influence.

    Raises:
        ValueError: If a projection with weights that learn is one-to-one.

    Source:
        "R-KF-RTRL" of Marschall, Cho & Savin (2020), JMLR 21. Differs as `UORO` does.
    """

    def check(self, network: Network, batch: int, itemsize: int) -> None:
        """Refuses one-to-one weights."""
        _refuse_one_to_one("RKFRTRL", network)

    def begin(self, network: Network, moments: dict[str, Moments], now: Now) -> Factors:
        """No influence."""
        leaf = jax.tree.leaves(now.memory)[0]
        near, far = [], []
        for names in _kinds(moments, _matrices(network, moments, now)):
            sizes = _targets(network, names)
            near.append({n: jnp.zeros((leaf.shape[-2], size), leaf.dtype) for n, size in sizes.items()})
            far.append({n: _zeros(now, moments[n].mean.shape[1]) for n in names})
        return Factors(near, far, no_influence(network, moments, now).neurons)

    def push(self, network, moments, at, memory, learnt, key):
        """The factors after a step."""
        none = zero_currents(network, at)
        near, far = [], []
        for kind, names in enumerate(_kinds(moments, _matrices(network, moments, at.before))):
            signs = random_signs(jr.fold_in(key, kind), memory.near[kind])
            changes = {}
            for target in signs:
                scale = at.slopes[target] if kind else jnp.ones_like(none[target])
                # Population by population: the signs of another one would add variance and no mean.
                changes[target] = at.push(zero_memory(at), {**none, target: signs[target] * scale})
            used = {
                name: jax.tree.map(
                    lambda g, pre=at.pre[name] ** (kind + 1): _outer(g, pre), changes[network.projections[name].target]
                )
                for name in names
            }
            carried = {n: jax.vmap(lambda b: at.push(b, none))(b) for n, b in memory.far[kind].items()}
            p0 = ratio(norm(carried, -2), norm(memory.near[kind]))
            p1 = ratio(norm(used, -2), norm(signs))
            near.append(
                jax.tree.map(
                    lambda a, s, p0=p0, p1=p1: a * spread(p0, a, 0) + s * spread(p1, s, 0), memory.near[kind], signs
                )
            )
            far.append(
                jax.tree.map(lambda b, u, p0=p0, p1=p1: b / spread(p0, b, -2) + u / spread(p1, u, -2), carried, used)
            )
        return Factors(near, far, push_neurons(network, at, memory.neurons)), learnt

    def contract(self, network, moments, at, memory, credit, learnt):
        """Credit of the memory, through one factor to what is read, times the other."""
        back, currents, neurons = at.pull(zero_memory(at), all_credit(network, at, credit))
        now = direct(network, moments, at, currents, neurons)
        kinds = []
        for near, far in zip(memory.near, memory.far, strict=True):
            kinds.append(
                {
                    name: near[network.projections[name].target][:, channels(network, name)].T @ _by_index(back, b).T
                    for name, b in far.items()
                }
            )
        past = Gradient(_both(moments, kinds), neurons_through(network, back, memory.neurons))
        return both(now, past), memory, learnt


def _outer(change: Array, pre: Float[Array, "batch pre"]) -> Array:
    """Changes of the memory times what was read, with a first axis for the latter."""
    shaped = pre.T.reshape(pre.shape[1], *([1] * (change.ndim - 2)), pre.shape[0], 1)
    return change[None] * shaped


def _by_variance(at: Linearised, effects: dict[str, Any]) -> dict[str, Any]:
    """Effects of the variances of the currents."""

    def scaled(name, effect):
        slopes = at.slopes[name]
        return effect * slopes.T.reshape(slopes.shape[1], *([1] * (effect.ndim - 3)), slopes.shape[0], 1)

    return {name: jax.tree.map(lambda e, name=name: scaled(name, e), effect) for name, effect in effects.items()}


def _by_index(credit: Any, far: Any) -> Float[Array, "index batch"]:
    """Credit of the memory, through a factor, to its first axis, trial by trial."""
    pairs = zip(jax.tree.leaves(credit), jax.tree.leaves(far), strict=True)
    parts = [jnp.sum(b * c[None], axis=(*range(1, b.ndim - 2), b.ndim - 1)) for c, b in pairs]
    return sum(parts[1:], parts[0])


def _both(moments: dict[str, Moments], kinds: list[dict[str, Array]]) -> dict[str, Moments]:
    by_variance = kinds[1] if len(kinds) > 1 else {}
    return {name: Moments(mean, by_variance.get(name)) for name, mean in kinds[0].items()}
