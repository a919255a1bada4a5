"""Handwritten digits, pixel by pixel, named by counted spikes."""

# mypy: disable-error-code="call-arg"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Key
from matplotlib.figure import Figure

from retrograde.network import Network, Projection
from retrograde.neurons import LeakyReadout, YinALIF
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.yin2021 import _ecg as ecg
from retrograde.plots import colour, plot_curves
from retrograde.rules import BPTT
from retrograde.synapses import Dense, Identity
from retrograde.tasks import SequentialDigits
from retrograde.training import Result, optimiser

Layers = Mapping[str, tuple[int, bool]]  # neurons, whether recurrent

LAYERS: Layers = {"first": (64, True), "second": (256, True), "third": (256, False)}
RATES = {"first": 0.119, "second": 0.073, "third": 0.042}  # of the authors' network, per neuron and step
ACCURACY = 0.987  # the paper's
BATCH, STEPS = 50, 2750
WEIGHTS, RECURRENT, CONSTANTS = 5e-4, 2.5e-5, 2e-3  # learning rates


def network(key: Key[Array, ""], layers: Layers = LAYERS, classes: int = 10) -> Network:
    """1 – 64, recurrent – 256, recurrent – 256 – 10, all adaptive, whose spikes are counted; biases as authors have."""

    def glorot(key, post, pre):
        limit = (6 / (post + pre)) ** 0.5
        return Dense(jr.uniform(key, (post, pre), minval=-limit, maxval=limit))

    def bias(size):
        return Dense(jnp.zeros((size, 1)))

    populations: dict[str, Any] = {}
    projections = []
    source, width = "input", 1
    for number, (name, (size, is_recurrent)) in enumerate({**layers, "readout": (classes, False)}.items()):
        in_key, rec_key, mem_key, adapt_key = jr.split(jr.fold_in(key, number), 4)
        populations[name] = YinALIF(
            size,
            tau_mem=20 + 5 * jr.normal(mem_key, (size,)),
            tau_adapt=700 + 25 * jr.normal(adapt_key, (size,)),
            initial=(0.0, 1.0),
        )
        projections += [
            Projection(source, name, glorot(in_key, size, width)),
            Projection("bias", name, bias(size), name=f"bias of {name}"),
        ]
        if is_recurrent:
            projections += [
                Projection(name, name, Dense(jr.orthogonal(rec_key, size)), delay=1),
                Projection("bias", name, bias(size), name=f"bias of recurrence of {name}"),
            ]
        source, width = name, size
    populations["count"] = LeakyReadout(classes, tau=math.inf)
    projections.append(Projection("readout", "count", Identity(classes)))
    return Network(populations, projections, inputs=1, readout="count")


@eqx.filter_jit
def _watch(network: Network, task: SequentialDigits, trials: int) -> dict[str, Array]:
    """Spikes per neuron and step of each layer, and of all hidden neurons."""
    inputs = task.take(jnp.arange(trials, dtype=jnp.int32), "validation").inputs
    activity = network(inputs, key=jr.key(0), record=tuple(LAYERS)).activity
    rates = {name: z.mean() for name, z in activity.items()}
    return {**rates, "hidden": jnp.concatenate(list(activity.values()), axis=-1).mean()}


def _train(lab: Lab) -> list[tuple[Result, dict[str, np.ndarray]]]:
    """Networks that read digits pixel by pixel, and their firing rates now and then, by seed."""
    if lab.scale == "paper":
        task = SequentialDigits(order="pixels", source="mnist", validation=1000)
        steps, batch, every, looked_at = STEPS, BATCH, 250, 200
    else:
        task = SequentialDigits(order="pixels", pool=4, validation=100)
        steps, batch, every, looked_at = 2, 8, 1, 8
    adam = optimiser(
        network,
        "adam",
        WEIGHTS,
        decay=0.0,
        halve_every=1500,
        groups={
            **{f"{name}->{name}.weight": {"learning_rate": RECURRENT} for name, (_, again) in LAYERS.items() if again},
            "*.tau_*": {"learning_rate": 2 * CONSTANTS},
            "readout.tau_adapt": {"learning_rate": 3 * CONSTANTS},
        },
    )
    return [
        lab.train(
            f"pixels-{seed}",
            network,
            task,
            watch=lambda network: _watch(network, task, looked_at),
            at=(*range(0, steps, 2 * every), steps),
            rule=BPTT(),
            optimiser=adam,
            steps=steps,
            key=lab.key(seed),
            batch=batch,
            log_every=max(1, every // 5),
            validate_every=every,
            validation_split="validation",
            checkpoint_every=every,
        )
        for seed in range(lab.seeds)
    ]


def measure(lab: Lab) -> Finding:
    """Test accuracy of networks that read pixels, and their firing rates, after training; and how they came about."""
    runs = _train(lab)
    weights, constants = ecg.sizes(network(lab.key()))
    batch = BATCH if lab.scale == "paper" else 8
    curves = {
        name: [result.history.measured(metric) for result, _ in runs]
        for name, metric in (("training", "accuracy"), ("validation", "validation_accuracy"))
    }
    rates = {name: np.stack([watched[name] for _, watched in runs]) for name in (*LAYERS, "hidden")}
    test = np.array([result.evaluate().accuracy for result, _ in runs])
    return Finding(
        {
            "weights": np.array([float(weights)]),
            "constants": np.array([float(constants)]),
            "test": test,
            "budget": test,
            **{f"rate_{name}": values[:, -1] for name, values in rates.items()},
        },
        {
            **{f"{name}.images": batch * found[0][0] for name, found in curves.items()},
            **{f"{name}.accuracy": np.concatenate([values for _, values in found]) for name, found in curves.items()},
            "rate.images": batch * runs[0][1]["step"],
            **{f"rate.{name}": rates[name] for name in LAYERS},
        },
    )


def draw(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Accuracy, and firing rates, against the images seen."""
    left, right = figure.subplots(1, 2)
    curves = {name: (arrays[f"{name}.images"], 100 * arrays[f"{name}.accuracy"]) for name in ("training", "validation")}
    plot_curves(curves, ylabel="right digits (%)", ax=left)
    for level in (100 * ACCURACY, 10):
        left.axhline(level, color="grey", linestyle=":", linewidth=1)
    left.set_ylim(0, 100)
    rates = {f"{name} layer": (arrays["rate.images"], arrays[f"rate.{name}"]) for name in LAYERS}
    plot_curves(rates, ylabel="spikes per neuron and step", ax=right)
    for number, rate in enumerate(RATES.values()):
        right.axhline(rate, color=colour(number), linestyle=":", linewidth=1)
    right.set_ylim(bottom=0)
    for ax in (left, right):
        ax.set_xlabel("images seen (thousands)")
        ax.xaxis.set_major_formatter(lambda images, _: f"{images / 1000:g}")
