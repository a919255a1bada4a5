"""Unrolling a network through time, and its transposition.

Time is cut into segments (about the square root of its length in steps, so that what is stored stays in the cache).
In each segment the stages of the network follow one another: what a stage receives from outside itself is projected
for all time steps at once; only the connections inside the stage are worked on in a loop.

Backward, that loop carries **credit**: the derivative of the loss with respect to each neuron's current. It holds
elementwise products and the transposed recurrent projections, or, where a rule blocks these, no matrix product
at all. The gradients of the weights follow after it, each as one product over time and trials.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int, Key

from .neurons import AbstractNeuron
from .noise import normal
from .synapses import Moments, product

if TYPE_CHECKING:
    from .network import Network

Credit = Literal["open", "diagonal", "blocked"]
INITIAL = 2**32 - 1  # what the key of the noise is folded with for that of the initial states


@dataclasses.dataclass(frozen=True)
class Wire:
    """Where a projection begins and ends; the static part of a `Projection`."""

    name: str
    source: str
    target: str
    delay: int
    source_slice: tuple[int, int] | None
    target_slice: tuple[int, int] | None
    ports: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Stage:
    """Populations that share one loop over time.

    Attributes:
        populations: Their names, in the order of evaluation.
        outer: Projections that arrive from elsewhere.
        inner: Projections among them.
    """

    populations: tuple[str, ...]
    outer: tuple[Wire, ...]
    inner: tuple[Wire, ...]


class State(eqx.Module):
    """State of a network between two time steps.

    Attributes:
        neurons: State of each population, `"batch neuron"`.
        history: Latest activity of each source that has delayed projections, oldest first, `"delay batch neuron"`.
        step: Number of steps taken [1].
    """

    neurons: dict[str, Any]
    history: dict[str, Float[Array, "delay batch neuron"]]
    step: Int[Array, ""]


class Trajectory(eqx.Module):
    """What a network did.

    Attributes:
        outputs: Activity of the readout, `"steps batch readout"`.
        activity: Activity of the populations that were recorded, `"time batch neuron"`.
        state: State after the last step.
    """

    outputs: Float[Array, "steps batch readout"]
    activity: dict[str, Float[Array, "time batch neuron"]]
    state: State


def initial_state(network: "Network", batch: int, dtype=None, key: Key[Array, ""] | None = None) -> State:
    """Returns the state before the first step; earlier activity is that of this state, earlier input is 0."""
    dtype = jnp.zeros(0).dtype if dtype is None else dtype
    if key is None:
        neurons = {name: neuron.initial_state(batch, dtype) for name, neuron in network.populations.items()}
    else:
        key = jr.fold_in(key, INITIAL)
        neurons = {
            name: network.populations[name].draw_state(jr.fold_in(key, number), batch, dtype)
            for number, name in enumerate(sorted(network.populations))
        }
    history = {}
    for wire in (wire for stage in network.stages for wire in stage.outer + stage.inner):
        if wire.delay > 0 and wire.source != "bias":
            steps = max(wire.delay, history[wire.source].shape[0] if wire.source in history else 0)
            if wire.source == "input":
                past = jnp.zeros((batch, network.inputs), dtype)
            else:
                past = network.populations[wire.source].activity(neurons[wire.source])
            history[wire.source] = jnp.broadcast_to(past[None], (steps, *past.shape))
    return State(neurons, history, jnp.zeros((), jnp.int32))


@jax.custom_jvp
def fluctuation(variance: Float[Array, "..."], noise: Float[Array, "..."]) -> Float[Array, "..."]:
    """`noise · √variance`, with value and derivative 0 where the variance is 0."""
    return noise_to_sigma(variance, noise) * variance


def noise_to_sigma(variance, noise):
    """`noise / √variance`, 0 where the variance is 0: twice the slope of `fluctuation`."""
    positive = variance > 0
    return jnp.where(positive, noise * jax.lax.rsqrt(jnp.where(positive, variance, 1)), 0)


@fluctuation.defjvp
def _fluctuation_jvp(primals, tangents):
    variance, noise = primals
    # Noise is data: no derivative with respect to it, so that one array is all the backward pass has to keep.
    ratio = noise_to_sigma(variance, noise)
    return ratio * variance, 0.5 * ratio * tangents[0]


@jax.custom_jvp
def _fed_back(pre, weight, feedback):
    """`weight · pre`; changes of `pre` pass by `feedback`, so credit returns to `pre` by its transpose."""
    return product(weight, pre)


def _fed_back_jvp(primals, tangents):
    pre, weight, feedback = primals
    change, *weight_changes = (None if isinstance(t, SymbolicZero) else t for t in tangents)
    tangent = None if change is None else product(feedback, change)
    # A feedback matrix that learns gets the gradient of the weights (Kolen & Pollack).
    for matrix in weight_changes:
        tangent = tangent if matrix is None else add(tangent, product(matrix, pre))
    out = product(weight, pre)
    return out, jnp.zeros_like(out) if tangent is None else tangent


_fed_back.defjvp(_fed_back_jvp, symbolic_zeros=True)


def transmit(moments: Moments, feedback, pre):
    """A projection's current: mean and variance (or None). Credit returns by `feedback` where there is one."""
    if feedback is None or moments.mean.ndim == 1:
        return moments(pre)
    _, variance = moments(jax.lax.stop_gradient(pre))
    return _fed_back(pre, moments.mean, feedback), variance


def transmit_inside(wire: Wire, credit: Credit, moments: Moments, feedback, pre):
    """Mean and variance of a projection in a loop, where a rule says by which paths credit may return through time."""
    if wire.delay == 0 or credit == "open":
        return transmit(moments, feedback, pre)
    mean, variance = moments(jax.lax.stop_gradient(pre))
    whole = wire.source_slice is None and wire.target_slice is None
    if credit == "diagonal" and wire.source == wire.target and whole:
        ports = moments.mean.shape[0] // pre.shape[-1] if moments.mean.ndim == 2 else 1

        def through(matrix, change):
            diagonal = (
                matrix
                if matrix.ndim == 1
                else jnp.concatenate([jnp.diagonal(block) for block in jnp.split(matrix, ports)])
            )
            return diagonal[None] * jnp.tile(change, (1, ports))

        mean = mean + through(moments.mean, pre - jax.lax.stop_gradient(pre))
        if variance is not None:
            variance = variance + through(moments.variance, pre**2 - jax.lax.stop_gradient(pre**2))
    return mean, variance


def read(wire: Wire, activity):
    """The part of its source's activity that a projection reads."""
    return activity if wire.source_slice is None else activity[..., slice(*wire.source_slice)]


def place(wire: Wire, neuron: AbstractNeuron, current):
    """Puts the rows of a projection where they belong among all current channels of the target, ports × neurons."""
    if current is None or (wire.target_slice is None and wire.ports is None):
        return current
    ports = wire.ports or neuron.ports
    start, stop = wire.target_slice or (0, neuron.size)
    current = current.reshape(*current.shape[:-1], len(ports), stop - start)
    index = jnp.array([neuron.ports.index(port) for port in ports])
    channels = jnp.zeros((*current.shape[:-2], len(neuron.ports), neuron.size), current.dtype)
    return channels.at[..., index, start:stop].set(current).reshape(*current.shape[:-2], -1)


def add(a, b):
    """Sum of two terms, either of which may be absent (`None`)."""
    return b if a is None else a if b is None else a + b


def split(neuron: AbstractNeuron, current):
    """A population's currents as its neurons take them: one array, or one for each port."""
    return current if len(neuron.ports) == 1 else tuple(jnp.split(current, len(neuron.ports), axis=-1))


def feedback_matrices(network: "Network", moments: dict[str, Moments]) -> dict[str, Float[Array, "post pre"]]:
    """The matrices that credit returns by, of the projections that have one."""
    operators = {name: p.feedback for name, p in network.projections.items()}
    return {name: f.matrix(moments[name].mean) for name, f in operators.items() if f is not None}


def outer_currents(network, stage, moments, feedback, history, activity, extra, state, key, steps):
    """Currents that arrive from outside the stage, for all steps at once: mean and variance for each population."""
    means: dict[str, Any] = dict.fromkeys(stage.populations)
    variances: dict[str, Any] = dict.fromkeys(stage.populations)
    batch, dtype = activity["input"].shape[1], activity["input"].dtype
    for wire in stage.outer:
        if wire.source == "bias":
            pre = jnp.ones((1, 1, 1), dtype)
        else:
            pre = activity[wire.source]
            if wire.delay:
                past = jnp.concatenate([history[wire.source], pre])
                pre = past[past.shape[0] - steps - wire.delay : past.shape[0] - wire.delay]
        neuron = network.populations[wire.target]
        mean, variance = transmit(moments[wire.name], feedback.get(wire.name), read(wire, pre))
        means[wire.target] = add(means[wire.target], place(wire, neuron, mean))
        variances[wire.target] = add(variances[wire.target], place(wire, neuron, variance))
    for name in stage.populations:
        neuron = network.populations[name]
        channels = neuron.size * len(neuron.ports)
        level = neuron.current_noise
        if key is not None and (not isinstance(level, float) or level != 0):
            draw = normal(key, state.step, (steps, batch, channels), dtype, noise_stream(network, name) + 1)
            scale = level if isinstance(level, float) else jnp.asarray(level, dtype)[None, None]
            means[name] = add(means[name], scale * draw)
        means[name] = add(means[name], extra.get(name))
        if means[name] is None:
            means[name] = jnp.zeros((1, 1, 1), dtype)
        means[name] = jnp.broadcast_to(means[name], (steps, batch, channels))
        noisy = any(moments[wire.name].variance is not None for wire in stage.inner if wire.target == name)
        if variances[name] is None and noisy:
            variances[name] = jnp.zeros((steps, batch, channels), dtype)
        elif variances[name] is not None:
            variances[name] = jnp.broadcast_to(variances[name], (steps, batch, channels))
    return means, variances


def noise_stream(network: "Network", name: str) -> int:
    """Number of a population's stream of synaptic noise; the next one is that of its state noise."""
    return 2 * sorted(network.populations).index(name)


def standard_noise(network, stage, variances, given, key, step, steps, batch, dtype):
    """Standardised noise for every population of the stage whose current fluctuates."""
    noise = {}
    for name in stage.populations:
        if variances[name] is None:
            continue
        if name in given:
            noise[name] = jax.lax.stop_gradient(given[name])
        elif key is None:
            raise ValueError(f"The current of {name!r} fluctuates: pass `key=`, or `noise=` for this population too.")
        else:
            shape = (steps, batch, variances[name].shape[-1])
            noise[name] = normal(key, step, shape, dtype, noise_stream(network, name))
    return noise


def advance(neuron: AbstractNeuron, state, current):
    """One step of a population: its new state, and its activity."""
    after = neuron.step(state, split(neuron, current))
    return after, neuron.activity(after)


def _loop(stage: Stage, credit: Credit, neurons, feedback, weights, drives, start, noise, keep: bool = False):
    """Runs the loop of one stage.

    `start` holds the populations' states and their past activity, newest first.

    Returns:
        The activity of every step; the last states; and, where wanted, what the transposition needs of every step:
        the states before it, the currents, and the slope of each current on its variance.
    """

    def step(carry, now):
        before, past = carry
        (means, variances), noise = now
        states, active, currents, slopes = dict(before), {}, {}, {}
        for name in stage.populations:
            mean, variance = means[name], variances[name]
            for wire in (wire for wire in stage.inner if wire.target == name):
                pre = past[wire.source][wire.delay - 1] if wire.delay else active[wire.source]
                sent = _send(wire, credit, neurons, feedback, weights, pre)
                mean, variance = add(mean, sent[0]), add(variance, sent[1])
            currents[name] = mean if variance is None else mean + fluctuation(variance, noise[name])
            slopes[name] = None if variance is None else 0.5 * noise_to_sigma(variance, noise[name])
            states[name], active[name] = advance(neurons[name], before[name], currents[name])
        past = {name: (active[name], *steps[:-1]) for name, steps in past.items()}
        return (states, past), (active, (before, currents, slopes) if keep else None)

    (states, _), (activity, kept) = jax.lax.scan(step, start, (drives, noise))
    return activity, states, kept


def _send(wire: Wire, credit: Credit, neurons, feedback, weights, pre):
    """What a projection inside the loop adds to mean and variance of its target's currents."""
    sent = transmit_inside(wire, credit, weights[wire.name], feedback.get(wire.name), read(wire, pre))
    return tuple(place(wire, neurons[wire.target], part) for part in sent)


def _transposed_loop(stage: Stage, credit: Credit, neurons, feedback, weights, kept, seen, cotangent):
    """Runs the loop of one stage backwards.

    Returns:
        The credit of every step, with respect to mean and variance of each current; that of the start; and the
        gradients of the neurons' parameters.
    """
    parameters, rest = eqx.partition(neurons, eqx.is_inexact_array)

    def step(carry, now):
        states, past, gradients = carry
        active, (before, currents, slopes), seen = now
        states, gradients, means, variances = dict(states), dict(gradients), {}, {}
        active = {name: active[name] + past[name][0] if name in past else active[name] for name in stage.populations}
        past = {name: [*earlier[1:], jnp.zeros_like(earlier[0])] for name, earlier in past.items()}
        for name in reversed(stage.populations):

            def evolve(own, state, current, name=name):
                return advance(eqx.combine(own, rest[name]), state, current)

            _, pull = jax.vjp(evolve, parameters[name], before[name], currents[name])
            own, states[name], means[name] = pull((states[name], active[name]))
            gradients[name] = jax.tree.map(jnp.add, gradients[name], own)
            variances[name] = None if slopes[name] is None else means[name] * slopes[name]
            for wire in (wire for wire in stage.inner if wire.target == name):
                if wire.delay and credit == "blocked":
                    continue
                sent, pull_pre = jax.vjp(partial(_send, wire, credit, neurons, feedback, weights), seen[wire.name])
                (blame,) = pull_pre((means[name], None if sent[1] is None else variances[name]))
                if wire.delay:
                    past[wire.source][wire.delay - 1] += blame
                else:
                    active[wire.source] += blame
        return (states, {name: tuple(steps) for name, steps in past.items()}, gradients), (means, variances)

    activity, states, past = cotangent
    start = (states, past, jax.tree.map(jnp.zeros_like, parameters))
    (states, past, gradients), credits = jax.lax.scan(step, start, (activity, kept, seen), reverse=True)
    return credits, (states, past), gradients


def _run_loop(stage: Stage, credit: Credit | None, neurons, feedback, weights, drives, start, noise):
    """`_loop`, transposed by hand: credit in the loop, weight gradients after it.

    Of each step only states and currents are kept, and the neurons are linearised on the way back: elementwise
    arithmetic costs less than memory. With `credit=None` the loop is left to plain differentiation (which has a
    forward mode too).
    """
    if credit is None:
        return _loop(stage, "open", neurons, feedback, weights, drives, start, noise)[:2]
    parameters, rest = eqx.partition(neurons, eqx.is_inexact_array)
    # Arrays must enter a custom derivative as arguments; whole numbers and constants come along without credit.
    constants, static = eqx.partition(rest, eqx.is_array)

    @jax.custom_vjp
    def run(constants, feedback, weights, noise, parameters, drives, start):
        neurons = eqx.combine(parameters, constants, static)
        return _loop(stage, credit, neurons, feedback, weights, drives, start, noise)[:2]

    def forward(constants, feedback, weights, noise, parameters, drives, start):
        neurons = eqx.combine(parameters, constants, static)
        activity, states, kept = _loop(stage, credit, neurons, feedback, weights, drives, start, noise, keep=True)
        return (activity, states), (kept, states, start[1], weights, feedback, parameters, constants)

    def backward(residuals, cotangent):
        kept, states, past, weights, feedback, parameters, constants = residuals
        neurons = eqx.combine(parameters, constants, static)
        seen = {wire.name: _read_before(wire, neurons, kept[0], states, past) for wire in stage.inner}
        nothing = jax.tree.map(jnp.zeros_like, past)
        credits, start, own = _transposed_loop(
            stage, credit, neurons, feedback, weights, kept, seen, (*cotangent, nothing)
        )
        gradients = {}
        for wire in stage.inner:

            def send(moments, wire=wire):
                sent = moments(read(wire, seen[wire.name]))
                return tuple(place(wire, neurons[wire.target], part) for part in sent)

            sent, pull = jax.vjp(send, weights[wire.name])
            (gradients[wire.name],) = pull(
                (credits[0][wire.target], None if sent[1] is None else credits[1][wire.target])
            )
        # A feedback matrix that learns gets the gradient of the weights; the others are cut off further up.
        learnt = {name: gradients[name].mean for name in feedback}
        return None, learnt, gradients, None, own, credits, start

    run.defvjp(forward, backward)
    return run(constants, feedback, weights, noise, parameters, drives, start)


def _read_before(wire: Wire, neurons, before, last, past):
    """The activity that a projection inside the loop read in every step."""
    after = jax.tree.map(
        lambda early, late: jnp.concatenate([early[1:], late[None]]), before[wire.source], last[wire.source]
    )
    active = jax.vmap(neurons[wire.source].activity)(after)
    if not wire.delay:
        return active
    earlier = jnp.stack(past[wire.source][: wire.delay][::-1])
    return jnp.concatenate([earlier, active])[: active.shape[0]]


def run_segment(
    network: "Network",
    moments: dict[str, Moments],
    state: State,
    inputs: Float[Array, "time batch input"],
    *,
    credit: Credit | None,
    key: Key[Array, ""] | None,
    noise: dict[str, Float[Array, "time batch channel"]],
    drive: dict[str, Float[Array, "time batch channel"]],
    skip: str | None = None,
) -> tuple[State, dict[str, Float[Array, "time batch neuron"]]]:
    """Runs a stretch of time, stage by stage.

    Args:
        network: The network.
        moments: The virtual weights of every projection.
        state: The state before the stretch.
        inputs: Input activity.
        credit: Which recurrent paths carry credit; `None` for plain differentiation.
        key: Stream of the noise, or `None` where none is drawn.
        noise: Standardised noise given in place of draws.
        drive: Further currents.
        skip: A population not to run (a readout that is wanted later only).

    Returns:
        The state after the stretch, and the activity of every population in it.
    """
    steps, batch, _ = inputs.shape
    feedback = feedback_matrices(network, moments)
    activity = {"input": inputs}
    states, history = dict(state.neurons), dict(state.history)
    for stage in network.stages:
        if skip in stage.populations:
            continue
        drives = outer_currents(network, stage, moments, feedback, history, activity, drive, state, key, steps)
        eps = standard_noise(network, stage, drives[1], noise, key, state.step, steps, batch, inputs.dtype)
        neurons = {name: network.populations[name] for name in stage.populations}
        name = stage.populations[0]
        if not stage.inner and neurons[name].stateless:
            mean, variance = drives[0][name], drives[1][name]
            current = mean if variance is None else mean + fluctuation(variance, eps[name])
            after = jax.vmap(neurons[name].step, in_axes=(None, 0))(states[name], split(neurons[name], current))
            activity[name] = neurons[name].activity(after)
            states[name] = jax.tree.map(lambda leaf: leaf[-1], after)
            continue
        past = {wire.source: tuple(history[wire.source][::-1]) for wire in stage.inner if wire.delay}
        weights = {wire.name: moments[wire.name] for wire in stage.inner}
        back = {name: matrix for name, matrix in feedback.items() if name in weights}
        start = ({name: states[name] for name in stage.populations}, past)
        active, last = _run_loop(stage, credit, neurons, back, weights, drives, start, eps)
        activity |= active
        states |= last
    for source, old in history.items():
        if source in activity:
            history[source] = jnp.concatenate([old, activity[source]])[-old.shape[0] :]
    return State(states, history, state.step + steps), activity


def segment_length(steps: int, width: int) -> int:
    """Chooses a segment length: a divisor of `steps` near its root, longer where a step is small.

    Args:
        steps: Number of time steps [1].
        width: Numbers stored for each step: batch × neurons [1].
    """
    wanted = max(math.isqrt(steps), min(steps, 400_000 // max(width, 1)), 1)
    divisors = [d for d in range(1, steps + 1) if steps % d == 0 and wanted / 2 <= d <= wanted * 1.5]
    return max(divisors, default=min(wanted, steps))


def unroll(
    network: "Network",
    moments: dict[str, Moments],
    state: State,
    inputs: Float[Array, "time batch input"],
    *,
    key: Key[Array, ""] | None = None,
    noise: dict[str, Float[Array, "time batch channel"]],
    drive: dict[str, Float[Array, "time batch channel"]],
    resample: Callable[[Int[Array, ""]], dict[str, Moments]] | None = None,
    readout_steps: int | None = None,
    record: tuple[str, ...] = (),
    credit: Credit | None = None,
    segment: int | None = None,
    checkpoint: bool = False,
    cut: bool = False,
) -> Trajectory:
    """Runs a network over all time steps, segment by segment.

    Args:
        network: The network.
        moments: The virtual weights of every projection.
        state: The state before the first step.
        inputs: Input activity.
        key: Stream of the noise.
        noise: Standardised noise given in place of draws.
        drive: Further currents.
        resample: Draws the weights of a time step anew, or `None` to keep `moments`.
        readout_steps: Number of last steps whose outputs are wanted; all if `None`.
        record: Populations whose activity is wanted.
        credit: Which recurrent paths carry credit; `None` for plain differentiation.
        segment: Steps of a segment; chosen if `None`.
        checkpoint: Whether the backward pass runs each segment again instead of storing what happened in it.
        cut: Whether credit stops at the borders of segments.
    """
    steps, batch, _ = inputs.shape
    width = batch * max(neuron.size for neuron in network.populations.values())
    length = 1 if resample is not None else min(segment or segment_length(steps, width), steps)
    late = _late_readout(network, readout_steps, record)

    def body(state, xs):
        inputs, noise, drive = xs
        if cut:
            state = jax.lax.stop_gradient(state)
        weights = moments if resample is None else resample(state.step)
        state, activity = run_segment(
            network, weights, state, inputs, credit=credit, key=key, noise=noise, drive=drive, skip=late
        )
        wanted = set(record) if late else {*record, network.readout}
        return state, {name: activity[name] for name in wanted}

    if checkpoint:
        body = jax.checkpoint(body)
    xs = (inputs, noise, drive)
    count, rest = divmod(steps, length)
    parts = []
    if count == 1:
        state, out = body(state, jax.tree.map(lambda x: x[:length], xs))
        parts.append(out)
    else:
        folded = jax.tree.map(lambda x: x[: count * length].reshape(count, length, *x.shape[1:]), xs)
        state, out = jax.lax.scan(body, state, folded)
        parts.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out))
    if rest:
        state, out = body(state, jax.tree.map(lambda x: x[count * length :], xs))
        parts.append(out)
    activity = {name: jnp.concatenate([part[name] for part in parts]) for name in parts[0]} if rest else parts[0]
    if late:
        weights = moments if resample is None else resample(state.step - 1)
        state, outputs = _read_out_late(network, weights, state, inputs, noise, drive, key)
    else:
        outputs = activity[network.readout][-(readout_steps or steps) :]
    return Trajectory(outputs, {name: activity[name] for name in record}, state)


def _late_readout(network: "Network", readout_steps: int | None, record: tuple[str, ...]) -> str | None:
    """Names the readout if it need be evaluated in the last step only: memoryless, undelayed, read by nobody."""
    name = network.readout
    stage = next(stage for stage in network.stages if name in stage.populations)
    memoryless = network.populations[name].stateless and not stage.inner
    sources = {wire.source for other in network.stages for wire in other.outer + other.inner}
    late = readout_steps == 1 and memoryless and name not in sources and name not in record
    return name if late and all(wire.delay == 0 for wire in stage.outer) else None


def _read_out_late(network, moments, state, inputs, noise, drive, key):
    name = network.readout
    stage = next(stage for stage in network.stages if name in stage.populations)
    activity = {"input": inputs[-1:]}
    for wire in stage.outer:
        if wire.source in network.populations:
            activity[wire.source] = network.populations[wire.source].activity(state.neurons[wire.source])[None]
    feedback = feedback_matrices(network, moments)
    now = eqx.tree_at(lambda s: s.step, state, state.step - 1)
    drive = {n: d[-1:] for n, d in drive.items()}
    noise = {n: e[-1:] for n, e in noise.items()}
    means, variances = outer_currents(network, stage, moments, feedback, {}, activity, drive, now, key, 1)
    eps = standard_noise(network, stage, variances, noise, key, now.step, 1, inputs.shape[1], inputs.dtype)
    current = means[name] if variances[name] is None else means[name] + fluctuation(variances[name], eps[name])
    neuron = network.populations[name]
    after = neuron.step(state.neurons[name], split(neuron, current[0]))
    state = eqx.tree_at(lambda s: s.neurons, state, {**state.neurons, name: after})
    return state, neuron.activity(after)[None]
