"""One trial of a trained network, seen from outside and from inside: spikes, answers, learning signals, traces."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from retrograde.network import Network
from retrograde.plots import colour, plot_raster
from retrograde.tasks import EvidenceAccumulation, Trials


@eqx.filter_jit
def _run(network: Network, trials: Trials) -> dict[str, Any]:
    """Everything in every step, and the traces of all input synapses onto the neuron that adapts most strongly."""
    weights = {name: moments.mean for name, moments in network.moments().items()}
    cell: Any = network.populations["hidden"]
    readout: Any = network.populations["readout"]
    alpha, rho = jnp.exp(-cell.dt / cell.tau_mem), jnp.exp(-cell.dt / cell.tau_adapt)

    def step(carry, x):
        (state, out, z), psi, p, slow = carry
        slow = rho * slow + psi[0][:, None] * (p - cell.beta[:, None] * slow)
        p = alpha * p + x
        state = cell.step(state, x @ weights["input->hidden"].T + z @ weights["hidden->hidden"].T)
        z, pull = jax.vjp(lambda v: cell.activity(eqx.tree_at(lambda s: s.v, state, v)), state.v)
        (psi,) = pull(jnp.ones_like(z))
        out = readout.step(out, z @ weights["hidden->readout"].T)
        trace = psi[0][:, None] * (p - cell.beta[:, None] * slow)
        return ((state, out, z), psi, p, slow), (z[0], readout.activity(out)[0], trace, slow)

    x = trials.inputs
    state = cell.initial_state(1, x.dtype)
    zero = jnp.zeros((1, cell.size), x.dtype)
    start = (
        (state, readout.initial_state(1, x.dtype), zero),
        zero,
        x[0] * 0,
        jnp.zeros((cell.size, x.shape[2]), x.dtype),
    )
    _, (z, y, trace, slow) = jax.lax.scan(step, start, x)
    probability = jax.nn.softmax(y)
    wanted = jax.nn.one_hot(trials.targets[:, 0], y.shape[1], dtype=y.dtype)
    recall = trials.targets.shape[0]
    error = jnp.zeros_like(y).at[-recall:].set(probability[-recall:] - wanted)
    return {
        "spikes": z,
        "probability": probability,
        "signal": error @ weights["hidden->readout"],
        "trace": trace,
        "slow": slow,
    }


def watch(network: Network, task: EvidenceAccumulation) -> dict[str, np.ndarray]:
    """What the figure shows: arrays of the first trial of the test that is answered right."""
    several = task.take(jnp.arange(16, dtype=jnp.int32), "test")
    outputs = network(several.inputs, readout_steps=task.target_steps).outputs
    is_right = outputs.mean(axis=0).argmax(axis=-1).astype(jnp.int32) == several.targets[0]
    trials = task.take(is_right.argmax()[None].astype(jnp.int32), "test")
    seen = jax.device_get(_run(network, trials))
    neurons = np.flatnonzero(np.asarray(network.populations["hidden"].beta))  # type: ignore[attr-defined]
    cues = slice(0, 2 * task.group)
    # Of the synapses that cues reach, those whose slow trace is largest when the recall begins.
    late = np.abs(seen["slow"][-task.target_steps][neurons, cues])
    order = np.argsort(late, axis=None)[::-1][:5]
    post, pre = np.unravel_index(order, late.shape)
    return {
        "inputs": np.asarray(trials.inputs[:, 0]),
        "spikes": seen["spikes"],
        "probability": seen["probability"][:, int(trials.targets[0, 0])],
        "signal": seen["signal"][:, neurons[::10]],
        "trace": seen["trace"][:, neurons[post], pre],
        "slow": seen["slow"][:, neurons[post], pre],
    }


def draw(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Rasters of input and network, the answer, learning signals, traces of five synapses and their slow part."""
    axes = figure.subplots(6, 1, sharex=True, height_ratios=(3, 4, 1.5, 1.5, 1.5, 1.5))
    plot_raster(arrays["inputs"], dt=1.0, ax=axes[0])
    plot_raster(arrays["spikes"], dt=1.0, ax=axes[1])
    curves = {
        "P(right answer)": arrays["probability"][:, None],
        "learning\nsignals": arrays["signal"],
        "eligibility\ntraces": arrays["trace"],
        "their slow\npart": arrays["slow"],
    }
    for number, (ax, (word, curve)) in enumerate(zip(axes[2:], curves.items(), strict=True)):
        ax.plot(curve, color=colour(number), linewidth=0.8, alpha=0.8)
        ax.set_ylabel(word, fontsize=8)
    axes[0].set(ylabel="input", xlabel="")
    axes[1].set(ylabel="LIF, ALIF", xlabel="")
    axes[2].set(ylim=(0, 1))
    axes[-1].set(xlabel="time (ms)")
