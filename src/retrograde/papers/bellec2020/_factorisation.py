"""The gradient is learning signals times eligibility traces: exactly, if the signals are total derivatives."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from matplotlib.figure import Figure

from retrograde.network import Network, Projection
from retrograde.neurons import ALIF, Linear
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.bellec2020._common import recurrent
from retrograde.plots import colour
from retrograde.rules import BPTT, EProp
from retrograde.synapses import Dense

STEPS, NEURONS, INPUTS = 60, 8, 5
FORMS = {"traces": "forward", "adjoint": "backward"}
LABELS = ("input->hidden", "hidden->hidden")


def network(key) -> Network:
    """Four LIF and four ALIF neurons with a refractory period; the reset carries no credit."""
    in_key, rec_key, out_key = jr.split(key, 3)
    hidden = ALIF(
        NEURONS,
        tau_mem=20.0,
        tau_adapt=500.0,
        threshold=0.62,
        beta=0.07 * (jnp.arange(NEURONS) >= NEURONS // 2).astype(jnp.result_type(float)),
        refractory=3,
        detach_reset=True,
        constants=("beta",),
    )
    return Network(
        {"hidden": hidden, "readout": Linear(1)},
        [
            Projection("input", "hidden", Dense(jr.normal(in_key, (NEURONS, INPUTS)))),
            Projection("hidden", "hidden", recurrent(rec_key, NEURONS), delay=1),
            Projection("hidden", "readout", Dense(jr.normal(out_key, (1, NEURONS)))),
        ],
        inputs=INPUTS,
        readout="readout",
    )


def _deviation(found: Network, expected: Network) -> float:
    """Largest difference of the gradients, relative to their largest entry, over both layers."""
    worst = 0.0
    for label in LABELS:
        pair = [jax.tree.leaves(one.projections[label].synapse)[0] for one in (found, expected)]
        worst = max(worst, float(jnp.abs(pair[0] - pair[1]).max() / jnp.abs(pair[1]).max()))
    return worst


def measure(lab: Lab) -> Finding:
    """Total derivatives of the loss by every spike, found by perturbing them, times traces; against BPTT."""
    deviations: dict[str, list[float]] = {name: [] for name in (*FORMS, "online_is_offline")}
    spikes = []
    with jax.enable_x64(True):
        for seed in range(lab.seeds):
            net = network(jr.key(seed))
            x = (jr.uniform(jr.key(1000 + seed), (STEPS, 1, INPUTS)) < 0.2).astype(float)
            target = jr.normal(jr.key(2000 + seed), (STEPS, 1, 1))
            signals, fired = _total_derivatives(net, x, target)
            spikes.append(float(fired.sum()))
            exact = _gradient(net, BPTT(), x, target, None)
            for name, form in FORMS.items():
                deviations[name].append(_deviation(_gradient(net, EProp(form), x, target, signals), exact))
            online, offline = (_gradient(net, EProp(form), x, target, None) for form in FORMS.values())
            deviations["online_is_offline"].append(_deviation(online, offline))
    arrays = {name: np.array(values) for name, values in deviations.items()}
    return Finding({**arrays, "spikes": np.array(spikes)}, arrays)


@eqx.filter_jit
def _gradient(net, rule, x, target, signals):
    """Of the loss; or, given learning signals, of their product with the spikes."""

    def loss(net):
        run = net(x, rule=rule, record=("hidden",))
        if signals is not None:
            return jnp.sum(signals * run.activity["hidden"])
        return 0.5 * jnp.sum((run.outputs - target) ** 2)

    return eqx.filter_grad(loss)(net)


@eqx.filter_jit
def _total_derivatives(net, x, target):
    """dE/dz of every spike, through all that reads it but the neuron itself; the network is run by hand for it."""
    weights = {name: moments.mean for name, moments in net.moments().items()}
    cell = net.populations["hidden"]

    def loss(extra):
        def step(carry, now):
            state, z = carry
            x, extra = now
            state = cell.step(state, x @ weights["input->hidden"].T + z @ weights["hidden->hidden"].T)
            spike = cell.activity(state)
            return (state, spike + extra), (spike, (spike + extra) @ weights["hidden->readout"].T)

        start = (cell.initial_state(1, x.dtype), jnp.zeros((1, NEURONS), x.dtype))
        _, (spikes, outputs) = jax.lax.scan(step, start, (x, extra))
        return 0.5 * jnp.sum((outputs - target) ** 2), spikes

    return jax.grad(loss, has_aux=True)(jnp.zeros((STEPS, 1, NEURONS), x.dtype))


def draw(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Deviations, on a logarithmic scale."""
    ax = figure.subplots()
    words = {
        "traces": "signals × traces\nagainst BPTT",
        "adjoint": "signals × adjoint form\nagainst BPTT",
        "online_is_offline": "e-prop by traces\nagainst its adjoint form",
    }
    for number, name in enumerate(words):
        values = np.maximum(arrays[name], 1e-18)
        ax.plot(np.full(len(values), number), values, "os^"[number], color=colour(number))
    ax.axhline(1e-12, color="grey", linestyle=":", linewidth=1)
    ax.set_xticks(range(3), words.values())
    ax.set(yscale="log", ylabel="relative deviation", xlim=(-0.5, 2.5))
