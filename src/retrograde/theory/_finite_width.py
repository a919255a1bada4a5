"""Networks of finite width that start as `WideEnsemble` says: what its limit is held against."""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from ..network import Network, Projection
from ..neurons import LeakyRate, Linear
from ..synapses import Dense, SpikeAndSlab
from ..unroll import State
from ._tangent_kernel import WideEnsemble

IN, RECURRENT, OUT = "input->hidden", "hidden->hidden", "hidden->readout"


class FiniteEnsemble(NamedTuple):
    """A network as `WideEnsemble` has it, of finite width.

    Attributes:
        network: The network.
        rates: By how much gradient descent on the theory's parameters is faster than on these, for each array that is
            trained: the squares of their scales.
    """

    network: Network
    rates: Network


def finite_ensemble(start: WideEnsemble, neurons: int, channels: int, key: Key[Array, ""]) -> FiniteEnsemble:
    """Draws a network.

    Args:
        start: How it starts; without an ensemble for a readout.
        neurons: Its width.
        channels: Number of inputs.
        key: Seeds the weights.

    Raises:
        ValueError: If the readout is to be an ensemble.
    """
    if start.ensemble_readout:
        raise ValueError("`finite_ensemble` has a plain readout; take `WideEnsemble(ensemble_readout=False)`.")
    in_key, rec_key, out_key, xi_key = jr.split(key, 4)
    scale_in, scale_rec, scale_out = (
        start.sigma_in / channels**0.5,
        start.sigma_rec / neurons**0.5,
        start.sigma_out / neurons**0.5,
    )
    m = scale_rec * jr.normal(rec_key, (neurons, neurons))
    slab = SpikeAndSlab(m, jnp.full_like(m, start.pi), jr.uniform(xi_key, m.shape, maxval=2 * start.xi) / neurons)
    network = Network(
        {"hidden": LeakyRate(neurons, "relu", alpha=start.alpha), "readout": Linear(1)},
        [
            Projection("input", "hidden", Dense(scale_in * jr.normal(in_key, (neurons, channels)))),
            Projection("hidden", "hidden", slab, delay=1),
            Projection("hidden", "readout", Dense(scale_out * jr.normal(out_key, (1, neurons)))),
        ],
        inputs=channels,
        readout="readout",
    )
    params = eqx.filter(network, network.trainable())
    squares = [
        Dense(jnp.full((neurons, channels), scale_in**2)),
        SpikeAndSlab(jnp.full_like(m, scale_rec**2), jnp.ones_like(m), jnp.full_like(m, neurons**-2.0)),
        Dense(jnp.full((1, neurons), scale_out**2)),
    ]
    places = lambda network: [network.projections[name].synapse for name in (IN, RECURRENT, OUT)]  # noqa: E731
    return FiniteEnsemble(network, eqx.tree_at(places, params, squares))


def initial_state(start: WideEnsemble, network: Network, samples: int, key: Key[Array, ""]) -> State:
    """Draws a state before the first step for every sample."""
    plain = network.initial_state(samples)
    value = start.sigma_initial * jr.normal(key, (samples, network.populations["hidden"].size))
    return eqx.tree_at(
        lambda s: (s.neurons["hidden"].value, s.history["hidden"]), plain, (value, jax.nn.relu(value)[None])
    )


def _outputs(start, network, inputs, key):
    state_key, noise_key = jr.split(key)
    state = initial_state(start, network, inputs.shape[1], state_key)
    return network(inputs, state=state, key=noise_key, readout_steps=1).outputs[0, :, 0]


@partial(jax.jit, static_argnums=(0, 1))
def finite_kernel(
    start: WideEnsemble, neurons: int, inputs: Float[Array, "time sample channel"], key: Key[Array, ""]
) -> Float[Array, "sample other"]:
    r"""Computes $\sum_\theta \partial_\theta f(x)\,\partial_\theta f(x')$ of one network of finite width.

    Args:
        start: How it starts.
        neurons: Its width.
        inputs: What it sees [input].
        key: Seeds weights, states and noise.

    Returns:
        The kernel, whose mean over keys tends to `tangent_kernel(start, inputs).total` as the width grows.
    """
    net_key, run_key = jr.split(key)
    network, rates = finite_ensemble(start, neurons, inputs.shape[2], net_key)
    params, rest = eqx.partition(network, network.trainable())
    slopes = jax.jacrev(lambda params: _outputs(start, eqx.combine(params, rest), inputs, run_key))(params)

    def overlap(slope, rate):
        flat = slope.reshape(len(slope), -1)
        return (flat * rate.ravel()[None]) @ flat.T

    # a kernel without Ξ, as the limit's
    slopes = eqx.tree_at(lambda s: s.projections[RECURRENT].synapse.xi, slopes, replace_fn=jnp.zeros_like)
    return jnp.stack(jax.tree.leaves(jax.tree.map(overlap, slopes, rates))).sum(axis=0)


class FiniteTraining(NamedTuple):
    """How a network of finite width learns.

    Attributes:
        outputs: Before learning and after each update, mean over passes [output], `"step sample"`.
        change: Mean size of the change of m̃ of the recurrent weights since the beginning [1], `"step"`.
    """

    outputs: Float[Array, "step sample"]
    change: Float[Array, " step"]


@partial(jax.jit, static_argnums=(0, 1), static_argnames=("rate", "steps", "passes"))
def finite_training(
    start: WideEnsemble,
    neurons: int,
    inputs: Float[Array, "time sample channel"],
    targets: Float[Array, " train"],
    key: Key[Array, ""],
    *,
    rate: float,
    steps: int,
    passes: int = 1,
) -> FiniteTraining:
    r"""Trains one network by gradient descent on half the summed squared error of the training samples.

    Args:
        start: How it starts.
        neurons: Its width.
        inputs: What it sees [input], the training samples first.
        targets: What these shall give [output].
        key: Seeds weights, states and noise.
        rate: $\eta$, learning rate of $\tilde m$, $\pi$ and $\tilde\Xi$ [1/output²].
        steps: Number of updates.
        passes: Draws of states and noise that the outputs are averaged over, fresh in each update.
    """
    net_key, run_key = jr.split(key)
    network, rates = finite_ensemble(start, neurons, inputs.shape[2], net_key)
    first, rest = eqx.partition(network, network.trainable())

    def outputs(params, step):
        keys = jr.split(jr.fold_in(run_key, step), passes)
        network = eqx.combine(params, rest)
        return jax.lax.map(lambda key: _outputs(start, network, inputs, key), keys).mean(axis=0)

    def half_error(params, step):
        out = outputs(params, step)
        return 0.5 * jnp.sum((out[: targets.size] - targets) ** 2), out

    def size(params):
        weights = (params.projections[RECURRENT].synapse.m, first.projections[RECURRENT].synapse.m)
        return jnp.abs(weights[0] - weights[1]).mean() * neurons**0.5 / start.sigma_rec

    def update(params, step):
        (_, out), slopes = jax.value_and_grad(half_error, has_aux=True)(params, step)
        after = jax.tree.map(lambda p, slope, scale: p - rate * scale * slope, params, slopes, rates)
        after = eqx.filter(eqx.combine(after, rest).project(), network.trainable())
        return after, (out, size(params))

    last, (found, change) = jax.lax.scan(update, first, jnp.arange(steps))
    return FiniteTraining(
        jnp.concatenate([found, outputs(last, steps)[None]]), jnp.concatenate([change, size(last)[None]])
    )
