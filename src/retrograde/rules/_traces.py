"""Eligibility traces: the influence of a neuron's weights on its own state, carried forward.

They are all that e-prop, or SnAp-1 (`diagonal`: a neuron's self-connection belongs to its own state), needs where a
population's activity reaches the outputs at once, or through one leaky readout that filters all activity alike; then
the traces are filtered in its place.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..network import Network
from ..neurons import AbstractNeuron
from ..stepping import Linearised, Now
from ..synapses import Moments
from ..unroll import Wire, add, advance, place, read, split, transmit
from ._online import Gradient, all_credit, channels, direct, learning

# Traces are trees like a neuron's state, with axes `batch row pre` (`batch row` for one-to-one weights, `batch neuron`
# for parameters of the neuron) in place of `batch neuron`.


class Traces(eqx.Module):
    """What is remembered of the past.

    Attributes:
        weights: By projection: influence of mean and variance (or `None`) of its weights on the states of the neurons
            that own them; `"batch pre"` where it is the same for all neurons.
        neurons: By population: that of each of its trainable arrays.
        filtered: By projection or population, as above: influence on the activity, filtered like a leaky readout.
    """

    weights: dict[str, tuple[Any, Any]]
    neurons: dict[str, list[Any]]
    filtered: dict[str, Any]


def why_not_local(network: Network, diagonal: bool = False) -> str | None:
    """Says why eligibility traces of single neurons would not hold all the credit there is; `None` if they do."""
    readout = network.readout
    for stage in network.stages:
        for wire in stage.outer + stage.inner:
            is_loop = wire in stage.inner and wire.delay
            if wire.source not in network.populations or (is_loop and not (diagonal and wire.source == wire.target)):
                continue
            if wire.source == readout:
                return f"the readout is read by {wire.target!r}"
            if is_loop and wire.delay == 1:
                continue
            if is_loop:
                return f"{wire.name!r} is a self-connection of more than one step"
            if wire.target != readout:
                return f"{wire.name!r} feeds a population that is not the readout"
            if wire.delay:
                return f"{wire.name!r} reaches the readout later"
    if network.populations[readout].stateless or not _fed(network):
        return None
    if low_pass(network.populations[readout]) is None:
        return f"the readout {readout!r} is no filter that treats all its units alike"
    moments = jax.eval_shape(network.moments)
    if any(moments[wire.name].variance is not None for wire in _fed(network)):
        return f"the weights onto the leaky readout {readout!r} fluctuate"
    return None


def refuse_mixing(rule: str, network: Network) -> None:
    """Refuses a neuron of the user's own whose step or activity mixes neurons: its traces would be wrong.

    Inside a compiled function nothing is checked, as there are no numbers to check with.
    """
    for name, neuron in network.populations.items():
        arrays = jax.tree.leaves(eqx.filter(neuron, eqx.is_array))
        is_ours = type(neuron).__module__.startswith("retrograde.")
        if is_ours or neuron.size < 2 or any(isinstance(array, jax.core.Tracer) for array in arrays):
            continue
        state = neuron.initial_state(1)
        current = jnp.linspace(0.3, 0.9, neuron.size * len(neuron.ports))[None]
        first = jnp.arange(neuron.size) == 0
        nudge = jnp.where(jnp.tile(first, len(neuron.ports)), 0.5, 0.0)[None]
        moved = jax.tree.map(lambda leaf, first=first: leaf + 0.5 * first[None].astype(leaf.dtype), state)
        before, after = advance(neuron, state, current), advance(neuron, moved, current + nudge)
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            changed = jnp.abs(new - old)[0, 1:]
            if changed.max() > 0:
                other = int(changed.argmax()) + 1
                raise ValueError(
                    f"`{rule}` needs neurons that do not see each other, but in {name!r} ({type(neuron).__name__}) "
                    f"neuron {other} changes by {float(changed.max()):.2g} when state and current of neuron 0 do. Move "
                    "the mixing into a projection, or use `RTRL()`."
                )


def _fed(network: Network) -> list[Wire]:
    """Projections from other populations to the readout."""
    stage = next(stage for stage in network.stages if network.readout in stage.populations)
    return [wire for wire in stage.outer if wire.source in network.populations and wire.target == network.readout]


def low_pass(neuron: AbstractNeuron) -> tuple[float, float] | None:
    """Decay and gain of a neuron that filters its current, the same for all units; else `None`."""
    if neuron.low_pass is None:
        return None
    decay, gain = neuron.low_pass
    return (decay, gain) if isinstance(decay, float) and isinstance(gain, float) else None


def is_filtered(network: Network) -> bool:
    """Whether the readout remembers what other populations send it."""
    return not network.populations[network.readout].stateless and bool(_fed(network))


def begin(network: Network, moments: dict[str, Moments], now: Now, diagonal: bool = False) -> Traces:
    """No traces."""
    weights: dict[str, Any] = {}
    neurons: dict[str, Any] = {}
    filtered: dict[str, Any] = {}
    batch = jax.tree.leaves(now.neurons)[0].shape[0] if now.neurons else now.idle[network.readout].value.shape[0]
    sources = {wire.source for wire in _fed(network)} if is_filtered(network) else set()
    for name in learning(network):
        target = network.projections[name].target
        state = now.neurons.get(target)
        if state is None:
            continue
        shape, dtype = moments[name].mean.shape, jax.tree.leaves(state)[0].dtype

        def zeros(shape, state=state, dtype=dtype):
            return jax.tree.map(lambda _: jnp.zeros((batch, *shape), dtype), state)

        factorised = low_pass(network.populations[target]) is not None and len(shape) == 2 and not diagonal
        weights[name] = (
            zeros(shape[1:] if factorised else shape),
            None if moments[name].variance is None else zeros(shape),
        )
        if target in sources:
            full = jnp.zeros((batch, *shape), dtype)
            filtered[name] = (full, None if moments[name].variance is None else full)
    for name, neuron in network.populations.items():
        own = jax.tree.leaves(eqx.filter(neuron, eqx.is_inexact_array))
        state = now.neurons.get(name)
        if state is None:
            continue
        neurons[name] = [jax.tree.map(jnp.zeros_like, state) for _ in own]
        if name in sources and own:
            filtered[name] = [jnp.zeros_like(network.populations[name].activity(state)) for _ in own]
    return Traces(weights, neurons, filtered)


class _Local(eqx.Module):
    """Derivatives of a population's step, neuron by neuron; trees like the state, of arrays `"batch neuron"`.

    Attributes:
        states: ∂ state / ∂ each leaf of the state before.
        currents: ∂ state / ∂ the current of each port.
        activity: ∂ activity / ∂ each leaf of the state after.
    """

    states: list[Any]
    currents: list[Any]
    activity: list[Float[Array, "batch neuron"]]


def derivatives(network: Network, at: Linearised, name: str, own: dict[str, Moments], diagonal: bool) -> _Local:
    """Derivatives of a population's step, with `diagonal` also through its self-connections `own`."""
    neuron, before, after = network.populations[name], at.before.neurons[name], at.after.neurons[name]
    leaves, structure = jax.tree.flatten(before)
    ports = len(neuron.ports)

    def moved(number, leaves=leaves):
        units = [jnp.ones_like(x) if i == number else jnp.zeros_like(x) for i, x in enumerate(leaves)]
        return jax.tree.unflatten(structure, units)

    def step(state, current):
        return neuron.step(state, split(neuron, current))

    still, none = jax.tree.map(jnp.zeros_like, before), jnp.zeros_like(at.currents[name])
    _, push = jax.linearize(step, before, at.currents[name])
    port = jnp.arange(none.shape[1]) // neuron.size
    currents = [push(still, none + (port == p).astype(none.dtype)[None]) for p in range(ports)]
    states = [push(moved(i), none) for i in range(len(leaves))]
    _, see = jax.linearize(neuron.activity, after)
    if diagonal:
        _, seen = jax.linearize(neuron.activity, before)
        for wire_name, weights in own.items():
            rows = channels(network, wire_name)
            count = rows.size // neuron.size
            by_self = _diagonals(weights.mean, count)[None]
            if weights.variance is not None:
                pre = jnp.tile(at.pre[wire_name], (1, count))
                by_self = by_self + _diagonals(weights.variance, count)[None] * 2 * pre * at.slopes[name][:, rows]
            for i in range(len(leaves)):
                gains = jnp.split(by_self * jnp.tile(seen(moved(i)), (1, count)), count, axis=1)
                for gain, p in zip(gains, rows[:: neuron.size] // neuron.size, strict=True):
                    states[i] = jax.tree.map(lambda s, c, gain=gain: s + c * gain, states[i], currents[p])
    return _Local(states, currents, [see(moved(i, jax.tree.leaves(after))) for i in range(len(leaves))])


def _is_self(wire: Wire) -> bool:
    """Whether a projection of a population onto itself carries credit from each neuron to itself."""
    return wire.delay == 1 and wire.source_slice is None and wire.target_slice is None


def _diagonals(matrix: Array, ports: int) -> Float[Array, " row"]:
    """Weights of the self-connections, port by port."""
    if matrix.ndim == 1:
        return matrix
    return jnp.concatenate([jnp.diagonal(block) for block in jnp.split(matrix, ports)])


def push(
    network: Network, moments: dict[str, Moments], at: Linearised, traces: Traces, diagonal: bool = False
) -> Traces:
    """The traces after a step."""
    weights: dict[str, Any] = {}
    neurons: dict[str, Any] = {}
    filtered: dict[str, Any] = {}
    readout = network.populations[network.readout]
    decay, gain = (low_pass(readout) or (0.0, 1.0)) if is_filtered(network) else (0.0, 1.0)

    def smooth(old, seen):
        return None if old is None else decay * old + gain * seen

    inner = {wire for stage in network.stages for wire in stage.inner}
    for target in at.before.neurons:
        loops = {w.name: moments[w.name] for w in inner if w.source == w.target == target and _is_self(w)}
        local = derivatives(network, at, target, loops, diagonal)
        for name in (n for n in traces.weights if network.projections[n].target == target):
            weights[name] = tuple(
                None if old is None else _push_weights(network, moments, at, local, name, old, kind)
                for kind, old in enumerate(traces.weights[name])
            )
            if name in traces.filtered:
                rows = _Rows(network, moments, name)
                filtered[name] = tuple(
                    smooth(old, None if trace is None else _seen(local, trace, rows))
                    for old, trace in zip(traces.filtered[name], weights[name], strict=True)
                )
        neurons[target], seen = _push_neurons(network, at, local, target, traces.neurons[target])
        if target in traces.filtered:
            filtered[target] = [smooth(*pair) for pair in zip(traces.filtered[target], seen, strict=True)]
    return Traces(weights, neurons, filtered)


class _Rows:
    """How the neurons of a population stand in the rows of a projection's weights."""

    def __init__(self, network: Network, moments: dict[str, Moments], name: str):
        self.channels = channels(network, name)
        self.cells = self.channels % network.populations[network.projections[name].target].size
        self.is_matrix = moments[name].mean.ndim == 2

    def of(self, array: Float[Array, "batch neuron"]) -> Array:
        """A number for each neuron in the shape of a trace."""
        return array[:, self.cells, None] if self.is_matrix else array[:, self.cells]


def _push_weights(network: Network, moments, at: Linearised, local: _Local, name: str, trace: Any, kind: int) -> Any:
    """The trace of a projection's means (kind 0) or variances (kind 1) after a step."""
    target, rows = network.projections[name].target, _Rows(network, moments, name)
    old, structure = jax.tree.flatten(trace)
    pre = at.pre[name] ** (kind + 1)
    constant = low_pass(network.populations[target])
    if constant is not None and rows.is_matrix and old[0].ndim == 2:  # the same for all neurons
        return jax.tree.unflatten(structure, [constant[0] * old[0] + constant[1] * pre])
    new = []
    for k in range(len(old)):
        carried = [rows.of(jax.tree.leaves(local.states[i])[k]) * old[i] for i in range(len(old))]
        effect = jnp.concatenate([jax.tree.leaves(effect)[k] for effect in local.currents], axis=1)[:, rows.channels]
        if kind == 1:
            effect = effect * at.slopes[target][:, rows.channels]
        new.append(sum(carried) + (effect[..., None] * pre[:, None] if rows.is_matrix else effect * pre))
    return jax.tree.unflatten(structure, new)


def _push_neurons(
    network: Network, at: Linearised, local: _Local, target: str, traces: list[Any]
) -> tuple[list[Any], list[Array]]:
    """The traces of a population's parameters after a step, and what of them shows in the activity."""
    own, rest = eqx.partition(network.populations[target], eqx.is_inexact_array)
    leaves, shape = jax.tree.flatten(own)

    def run(own):
        neuron = eqx.combine(own, rest)
        return advance(neuron, at.before.neurons[target], at.currents[target])

    new, seen = [], []
    for number, trace in enumerate(traces):
        units = [jnp.ones_like(x) if i == number else jnp.zeros_like(x) for i, x in enumerate(leaves)]
        _, (used, shown) = jax.jvp(run, (own,), (jax.tree.unflatten(shape, units),))
        old, structure = jax.tree.flatten(trace)
        carried = [sum(jax.tree.leaves(local.states[i])[k] * old[i] for i in range(len(old))) for k in range(len(old))]
        new.append(jax.tree.map(jnp.add, used, jax.tree.unflatten(structure, carried)))
        seen.append(shown + sum(a * c for a, c in zip(local.activity, carried, strict=True)))
    return new, seen


def _seen(local: _Local, trace: Any, rows: _Rows) -> Array:
    """What of a trace of the state shows in the activity."""
    shown: Any = 0.0
    for gain, leaf in zip(local.activity, jax.tree.leaves(trace), strict=True):
        is_shared = rows.is_matrix and leaf.ndim == 2
        shown = shown + rows.of(gain) * (leaf[:, None] if is_shared else leaf)
    return shown


def contract(
    network: Network, moments: dict[str, Moments], at: Linearised, traces: Traces, credit: dict[str, Array]
) -> Gradient:
    """The gradient of a step's loss: through its own use of the parameters, through states, through the readout."""
    back, currents, used = at.pull(jax.tree.map(jnp.zeros_like, at.after.memory), all_credit(network, at, credit))
    of_states, _ = back
    total = direct(network, moments, at, currents, used)
    signals = _signals(network, moments, at, of_states) if is_filtered(network) else {}
    weights, neurons = dict(total.weights), dict(total.neurons)
    for name, pair in traces.weights.items():
        target, rows = network.projections[name].target, _Rows(network, moments, name)

        def past(kind, trace, name=name, target=target, rows=rows) -> Any:
            pairs = zip(jax.tree.leaves(of_states[target]), jax.tree.leaves(trace), strict=True)
            found: Any = sum(_joined(credit[:, rows.cells], leaf, rows) for credit, leaf in pairs)
            if name in traces.filtered:
                found = found + _joined(signals[target][:, rows.cells], traces.filtered[name][kind], rows)
            return found

        pasts: Any = [None if trace is None else past(kind, trace) for kind, trace in enumerate(pair)]
        weights[name] = jax.tree.map(jnp.add, weights[name], Moments(*pasts))
    for name, trees in traces.neurons.items():
        own = eqx.filter(network.populations[name], eqx.is_inexact_array)
        found = []
        for number, trace in enumerate(trees):
            pairs = zip(jax.tree.leaves(of_states[name]), jax.tree.leaves(trace), strict=True)
            gradient: Any = sum(jnp.sum(credit * leaf, 0) for credit, leaf in pairs)
            if name in traces.filtered:
                gradient = gradient + jnp.sum(signals[name] * traces.filtered[name][number], 0)
            found.append(gradient)
        neurons[name] = jax.tree.map(jnp.add, neurons[name], jax.tree.unflatten(jax.tree.structure(own), found))
    return Gradient(weights, neurons)


def _joined(credit: Float[Array, "batch row"], trace: Array, rows: _Rows) -> Array:
    if not rows.is_matrix:
        return jnp.sum(credit * trace, 0)
    if trace.ndim == 2:  # the same for all neurons
        return credit.T @ trace
    return jnp.einsum("br,brm->rm", credit, trace)


def _signals(network: Network, moments, at: Linearised, of_states: dict[str, Any]) -> dict[str, Array]:
    """Learning signals: the credit of the readout's filtered state, by its projections, to each population."""
    readout = network.populations[network.readout]
    (credit,) = jax.tree.leaves(of_states[network.readout])
    signals: dict[str, Any] = {}
    for wire in _fed(network):
        feedback = network.projections[wire.name].feedback
        matrix = None if feedback is None else feedback.matrix(moments[wire.name].mean)

        def send(pre, wire=wire, matrix=matrix):
            return place(wire, readout, transmit(moments[wire.name], matrix, read(wire, pre))[0])

        (signal,) = jax.vjp(send, at.activity[wire.source])[1](credit)
        signals[wire.source] = add(signals.get(wire.source), signal)
    return signals
