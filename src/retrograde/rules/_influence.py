"""Influence: the derivative of all that a network remembers with respect to every virtual weight, carried forward."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..network import Network
from ..stepping import Linearised, Now, from_state
from ..synapses import Masked, Moments, Tied
from ._online import AbstractOnlineRule, Gradient, all_credit, channels, direct, learning

# Influences are trees like the memory, with further axes in front: `post pre` or `post` for weights, `neuron` for a
# population's parameter.


class Influence(eqx.Module):
    """∂ memory / ∂ parameters, trial by trial.

    Attributes:
        weights: By projection: with respect to mean and variance (or `None`) of its weights.
        neurons: By population: one tree for each of its trainable arrays, in the order of `jax.tree.leaves`.
    """

    weights: dict[str, tuple[Any, ...]]
    neurons: dict[str, list[Any]]


def many(push: Callable, axes: int) -> Callable:
    """`push` for changes with further axes in front."""
    for _ in range(axes):
        push = jax.vmap(push)
    return push


def zero_memory(at: Linearised | Now) -> Any:
    """No change of the memory."""
    now = at.before if isinstance(at, Linearised) else at
    return jax.tree.map(jnp.zeros_like, now.memory)


def zero_currents(network: Network, at: Linearised) -> dict[str, Array]:
    """No change of the currents."""
    return {name: jnp.zeros_like(at.currents[name]) for name in network.populations}


def current_effects(network: Network, at: Linearised) -> dict[str, Any]:
    """∂ memory / ∂ current of every population, with a first axis for the currents."""
    still, none = zero_memory(at), zero_currents(network, at)

    def effects(name):
        def one(unit):
            change = jnp.broadcast_to(unit[None], none[name].shape)
            return at.push(still, {**none, name: change})

        return jax.vmap(one)(jnp.eye(none[name].shape[1], dtype=none[name].dtype))

    return {name: effects(name) for name in network.populations}


def remembered(network: Network, now: Now) -> list[str]:
    """Projections whose weights learn and have an influence on the memory, by name: not those of a plain readout."""
    reaching, before = set(now.neurons), set()
    while reaching != before:
        before = set(reaching)
        reaching |= {p.source for p in network.projections.values() if p.delay == 0 and p.target in reaching}
    return [name for name in learning(network) if network.projections[name].target in reaching]


def begin(network: Network, moments: dict[str, Moments], now: Now) -> Influence:
    """No influence: nothing that happened before depends on the parameters."""

    def zeros(shape):
        return jax.tree.map(lambda leaf: jnp.zeros((*shape, *leaf.shape), leaf.dtype), now.memory)

    weights = {}
    for name in remembered(network, now):
        shape = moments[name].mean.shape
        weights[name] = (zeros(shape), None if moments[name].variance is None else zeros(shape))
    own = eqx.filter(network.populations, eqx.is_inexact_array)
    return Influence(weights, {n: [zeros(leaf.shape) for leaf in jax.tree.leaves(p)] for n, p in own.items()})


def outer(effect: Array, pre: Array) -> Array:
    """Effects `"row ... batch neuron"` of currents and what a projection read, `"batch pre"`, as one influence."""
    between = effect.ndim - 3  # a delay line has an axis of its own before the batch
    shaped = pre.T.reshape(1, pre.shape[1], *([1] * between), pre.shape[0], 1)
    return effect[:, None] * shaped


def one_to_one(effect: Array, pre: Array) -> Array:
    """The same for one weight in each row."""
    between = effect.ndim - 3
    return effect * pre.T.reshape(pre.shape[1], *([1] * between), pre.shape[0], 1)


def immediate(network: Network, moments: dict[str, Moments], at: Linearised, effects: dict[str, Any], name: str):
    """What a projection's weights do to the memory through their use in this very step: by mean, by variance."""
    rows, target, pre = channels(network, name), network.projections[name].target, at.pre[name]
    join = one_to_one if moments[name].mean.ndim == 1 else outer
    mean = jax.tree.map(lambda effect: join(effect[rows], pre), effects[target])
    if moments[name].variance is None:
        return mean, None
    slopes = at.slopes[target][:, rows]

    def scaled(effect):
        between = effect.ndim - 3
        return effect[rows] * slopes.T.reshape(rows.size, *([1] * between), slopes.shape[0], 1)

    return mean, jax.tree.map(lambda effect: join(scaled(effect), pre**2), effects[target])


def push_neurons(network: Network, at: Linearised, influence: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The influence of the neurons' parameters after a step."""
    own = eqx.filter(network.populations, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(own)
    if not leaves:
        return influence
    none = zero_currents(network, at)
    pushed, position = {}, 0
    for name, population in own.items():
        pushed[name] = []
        for number, leaf in enumerate(jax.tree.leaves(population)):
            here = position + number

            def one(unit, before, here=here):
                changed = [jnp.zeros_like(x) for x in leaves]
                changed[here] = unit
                used = at.push_parameters(jax.tree.unflatten(structure, changed))
                return jax.tree.map(jnp.add, used, at.push(before, none))

            units = jnp.eye(leaf.size, dtype=leaf.dtype).reshape(leaf.size, *leaf.shape)
            before = jax.tree.map(
                lambda x, leaf=leaf: x.reshape(leaf.size, *x.shape[leaf.ndim :]), influence[name][number]
            )
            after = jax.vmap(one)(units, before)
            pushed[name].append(jax.tree.map(lambda x, leaf=leaf: x.reshape(*leaf.shape, *x.shape[1:]), after))
        position += len(jax.tree.leaves(population))
    return pushed


def push(network: Network, moments: dict[str, Moments], at: Linearised, influence: Influence) -> Influence:
    """The influence after a step: carried on, and what the step adds."""
    effects, none = current_effects(network, at), zero_currents(network, at)

    def carried(change, axes):
        return many(lambda change: at.push(change, none), axes)(change)

    weights = {}
    for name, (mean, variance) in influence.weights.items():
        axes = moments[name].mean.ndim
        new = immediate(network, moments, at, effects, name)
        weights[name] = tuple(
            None if old is None else jax.tree.map(jnp.add, carried(old, axes), added)
            for old, added in zip((mean, variance), new, strict=True)
        )
    return Influence(weights, push_neurons(network, at, influence.neurons))


def through(credit: Any, influence: Any) -> Array:
    """Credit of the memory, through an influence, to the parameters; summed over the trials."""
    parts = [
        jnp.tensordot(i, c, axes=c.ndim)
        for c, i in zip(jax.tree.leaves(credit), jax.tree.leaves(influence), strict=True)
    ]
    return sum(parts[1:], parts[0])


def neurons_through(network: Network, credit: Any, influence: dict[str, list[Any]]) -> dict[str, Any]:
    """The same for the neurons' parameters, in their structure."""
    own = eqx.filter(network.populations, eqx.is_inexact_array)
    return {
        name: jax.tree.unflatten(jax.tree.structure(p), [through(credit, i) for i in influence[name]])
        for name, p in own.items()
    }


def contract(
    network: Network, moments: dict[str, Moments], at: Linearised, influence: Influence, credit: dict[str, Array]
) -> Gradient:
    """The gradient of a step's loss: through its own use of the parameters, and through the memory before it."""
    back, currents, neurons = at.pull(jax.tree.map(jnp.zeros_like, at.after.memory), all_credit(network, at, credit))
    now = direct(network, moments, at, currents, neurons)
    past = Gradient(
        {
            name: Moments(through(back, mean), None if variance is None else through(back, variance))
            for name, (mean, variance) in influence.weights.items()
        },
        neurons_through(network, back, influence.neurons),
    )
    return both(now, past)


def both(now: Gradient, past: Gradient) -> Gradient:
    """Adds what the past gives, to those weights that have one."""
    weights = {
        name: jax.tree.map(jnp.add, gradient, past.weights[name]) if name in past.weights else gradient
        for name, gradient in now.weights.items()
    }
    return Gradient(weights, jax.tree.map(jnp.add, now.neurons, past.neurons))


def reachable(network: Network, hops: int) -> dict[tuple[str, str], Float[Array, "to origin"]]:
    """Which neurons a neuron can reach by at most so many recurrent connections between different neurons.

    Connections that lie in no loop, and those without delay, count as no hop. Entries that a `Masked` synapse fixes at
    0 are no connection.
    """
    names = list(network.populations)
    sizes = [network.populations[name].size for name in names]
    begins = dict(zip(names, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    free, hop = jnp.eye(sum(sizes)), jnp.zeros((sum(sizes), sum(sizes)))
    inside = {wire.name for stage in network.stages for wire in stage.inner}
    for name, projection in network.projections.items():
        if projection.source not in network.populations:
            continue
        rows = begins[projection.target] + channels(network, name) % network.populations[projection.target].size
        start, stop = projection.source_slice or (0, network.populations[projection.source].size)
        columns = begins[projection.source] + np.arange(start, stop)
        pattern = _pattern(network, name).astype(free.dtype)
        if name in inside and projection.delay:
            hop = hop.at[rows[:, None], columns[None]].max(pattern)
        else:
            free = free.at[rows[:, None], columns[None]].max(pattern)

    def joined(a, b):
        return (a @ b > 0).astype(a.dtype)

    for _ in range(len(names)):  # chains of undelayed projections are no longer than there are populations
        free = joined(free, free)
    reach = free
    for _ in range(min(hops, sum(sizes))):
        reach = jnp.maximum(reach, joined(free, joined(hop, reach)))
    at = {name: slice(begins[name], begins[name] + network.populations[name].size) for name in names}
    return {(to, origin): reach[at[to], at[origin]] for to in names for origin in names}


def _pattern(network: Network, name: str) -> Bool[Array, "post pre"]:
    synapse = network.projections[name].synapse
    owner = network.projections[synapse.to].synapse if isinstance(synapse, Tied) else synapse
    rows, columns = owner.shape
    is_vector = jax.eval_shape(owner.moments).mean.ndim == 1
    pattern = jnp.eye(rows, dtype=bool) if is_vector else jnp.ones((rows, columns), bool)
    if isinstance(owner, Masked) and isinstance(owner.fill, float) and owner.fill == 0:
        mask = jnp.asarray(owner.mask)
        pattern = pattern & (jnp.diag(mask) if is_vector else mask)
    return pattern.T if isinstance(synapse, Tied) and synapse.transposed else pattern


def masked(network: Network, influence: Influence, reach: dict[tuple[str, str], Array]) -> Influence:
    """An influence without the entries that are not kept."""

    def keep(tree, owners, origin):
        neurons, older = tree

        def cut(name, leaf):
            kept = reach[name, origin][:, owners].T  # row neuron
            return leaf * kept.reshape(kept.shape[0], *([1] * (leaf.ndim - 2)), kept.shape[1]).astype(leaf.dtype)

        return (
            {n: jax.tree.map(lambda leaf, n=n: cut(n, leaf), state) for n, state in neurons.items()},
            {n: cut(n, leaf) for n, leaf in older.items()},
        )

    weights = {}
    for name, pair in influence.weights.items():
        target = network.projections[name].target
        owners = channels(network, name) % network.populations[target].size
        weights[name] = tuple(None if tree is None else keep(tree, owners, target) for tree in pair)
    neurons = {
        name: [keep(tree, np.arange(network.populations[name].size), name) for tree in trees]
        for name, trees in influence.neurons.items()
    }
    return dataclasses.replace(influence, weights=weights, neurons=neurons)


def gibibytes(network: Network, batch: int, itemsize: int) -> float:
    """Size of an influence [GiB]."""
    now = jax.eval_shape(lambda: from_state(network, network.initial_state(batch)))
    memory = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(now.memory))
    moments, names = jax.eval_shape(network.moments), remembered(network, now)
    parameters = sum(math.prod(leaf.shape) for name in names for leaf in jax.tree.leaves(moments[name]))
    own = jax.tree.leaves(eqx.filter(network.populations, eqx.is_inexact_array))
    parameters += sum(math.prod(leaf.shape) for leaf in own)
    return memory * parameters * itemsize / 2**30


class AbstractInfluenceRule(AbstractOnlineRule):
    """A rule that carries influences."""

    apart: ClassVar[bool] = True

    def begin(self, network: Network, moments: dict[str, Moments], now: Now) -> Influence:
        """No influence."""
        return begin(network, moments, now)

    def contract(self, network, moments, at, memory, credit, learnt):
        """Credit through the influence."""
        return contract(network, moments, at, memory, credit), memory, learnt


def check_size(rule: AbstractOnlineRule, network: Network, batch: int, itemsize: int, limit: float) -> None:
    """Refuses an influence that is larger than a limit [GiB]."""
    size = gibibytes(network, batch, itemsize)
    if size > limit:
        raise ValueError(
            f"`{type(rule).__name__}` would carry an influence of {size:.3g} GiB (all memory × all weights × {batch} "
            f"trials), more than `limit_gib={limit:g}`. Use fewer trials or neurons, a rule with a smaller memory "
            "(`EProp`, `UORO`, `KFRTRL`), or raise the limit."
        )
