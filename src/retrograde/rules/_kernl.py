"""Kernel RNN learning."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..network import Network
from ..stepping import from_state
from ..synapses import Moments
from ._influence import zero_currents, zero_memory
from ._online import AbstractOnlineRule, Gradient, all_credit, channels, direct, learning
from ._traces import derivatives, is_filtered


class Kernel(eqx.Module):
    """How a neuron's state is taken to act on others later.

    Attributes:
        strength: Influence of a neuron (second axis) on a neuron (first axis) [1].
        rate: Share of it that is lost in a step [1].
    """

    strength: Float[Array, "to from"]
    rate: Float[Array, " from"]


class Probe(eqx.Module):
    """Traces, and the answer of the network to noise from which the kernel is learnt.

    Attributes:
        weights: By projection, traces of mean and variance (or `None`) of its weights, `"batch post pre"`.
        neurons: By population, traces of its trainable arrays, `"batch neuron"`.
        answer: Change of the memory by all noise so far.
        noise: The noise, filtered by the kernel's decay, `"batch neuron"`.
        slope: Derivative of that with respect to the rates, `"batch neuron"`.
    """

    weights: dict[str, tuple[Array, Array | None]]
    neurons: dict[str, list[Array]]
    answer: Any
    noise: Float[Array, "batch neuron"]
    slope: Float[Array, "batch neuron"]


class KeRNL(AbstractOnlineRule):
    r"""Kernel RNN learning: the influence of a neuron on others is a learnt strength that decays exponentially.

    $\partial s^k_{t+\Delta}/\partial s^i_t \approx A_{ki}\,\kappa_i^\Delta$, $\kappa_i = \max(0, 1-\alpha_i)$, so

    $$B^{ij}_t = \kappa_i B^{ij}_{t-1} + \frac{\partial s^i_t}{\partial I^i_t} z^j_{t-1}, \qquad
      \frac{dL_t}{dW_{ij}} \approx [A^\top q_t]_i\,B^{ij}_t, \quad q_t = \frac{\partial L_t}{\partial s_t}.$$

    $A$ and $\alpha$ learn by descent on how well they predict what noise $\zeta$ does to the network,
    $\tfrac12|A\Omega - \Delta s|^2$ with $\Omega_t = \kappa\Omega_{t-1} + \zeta_t$ and
    $\Delta s_t = J_t\Delta s_{t-1} + \zeta_t$.

    Attributes:
        rate: Learning rate of $A$ and $\alpha$ [1]; 0 freezes them.
        decay: First $\alpha$ of all neurons [1].
        reset: Steps after which the noise's effects are forgotten, or `None` for never [1].
        learnt: The kernel; from `init` if `None`.

    Raises:
        ValueError: If `rate` is negative or `decay` outside [0, 1], a population has more than one state variable or
            is read with a delay of more than one step, or the readout filters what other populations send.

    Source:
        Roth, Kanitscheider & Fiete (2019), ICLR; as in Marschall, Cho & Savin (2020), JMLR 21. Differs: the noise's
        effect is linearised (the limit of small noise, so that its size plays no part), and enters prediction and
        observation in the same step.
    """

    rate: float = eqx.field(static=True, default=1e-2)
    decay: float = eqx.field(static=True, default=0.8)
    reset: int | None = eqx.field(static=True, default=None)
    learnt: Any = None

    def __check_init__(self):
        if self.rate < 0 or not 0 <= self.decay <= 1:
            raise ValueError(
                f"`KeRNL(rate={self.rate}, decay={self.decay})`: `rate` must not be negative, `decay` lie in [0, 1]."
            )
        if self.reset is not None and self.reset < 1:
            raise ValueError(f"`KeRNL(reset={self.reset})` is a number of steps, 1 or more, or `None`.")

    def check(self, network: Network, batch: int, itemsize: int) -> None:
        """Refuses neurons with several state variables, long delays, and leaky readouts."""
        if is_filtered(network):
            raise ValueError(
                f"`KeRNL` needs a memoryless readout such as `Linear`: the way through what "
                f"{network.readout!r} remembers would have to be learnt before any credit arrives. Use `EProp` or "
                "`UORO`."
            )
        now = jax.eval_shape(lambda: from_state(network, network.initial_state(1)))
        for name, state in now.neurons.items():
            if len(jax.tree.leaves(state)) > 1:
                kind = type(network.populations[name]).__name__
                raise ValueError(
                    f"`KeRNL` needs neurons with one state variable; {name!r} ({kind}) has "
                    f"{len(jax.tree.leaves(state))}. Use `EProp` or `UORO`."
                )
        if now.older:
            raise ValueError(
                f"`KeRNL` knows no delays of more than one step, which {', '.join(map(repr, now.older))} has."
            )

    def init(self, network: Network) -> Kernel:
        """Neurons that act on themselves alone."""
        now = jax.eval_shape(lambda: from_state(network, network.initial_state(1)))
        size = sum(leaf.shape[1] for leaf in jax.tree.leaves(now.memory))
        dtype = jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))[0].dtype
        return Kernel(jnp.eye(size, dtype=dtype), jnp.full((size,), self.decay, dtype))

    def begin(self, network, moments, now):
        """No traces, no noise."""
        flat = _joined(zero_memory(now))
        batch, dtype = flat.shape[0], flat.dtype
        weights, neurons = {}, {}
        for name in learning(network):
            if network.projections[name].target in now.neurons:
                zeros = jnp.zeros((batch, *moments[name].mean.shape), dtype)
                weights[name] = (zeros, None if moments[name].variance is None else zeros)
        for name in now.neurons:
            own = eqx.filter(network.populations[name], eqx.is_inexact_array)
            neurons[name] = [jnp.zeros((batch, *leaf.shape), dtype) for leaf in jax.tree.leaves(own)]
        return Probe(weights, neurons, zero_memory(now), jnp.zeros_like(flat), jnp.zeros_like(flat))

    def push(self, network, moments, at, memory, learnt, key):
        """Traces after a step; the kernel learns from noise."""
        weights, neurons = self._traces(network, moments, at, memory, learnt)
        keep, none = jnp.maximum(0, 1 - learnt.rate), zero_currents(network, at)
        zeta = jr.normal(key, memory.noise.shape, memory.noise.dtype)
        slope = keep[None] * memory.slope - memory.noise
        noise = keep[None] * memory.noise + zeta
        answer = jax.tree.map(jnp.add, at.push(memory.answer, none), _split(zeta, at.before.memory))
        error = noise @ learnt.strength.T - _joined(answer)
        batch = zeta.shape[0]
        by_rate = jnp.mean((error @ learnt.strength) * slope, 0)
        learnt = Kernel(
            learnt.strength - self.rate * error.T @ noise / batch,
            learnt.rate - self.rate * by_rate,
        )
        if self.reset is not None:
            stays = (at.after.step % self.reset != 0).astype(noise.dtype)
            noise, slope = stays * noise, stays * slope
            answer = jax.tree.map(lambda leaf: stays * leaf, answer)
        return Probe(weights, neurons, answer, noise, slope), learnt

    def _traces(self, network, moments, at, memory, learnt):
        """Traces after a step."""
        places = _places(at.before.memory)
        keep = jnp.maximum(0, 1 - learnt.rate)
        weights, neurons = {}, {}
        for name, pair in memory.weights.items():
            target, rows, pre = network.projections[name].target, channels(network, name), at.pre[name]
            cells = rows % network.populations[target].size
            effects = derivatives(network, at, target, {}, diagonal=False).currents
            own = jnp.concatenate(jax.tree.leaves(effects), axis=1)[:, rows]  # port by port, as the rows are
            kept = keep[places[target]][cells]
            is_matrix = moments[name].mean.ndim == 2
            new = []
            for kind, trace in enumerate(pair):
                if trace is None:
                    new.append(None)
                    continue
                used = own * at.slopes[target][:, rows] if kind else own
                read = pre ** (kind + 1)
                if is_matrix:
                    new.append(kept[None, :, None] * trace + used[..., None] * read[:, None])
                else:
                    new.append(kept[None] * trace + used * read)
            weights[name] = tuple(new)
        parameters = eqx.filter(network.populations, eqx.is_inexact_array)
        leaves, structure = jax.tree.flatten(parameters)
        position = 0
        for name, population in parameters.items():
            count = len(jax.tree.leaves(population))
            if name in memory.neurons:
                neurons[name] = []
                for number in range(count):
                    units = [
                        jnp.ones_like(x) if i == position + number else jnp.zeros_like(x) for i, x in enumerate(leaves)
                    ]
                    (used,) = jax.tree.leaves(at.push_parameters(jax.tree.unflatten(structure, units))[0][name])
                    neurons[name].append(keep[places[name]][None] * memory.neurons[name][number] + used)
            position += count
        return weights, neurons

    def contract(self, network, moments, at, memory, credit, learnt):
        """Credit of the states, by the kernel to each neuron, times its traces."""
        now = all_credit(network, at, credit)
        _, currents, used = at.pull(zero_memory(at), now)
        total = direct(network, moments, at, currents, used)
        of_weights, of_neurons = self._traces(network, moments, at, memory, learnt)
        signals = _joined(at.pull_activity(now)) @ learnt.strength
        places = _places(at.before.memory)
        weights, neurons = dict(total.weights), dict(total.neurons)
        for name, pair in of_weights.items():
            target = network.projections[name].target
            signal = signals[:, places[target]][:, channels(network, name) % network.populations[target].size]
            letters = "br,brm->rm" if moments[name].mean.ndim == 2 else "br,br->r"
            found: Any = [None if trace is None else jnp.einsum(letters, signal, trace) for trace in pair]
            weights[name] = Moments(*found)
        for name, traces in of_neurons.items():
            own = eqx.filter(network.populations[name], eqx.is_inexact_array)
            found = [jnp.sum(signals[:, places[name]] * trace, 0) for trace in traces]
            neurons[name] = jax.tree.unflatten(jax.tree.structure(own), found)
        return Gradient(weights, neurons), memory, learnt


def _joined(memory: Any) -> Float[Array, "batch neuron"]:
    return jnp.concatenate(jax.tree.leaves(memory), axis=1)


def _split(flat: Float[Array, "batch neuron"], like: Any) -> Any:
    leaves, structure = jax.tree.flatten(like)
    ends = [sum(leaf.shape[1] for leaf in leaves[: i + 1]) for i in range(len(leaves) - 1)]
    return jax.tree.unflatten(structure, jnp.split(flat, ends, axis=1))


def _places(memory: Any) -> dict[str, slice]:
    """Where each population stands in the joined memory."""
    neurons, _ = memory
    places, start = {}, 0
    for name in sorted(neurons):  # the order of a tree's leaves
        (leaf,) = jax.tree.leaves(neurons[name])
        places[name] = slice(start, start + leaf.shape[1])
        start += leaf.shape[1]
    return places
