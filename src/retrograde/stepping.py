"""A network one step at a time, and its linearisation: what rules that run forward in time are made of."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from .noise import normal
from .synapses import Moments
from .unroll import (
    Credit,
    State,
    add,
    advance,
    feedback_matrices,
    fluctuation,
    noise_stream,
    noise_to_sigma,
    place,
    read,
    transmit_inside,
)

if TYPE_CHECKING:
    from .network import Network


class Now(eqx.Module):
    """Where a network stands between two steps.

    Attributes:
        neurons: State of each population that the future depends on, `"batch neuron"`.
        older: Activity before the latest one, of each population that is read with a delay of 2 steps or more, oldest
            first, `"delay batch neuron"`. (The latest activity is that of the state.)
        inputs: Latest inputs, oldest first, `"delay batch input"`.
        idle: State of the others: memoryless, and read by nobody later, `"batch neuron"`.
        step: Number of steps taken [1].
    """

    neurons: dict[str, Any]
    older: dict[str, Float[Array, "delay batch neuron"]]
    inputs: Float[Array, "delay batch input"] | None
    idle: dict[str, Any]
    step: Int[Array, ""]

    @property
    def memory(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What of it carries credit: states, and older activity."""
        return self.neurons, self.older


def from_state(network: "Network", state: State) -> Now:
    """Reads a state as the loops keep it."""
    history = {name: past for name, past in state.history.items() if name != "input"}
    idle = {name for name, neuron in network.populations.items() if neuron.stateless and name not in history}
    return Now(
        neurons={name: s for name, s in state.neurons.items() if name not in idle},
        older={name: past[:-1] for name, past in history.items() if past.shape[0] > 1},
        inputs=state.history.get("input"),
        idle={name: s for name, s in state.neurons.items() if name in idle},
        step=state.step,
    )


@dataclasses.dataclass(frozen=True)
class Linearised:
    """One step, and its derivative at the point where it was made.

    Attributes:
        before: Where the network stood.
        after: Where it stands now.
        activity: Activity of every population, `"batch neuron"`.
        currents: Currents of every population, ports × neurons, `"batch current"`.
        slopes: Slope of each current on its variance, or `None` where there is none, `"batch current"`.
        pre: What each projection read, `"batch pre"`.
        push: `(change of memory, change of currents) -> change of memory`, linear.
        pull: The transpose of that and of the activities: `(credit of the memory after, credit of the activities) ->
            (credit of the memory before, credit of the currents, gradients of the neurons' parameters)`.
        pull_activity: `(credit of the activities) -> credit of the neurons after the step`, through what is
            seen of them in this step.
        push_parameters: Change of the neurons' parameters → change of memory.
        pull_parameters: `(credit of the memory after) -> gradients of the neurons' parameters`, trial by trial.
    """

    before: Now
    after: Now
    activity: dict[str, Float[Array, "batch neuron"]]
    currents: dict[str, Float[Array, "batch current"]]
    slopes: dict[str, Any]
    pre: dict[str, Float[Array, "batch pre"]]
    push: Callable[[PyTree, PyTree], PyTree]
    pull: Callable[[PyTree, PyTree], tuple[PyTree, PyTree, PyTree]]
    pull_activity: Callable[[PyTree], PyTree]
    push_parameters: Callable[[PyTree], PyTree]
    pull_parameters: Callable[[PyTree], PyTree]


class Noise(eqx.Module):
    """Standardised noise of one step, `"batch channel"` [1].

    Attributes:
        synaptic: That of the currents which fluctuate.
        state: That of the neurons whose state is noisy.
    """

    synaptic: dict[str, Float[Array, "batch channel"]]
    state: dict[str, Float[Array, "batch channel"]]


def draw_noise(
    network: "Network",
    moments: dict[str, Moments],
    step: Int[Array, ""],
    batch: int,
    dtype,
    key: Key[Array, ""] | None,
    given: dict[str, Float[Array, "batch channel"]],
) -> Noise:
    """Draws the noise of one step: the same as `retrograde.unroll.unroll` draws for it.

    Args:
        network: The network.
        moments: The virtual weights of every projection.
        step: Number of the step.
        batch: Number of trials.
        dtype: Floating type.
        key: Stream of the noise; `None` where none is drawn.
        given: Standardised noise of currents given in place of draws.

    Raises:
        ValueError: If a current fluctuates, and there is neither key nor given noise.
    """
    synaptic, state = {}, {}
    for name, neuron in network.populations.items():
        shape = (1, batch, neuron.size * len(neuron.ports))
        level = neuron.current_noise
        if key is not None and (not isinstance(level, float) or level != 0):
            state[name] = normal(key, step, shape, dtype, noise_stream(network, name) + 1)[0]
        if name in given:
            synaptic[name] = jax.lax.stop_gradient(given[name])
        elif any(p.target == name and moments[n].variance is not None for n, p in network.projections.items()):
            if key is None:
                raise ValueError(
                    f"The current of {name!r} fluctuates: pass `key=`, or `noise=` for this population too."
                )
            synaptic[name] = normal(key, step, shape, dtype, noise_stream(network, name))[0]
    return Noise(synaptic, state)


def step(
    network: "Network",
    moments: dict[str, Moments],
    now: Now,
    inputs: Float[Array, "batch input"],
    noise: Noise,
    *,
    credit: Credit = "open",
    drive: dict[str, Float[Array, "batch channel"]] | None = None,
    given: dict[str, Any] | None = None,
) -> tuple[Now, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Advances a network by one step; plain differentiation goes through it both ways.

    Args:
        network: The network.
        moments: The virtual weights of every projection.
        now: Where it stands.
        inputs: Input activity.
        noise: From `draw_noise`.
        credit: Which recurrent paths carry credit.
        drive: Further currents.
        given: States after the step of some populations, in place of what the step makes of them.

    Returns:
        Where it stands then; activities; currents; slopes of the currents on their variances; what each projection
        read.
    """
    batch, dtype = inputs.shape[0], inputs.dtype
    feedback = feedback_matrices(network, moments)
    states = {**now.neurons, **now.idle}
    past = {name: network.populations[name].activity(s)[None] for name, s in now.neurons.items()}
    past |= {name: jnp.concatenate([older, past[name]]) for name, older in now.older.items()}
    if now.inputs is not None:
        past["input"] = now.inputs
    activity: dict[str, Any] = {"input": inputs}
    currents: dict[str, Any] = {}
    slopes: dict[str, Any] = {}
    pre: dict[str, Any] = {}
    for stage in network.stages:
        for name in stage.populations:
            neuron = network.populations[name]
            shape = (batch, neuron.size * len(neuron.ports))
            mean = (drive or {}).get(name)
            variance = None
            for wire in stage.outer + stage.inner:
                if wire.target != name:
                    continue
                if wire.source == "bias":
                    pre[wire.name] = jnp.ones((batch, 1), dtype)
                else:
                    source = past[wire.source][-wire.delay] if wire.delay else activity[wire.source]
                    pre[wire.name] = read(wire, source)
                paths: Credit = credit if wire in stage.inner else "open"
                sent = transmit_inside(wire, paths, moments[wire.name], feedback.get(wire.name), pre[wire.name])
                mean = add(mean, place(wire, neuron, sent[0]))
                variance = add(variance, place(wire, neuron, sent[1]))
            if name in noise.state:
                level = neuron.current_noise
                level = level if isinstance(level, float) else jnp.asarray(level, dtype)[None]
                mean = add(mean, level * noise.state[name])
            current = jnp.broadcast_to(jnp.zeros((1, 1), dtype) if mean is None else mean, shape)
            slopes[name] = None
            if variance is not None:
                variance = jnp.broadcast_to(variance, shape)
                current = current + fluctuation(variance, noise.synaptic[name])
                slopes[name] = 0.5 * noise_to_sigma(variance, noise.synaptic[name])
            currents[name] = current
            if given and name in given:
                states[name], activity[name] = given[name], neuron.activity(given[name])
            else:
                states[name], activity[name] = advance(neuron, states[name], current)
    after = Now(
        neurons={name: states[name] for name in now.neurons},
        older={name: past[name][1:] for name in now.older},
        inputs=None if now.inputs is None else jnp.concatenate([now.inputs, inputs[None]])[1:],
        idle={name: states[name] for name in now.idle},
        step=now.step + 1,
    )
    del activity["input"]
    return after, activity, currents, slopes, pre


def linearise(
    network: "Network",
    moments: dict[str, Moments],
    now: Now,
    inputs: Float[Array, "batch input"],
    noise: Noise,
    *,
    credit: Credit = "open",
    drive: dict[str, Float[Array, "batch channel"]] | None = None,
) -> Linearised:
    """Advances a network by one step and keeps its derivative; arguments as for `step`."""
    batch = inputs.shape[0]
    parameters, rest = eqx.partition(network.populations, eqx.is_inexact_array)
    given = drive or {}
    still = {
        name: given.get(name, jnp.zeros((batch, neuron.size * len(neuron.ports)), inputs.dtype))
        for name, neuron in network.populations.items()
    }

    def run(memory, drive, parameters, now, inputs, noise) -> tuple[Any, Any]:
        now = dataclasses.replace(now, neurons=memory[0], older=memory[1])
        whole = eqx.tree_at(lambda n: n.populations, network, eqx.combine(parameters, rest))
        after, activity, *seen = step(whole, moments, now, inputs, noise, credit=credit, drive=drive)
        return (after.memory, activity), (after, *seen)

    point = (now.memory, still, parameters)

    def forward(memory, drive, parameters):
        return run(memory, drive, parameters, now, inputs, noise)

    (_, activity), push, (after, currents, slopes, pre) = jax.linearize(forward, *point, has_aux=True)
    _, pull, _ = jax.vjp(forward, *point, has_aux=True)
    no_memory, no_drive, no_parameters = jax.tree.map(jnp.zeros_like, point)

    def pull_parameters(credit_after):
        def one(credit_after, memory, drive, past, idle, inputs, noise):
            neurons, drive, idle, noise, cotangent = jax.tree.map(
                lambda x: x[None], (memory[0], drive, idle, noise, credit_after[0])
            )
            older, past, delayed = jax.tree.map(lambda x: x[:, None], (memory[1], past, credit_after[1]))
            here = Now(neurons, older, past, idle, now.step)

            def after(own):
                return run((neurons, older), drive, own, here, inputs[None], noise)[0][0]

            return jax.vjp(after, parameters)[1]((cotangent, delayed))[0]

        axes = ((0, 1), (0, 1), 0, 1, 0, 0, 0)
        return jax.vmap(one, in_axes=axes)(credit_after, now.memory, still, now.inputs, now.idle, inputs, noise)

    def pull_activity(credit_now):
        def see(neurons):
            return step(network, moments, now, inputs, noise, credit=credit, drive=drive, given=neurons)[1]

        return jax.vjp(see, after.neurons)[1](credit_now)[0]

    return Linearised(
        before=now,
        after=after,
        activity=activity,
        currents=currents,
        slopes=slopes,
        pre=pre,
        push=lambda memory, drive: push(memory, drive, no_parameters)[0],
        pull=lambda credit_after, credit_now: pull((credit_after, credit_now)),
        pull_activity=pull_activity,
        push_parameters=lambda parameters: push(no_memory, no_drive, parameters)[0],
        pull_parameters=pull_parameters,
    )
