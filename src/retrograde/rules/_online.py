"""What rules have in common that run forward in time: streaming, and an unrolled pass made of the same steps."""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from ..feedback import Adaptive
from ..network import Network
from ..stepping import Linearised, Now, draw_noise, from_state, linearise, step
from ..synapses import Moments, Tied
from ..unroll import Credit, State, Trajectory, unroll
from ._abstract import AbstractRule

_RULE_STREAM = 0x52554C45  # tells the rule's own randomness from the network's noise
_CACHE = 8 * 2**20  # bytes that a CPU's cache holds, about: trials with more memory than that are faster in turn


class Gradient(eqx.Module):
    """Gradient with respect to virtual weights and to the neurons' parameters.

    Attributes:
        weights: By projection, with respect to mean and variance of its weights.
        neurons: By population, with the structure of its trainable arrays.
    """

    weights: dict[str, Moments]
    neurons: dict[str, Any]


class Stream(eqx.Module):
    """A network that runs on and on, and what its rule remembers.

    Attributes:
        now: Where the network stands.
        before: Where it stood before the latest step.
        inputs: Inputs of the latest step, `"batch input"`.
        memory: What the rule remembers of the past up to `before`: traces, influences.
        learnt: Parameters of the rule's own.
        is_fresh: Whether no step has been made yet.
        key: Stream of the noise and of the rule's randomness.
    """

    now: Now
    before: Now
    inputs: Float[Array, "batch input"]
    memory: PyTree
    learnt: PyTree
    is_fresh: Array
    key: Key[Array, ""]


class Given(eqx.Module):
    """What comes from outside in each step of a trial.

    Attributes:
        inputs: Input activity, `"time batch input"`.
        noise: Standardised noise given in place of draws, `"time batch channel"`.
        drive: Further currents, `"time batch channel"`.
        credit: Derivative of the loss with respect to the activity of populations, `"time batch neuron"`.
    """

    inputs: Float[Array, "time batch input"]
    noise: dict[str, Float[Array, "time batch channel"]]
    drive: dict[str, Float[Array, "time batch channel"]]
    credit: dict[str, Float[Array, "time batch neuron"]]


class AbstractOnlineRule(AbstractRule):
    """A rule that carries what it needs forward in time, in memory that does not grow with time.

    A subclass says what it remembers before the first step (`begin`), how that changes in a step (`push`), and what
    gradient it makes of the credit that arrives now (`contract`). From these three follow streaming (`start`, `step`,
    `gradient`) and the unrolled pass that a trial's loss is differentiated through: it runs the network once for the
    outputs, and once more, with the rule, when their credit is known.
    """

    apart: ClassVar[bool] = False  # whether trials know nothing of each other, so that some may run before others

    @property
    def paths(self) -> Credit:
        """Which recurrent paths the linearised step may use."""
        return "open"

    def check(self, network: Network, batch: int, itemsize: int) -> None:
        """Refuses a network on which the rule has no meaning, or too large a memory; does nothing by default."""

    @abc.abstractmethod
    def begin(self, network: Network, moments: dict[str, Moments], now: Now) -> PyTree:
        """Returns what the rule remembers before the first step."""

    @abc.abstractmethod
    def push(
        self,
        network: Network,
        moments: dict[str, Moments],
        at: Linearised,
        memory: PyTree,
        learnt: PyTree,
        key: Key[Array, ""],
    ) -> tuple[PyTree, PyTree]:
        """Returns what the rule remembers after a step, and its own parameters."""

    @abc.abstractmethod
    def contract(
        self,
        network: Network,
        moments: dict[str, Moments],
        at: Linearised,
        memory: PyTree,
        credit: dict[str, Float[Array, "batch neuron"]],
        learnt: PyTree,
    ) -> tuple[Gradient, PyTree, PyTree]:
        """Turns the credit of the step's activities into a gradient.

        Args:
            network: The network.
            moments: Its virtual weights.
            at: The step.
            memory: What the rule remembers of the time before the step.
            credit: Derivative of the loss with respect to the activity of each population in this step.
            learnt: Parameters of the rule's own, or `None`.

        Returns:
            The gradient, the memory (most rules leave it as it is) and the rule's parameters.
        """

    def start(self, network: Network, batch: int, *, key: Key[Array, ""], dtype=None) -> Stream:
        """Begins a stream: a network at its initial state, for `batch` trials side by side."""
        state = network.initial_state(batch, dtype, key)
        now = from_state(network, state)
        inputs = jnp.zeros((batch, network.inputs), jax.tree.leaves(state.neurons)[0].dtype)
        self.check(network, batch, inputs.dtype.itemsize)
        memory = self.begin(network, network.moments(), now)
        return Stream(now, now, inputs, memory, self.init(network), jnp.array(True), key)

    def step(
        self, network: Network, stream: Stream, inputs: Float[Array, "batch input"]
    ) -> tuple[Stream, Float[Array, "batch readout"]]:
        """Advances a stream by one time step.

        Args:
            network: The network; its weights may differ from those of the last step.
            stream: The stream.
            inputs: Input activity of this step, `"batch input"`.

        Returns:
            The stream, and the activity of the readout.

        Raises:
            ValueError: If the shape of `inputs` is not that with which the stream was started.
        """
        _check_shape("inputs", inputs, stream.inputs.shape)
        moments = network.moments()
        at = self._linearise(network, moments, stream)
        old = stream.memory, stream.learnt
        pushed = self.push(network, moments, at, *old, _own_key(stream.key, stream.before.step))
        memory, learnt = jax.tree.map(lambda new, old: jnp.where(stream.is_fresh, old, new), pushed, old)
        noise = draw_noise(network, moments, stream.now.step, inputs.shape[0], inputs.dtype, stream.key, {})
        after, activity, *_ = step(network, moments, stream.now, inputs, noise)
        stream = Stream(after, stream.now, inputs, memory, learnt, jnp.array(False), stream.key)
        return stream, activity[network.readout]

    def gradient(
        self, network: Network, stream: Stream, credit: Float[Array, "batch readout"]
    ) -> tuple[Stream, Network]:
        """Turns the credit of the latest outputs into the gradient of every parameter.

        Args:
            network: The network, as in the latest step.
            stream: The stream after that step.
            credit: Derivative of the loss with respect to the outputs of the latest step, `"batch readout"`.

        Returns:
            The stream (rules with parameters of their own learn here), and the gradient, with the structure of the
            network's trainable leaves.

        Raises:
            ValueError: If the shape of `credit` is not that of the outputs.
        """
        _check_shape("credit", credit, (stream.inputs.shape[0], network.populations[network.readout].size))
        params, rest = eqx.partition(network, network.trainable())
        moments, pull = jax.vjp(lambda params: eqx.combine(params, rest).moments(), params)
        at = self._linearise(network, moments, stream)
        gradient, memory, learnt = self.contract(
            network, moments, at, stream.memory, {network.readout: credit}, stream.learnt
        )
        (by_weights,) = pull(_complete(gradient.weights, moments))
        here = _assemble(network, gradient, params)
        total = jax.tree.map(jnp.add, by_weights, here)
        return dataclasses.replace(stream, memory=memory, learnt=learnt), total

    def _linearise(self, network: Network, moments: dict[str, Moments], stream: Stream) -> Linearised:
        batch = stream.inputs.shape[0]
        noise = draw_noise(network, moments, stream.before.step, batch, stream.inputs.dtype, stream.key, {})
        return linearise(network, moments, stream.before, stream.inputs, noise, credit=self.paths)

    def unroll(
        self,
        network: Network,
        moments: dict[str, Moments],
        state: State,
        inputs: Float[Array, "time batch input"],
        **options: Any,
    ) -> Trajectory:
        """Runs the network; differentiating gives the sum of the gradients that the rule makes step by step.

        Raises:
            ValueError: If weights are drawn anew in each step, or credit is asked for inputs, drive, or an initial
                state that learns.
        """
        at_once = _trials_at_once(self, network, moments, from_state(network, state), inputs.shape[1])
        self.check(network, at_once, inputs.dtype.itemsize)
        return unroll_replayed(self, network, moments, state, inputs, **options)

    def replay(
        self, network: Network, moments: dict[str, Moments], now: Now, given: Given, key: Key[Array, ""] | None
    ) -> tuple[Gradient, PyTree]:
        """The gradient of a trial, step by step forward in time; see `unroll_replayed`."""
        batch = given.inputs.shape[1]
        # Draws of noise follow the key the network was given; the rule's own draws need one too.
        own = jr.key(0) if key is None else key
        nothing = no_gradient(network, moments)
        at_once = _trials_at_once(self, network, moments, now, batch)

        def run(first):
            """The gradient that some trials make, and the rule's own parameters after them."""

            def cut(tree, axis):
                if at_once == batch:
                    return tree
                return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, at_once, axis), tree)

            here = Now(cut(now.neurons, 0), cut(now.older, 1), cut(now.inputs, 1), cut(now.idle, 0), now.step)

            def advance(carry, given):
                now, memory, learnt, total = carry
                drawn = draw_noise(network, moments, now.step, batch, given.inputs.dtype, key, given.noise)
                inputs, drive, credit, drawn = cut((given.inputs, given.drive, given.credit, drawn), 0)
                at = linearise(network, moments, now, inputs, drawn, credit=self.paths, drive=drive)
                gradient, memory, learnt = self.contract(network, moments, at, memory, credit, learnt)
                total = jax.tree.map(jnp.add, total, gradient)
                memory, learnt = self.push(network, moments, at, memory, learnt, _own_key(own, now.step))
                return (at.after, memory, learnt, total), None

            start = (here, self.begin(network, moments, here), self.learnt, nothing)
            (_, _, after, total), _ = jax.lax.scan(advance, start, given)
            return total, after

        if at_once == batch:
            return run(0)
        turns = jnp.arange(0, batch, at_once)
        total, _ = jax.lax.scan(lambda sum, first: (jax.tree.map(jnp.add, sum, run(first)[0]), None), nothing, turns)
        return total, None


def unroll_replayed(
    rule: Any,
    network: Network,
    moments: dict[str, Moments],
    state: State,
    inputs: Float[Array, "time batch input"],
    *,
    key: Key[Array, ""] | None = None,
    noise: dict[str, Float[Array, "time batch channel"]],
    drive: dict[str, Float[Array, "time batch channel"]],
    resample: Any = None,
    readout_steps: int | None = None,
    record: tuple[str, ...] = (),
) -> Trajectory:
    """Runs the network; when the credit of all outputs is known, the rule runs it again and makes the gradient.

    Args:
        rule: A rule with a method `replay(network, moments, now, given, key)`, which returns the gradient and the
            rule's own parameters after the trial (`None` if it has none).
        network: The network; this and what follows as for `retrograde.unroll.unroll`.

    Raises:
        ValueError: If weights are drawn anew in each step, or credit is asked for inputs, drive, or an initial state
            that learns.
    """
    if resample is not None:
        raise ValueError(f'`{type(rule).__name__}` needs fixed weights: use `weights="mean-field"` or "quenched".')
    first = rule.init(network)
    ready = rule if rule.learnt is not None or first is None else rule.with_learnt(first)
    learnt, rule = eqx.partition(ready, eqx.is_inexact_array)
    held = jax.lax.stop_gradient(noise)
    return _run((network, moments, learnt, state, inputs, drive), rule, key, held, readout_steps, record)


@eqx.filter_custom_vjp
def _run(differentiated, rule, key, noise, readout_steps, record):
    network, moments, _, state, inputs, drive = differentiated
    return unroll(
        network, moments, state, inputs, key=key, noise=noise, drive=drive, readout_steps=readout_steps, record=record
    )


@_run.def_fwd
def _run_forward(perturbed, differentiated, rule, key, noise, readout_steps, record):
    for what, flags in zip(("an initial state that learns", "inputs", "`drive`"), perturbed[3:], strict=True):
        if any(jax.tree.leaves(flags)):
            raise ValueError(
                f"`{type(rule).__name__}` gives credit to weights and neurons, and gives no credit to {what}; use "
                "`BPTT()`, or keep it constant."
            )
    return _run(differentiated, rule, key, noise, readout_steps, record), None


@_run.def_bwd
def _run_backward(_, cotangent, perturbed, differentiated, rule, key, noise, readout_steps, record):
    network, moments, learnt, state, inputs, drive = differentiated
    rule = eqx.combine(rule, learnt)
    steps = inputs.shape[0]
    now = from_state(network, state)
    outputs = cotangent.outputs
    recorded = cotangent.activity or {}
    credits: dict[str, Any] = {name: credit for name, credit in recorded.items() if credit is not None}
    if outputs is not None:
        early = jnp.zeros((steps - outputs.shape[0], *outputs.shape[1:]), outputs.dtype)
        outputs = jnp.concatenate([early, outputs])
        credits[network.readout] = outputs + credits[network.readout] if network.readout in credits else outputs
    total, after = rule.replay(network, moments, now, Given(inputs, noise, drive, credits), key)
    whole = _complete(total.weights, moments)
    here = _assemble(network, total, eqx.filter(network, eqx.is_inexact_array))
    # What the rule has learnt leaves by the way of a gradient: old minus new.
    change = learnt if after is None else learnt.with_learnt(jax.tree.map(jnp.subtract, rule.learnt, after))
    none = jax.tree.map(jnp.zeros_like, eqx.filter((state, inputs, drive), eqx.is_inexact_array))
    return here, whole, change, *none


def _trials_at_once(
    rule: AbstractOnlineRule, network: Network, moments: dict[str, Moments], now: Now, batch: int
) -> int:
    """How many trials to run side by side: all, or on a CPU as many as have a memory that fits into its cache."""
    if not rule.apart or jax.default_backend() != "cpu":
        return batch
    memory = jax.eval_shape(lambda: rule.begin(network, moments, now))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(memory))
    fitting = [n for n in range(2, batch + 1) if batch % n == 0 and n * size <= batch * _CACHE]
    return max(fitting, default=1)


def _check_shape(what: str, array: Array, wanted: tuple[int, ...]) -> None:
    if jnp.shape(array) != wanted:
        raise ValueError(f"`{what}` must have shape {wanted} in this stream, got {jnp.shape(array)}.")


def _own_key(key: Key[Array, ""], step: Int[Array, ""]) -> Key[Array, ""]:
    return jr.fold_in(jr.fold_in(key, _RULE_STREAM), step)


def learning(network: Network) -> list[str]:
    """Projections whose weights learn, by name."""

    def has_parameters(synapse) -> bool:
        owner = network.projections[synapse.to].synapse if isinstance(synapse, Tied) else synapse
        return any(map(eqx.is_inexact_array, jax.tree.leaves(owner)))

    return [name for name, p in network.projections.items() if not p.frozen and has_parameters(p.synapse)]


def no_gradient(network: Network, moments: dict[str, Moments]) -> Gradient:
    """Zeros for all that learns."""
    own_parameters = eqx.filter(network.populations, eqx.is_inexact_array)
    weights = {name: jax.tree.map(jnp.zeros_like, moments[name]) for name in learning(network)}
    return Gradient(weights, jax.tree.map(jnp.zeros_like, own_parameters))


def channels(network: Network, name: str) -> Int[np.ndarray, " row"]:
    """Which of its target's currents (ports × neurons) each row of a projection's weights adds to."""
    projection = network.projections[name]
    neuron = network.populations[projection.target]
    start, stop = projection.target_slice or (0, neuron.size)
    ports = [neuron.ports.index(port) for port in projection.ports or neuron.ports]
    return np.concatenate([port * neuron.size + np.arange(start, stop) for port in ports])


def weight_gradient(
    network: Network,
    moments: dict[str, Moments],
    at: Linearised,
    name: str,
    mean: Float[Array, "batch row"],
    variance: Float[Array, "batch row"] | None,
) -> Moments:
    """Gradient of a projection's weights from the credit of its currents, in this step.

    Args:
        network: The network.
        moments: Its virtual weights.
        at: The step.
        name: The projection.
        mean: Credit with respect to the mean of its currents, row by row.
        variance: The same with respect to their variance, if they fluctuate.
    """
    pre = at.pre[name]

    def products(credit, pre):
        return jnp.sum(credit * pre, 0) if moments[name].mean.ndim == 1 else credit.T @ pre

    return Moments(products(mean, pre), None if variance is None else products(variance, pre**2))


def direct(
    network: Network,
    moments: dict[str, Moments],
    at: Linearised,
    currents: dict[str, Float[Array, "batch current"]],
    neurons: dict[str, Any],
) -> Gradient:
    """Gradient through the use of the parameters in this very step, from the credit of the currents."""
    weights = {}
    for name in learning(network):
        rows, target = channels(network, name), network.projections[name].target
        mean, slopes = currents[target][:, rows], at.slopes[target]
        variance = None if moments[name].variance is None else mean * slopes[:, rows]
        weights[name] = weight_gradient(network, moments, at, name, mean, variance)
    return Gradient(weights, neurons)


def all_credit(network: Network, at: Linearised, credit: dict[str, Array]) -> dict[str, Array]:
    """The credit of every population's activity: 0 where there is none."""
    return {name: credit.get(name, jnp.zeros_like(active)) for name, active in at.activity.items()}


def _complete(weights: dict[str, Moments], moments: dict[str, Moments]) -> dict[str, Moments]:
    return {name: weights.get(name, jax.tree.map(jnp.zeros_like, m)) for name, m in moments.items()}


def _assemble(network: Network, gradient: Gradient, like: PyTree) -> PyTree:
    """A gradient of the network's own arrays: parameters of neurons, and feedback that learns with its weights."""
    whole = jax.tree.map(jnp.zeros_like, like)
    whole = eqx.tree_at(lambda n: n.populations, whole, _like(gradient.neurons, whole.populations))
    for name, projection in network.projections.items():
        is_learning = isinstance(projection.feedback, Adaptive) and name in gradient.weights
        if is_learning and jax.tree.leaves(whole.projections[name].feedback):
            whole = eqx.tree_at(
                lambda n, name=name: n.projections[name].feedback.weight, whole, gradient.weights[name].mean
            )
    return whole


def _like(gradients: PyTree, wanted: PyTree) -> PyTree:
    return jax.tree.map(lambda w, g: None if w is None else g, wanted, gradients, is_leaf=lambda leaf: leaf is None)
