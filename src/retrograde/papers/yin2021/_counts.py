"""Sizes of the networks, and what they would cost in energy."""

# mypy: disable-error-code="call-arg"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

from collections.abc import Mapping

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from matplotlib.figure import Figure

from retrograde import analysis
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.yin2021 import _ecg as ecg
from retrograde.plots import MARKERS, colour
from retrograde.tasks import ECG

Layer = tuple[int, int, bool]  # inputs, units, whether recurrent

# Layers of the authors' published networks, kind of the hidden ones, and the rates that their notebooks print: spikes
# of an input (`None`: pixels, which are analogue) and of a unit of each layer in a step.
NETWORKS: Mapping[str, tuple[tuple[Layer, ...], str, tuple[float | None, ...]]] = {
    "ECG": (((4, 36, True), (36, 6, False)), "lif", (0.0763, 0.344, 0.2)),
    "S-MNIST": (
        ((8, 64, True), (64, 256, True), (256, 256, False), (256, 10, False)),
        "alif",
        (None, 0.119, 0.073, 0.042, 0.18),
    ),
    "PS-MNIST": (
        ((4, 64, True), (64, 256, True), (256, 256, False), (256, 10, False)),
        "alif",
        (None, 0.117, 0.042, 0.015, 0.181),
    ),
}
PRICES = analysis.ENERGY_PER_OPERATION


def spiking(layers: tuple[Layer, ...], kind: str, rates: tuple[float | None, ...]) -> analysis.StepOperations:
    """Operations of a spiking network in a step; its last layer adapts."""
    total = analysis.StepOperations()
    for number, (inputs, units, recurrent) in enumerate(layers):
        total += analysis.layer_operations(
            "alif" if number == len(layers) - 1 else kind,
            inputs,
            units,
            recurrent=recurrent,
            input_rate=rates[number],
            rate=rates[number + 1],
        )
    return total


def analogue(layers: tuple[Layer, ...], kind: str) -> analysis.StepOperations:
    """Operations of an analogue network of the same shape; what does not recur is a plain layer."""
    total = analysis.StepOperations()
    for inputs, units, recurrent in layers:
        total += analysis.layer_operations(kind if recurrent else "rnn", inputs, units, recurrent=recurrent)
    return total


def measure_energy(lab: Lab) -> Finding:
    """How many times less energy spiking networks need than an LSTM of their shape, from rates published and ours."""
    values, arrays = {}, {}
    for name, (layers, kind, rates) in NETWORKS.items():
        ours, lstm = spiking(layers, kind, rates), analogue(layers, "lstm")
        ratios = [lstm.energy(price) / ours.energy(price) for price in PRICES.values()]
        values[name.lower().replace("-", "_")] = np.array(ratios[:1])
        arrays[name] = np.array([[op.energy(price) for op in (ours, lstm)] for price in PRICES.values()])
    task, (layers, *_) = ECG(), NETWORKS["ECG"]
    trials = task.take(jnp.arange(lab.pick(smoke=4, laptop=64, paper=64), dtype=jnp.int32), "test")
    found, costs = [], []
    for result, _ in lab.once(ecg.TRAINED[ecg.MAIN]):
        used = analysis.energy(result.network, trials.inputs, key=jr.key(0))
        costs.append([[used.energy(price), analogue(layers, "lstm").energy(price)] for price in PRICES.values()])
        found.append(costs[-1][0][1] / costs[-1][0][0])
    return Finding(
        {**values, "ours": np.array(found)}, {**arrays, "ECG, trained here": np.mean(np.array(costs), axis=0)}
    )


def draw_energy(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Energy of a step, spiking and LSTM, at two prices of an operation."""
    for axis, (ax, price) in enumerate(zip(figure.subplots(1, 2, sharey=True), PRICES, strict=True)):
        for number, label in enumerate(("spiking", "LSTM of the same shape")):
            values = [energy[axis, number] / 1000 for energy in arrays.values()]
            ax.plot(range(len(values)), values, MARKERS[number], color=colour(number), label=label)
        ax.set_xticks(range(len(arrays)), [name.replace(", ", ",\n") for name in arrays], fontsize=8)
        ax.set(yscale="log", title=price, xlim=(-0.5, len(arrays) - 0.5))
        ax.set_ylabel("energy of a step (nJ)" if axis == 0 else "")
        ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=8)


def measure_trade_off(lab: Lab) -> Finding:
    """Accuracy within 60 epochs, firing rate and energy, by the strength of a penalty on firing rates."""
    task = ECG()
    trials = task.take(jnp.arange(64, dtype=jnp.int32), "test")
    points = {}
    for strength, study in ecg.SPARSE.items():
        epoch, accuracy = ecg.accuracies(lab.once(study))
        best = accuracy[:, epoch <= lab.pick(smoke=60, laptop=60, paper=400)].max(axis=1)
        used = [analysis.energy(result.network, trials.inputs, key=jr.key(0)) for result, _ in lab.once(study)]
        rate = [float(one.activity["hidden"].rate.mean()) for one in used]
        energy = [one.energy(PRICES["float32"]) for one in used]
        points[f"{strength:g}"] = np.stack([rate, energy, best])
    none, strong = points["0"], list(points.values())[-1]
    return Finding(
        {"rate": strong[0], "energy": none[1] / strong[1], "lost": none[2] - strong[2]},
        points,
    )


def draw_trade_off(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Accuracy against firing rate, and against energy; a point for each network."""
    left, right = figure.subplots(1, 2, sharey=True)
    for number, (strength, (rate, energy, accuracy)) in enumerate(arrays.items()):
        style = {"color": colour(number), "label": f"penalty {strength}" if float(strength) else "no penalty"}
        left.plot(rate, 100 * accuracy, MARKERS[number], **style)
        right.plot(energy / 1000, 100 * accuracy, MARKERS[number], **style)
    left.set(xlabel="hidden spikes per neuron and step", ylabel="right steps of the test (%)")
    right.set(xlabel="energy of a step (nJ, 32-bit float)")
    right.legend(frameon=False, fontsize=8)
    for ax in (left, right):
        ax.grid(alpha=0.3)


def measure_sizes(lab: Lab) -> Finding:
    """Number of weights, biases included."""
    weights, constants = ecg.sizes(ecg.network(lab.key(), ecg.SURROGATES[ecg.MAIN]))
    return Finding(
        {"weights": np.array([float(weights)]), "constants": np.array([float(constants)])},
        {"weights": np.array(weights), "constants": np.array(constants)},
    )


def draw_sizes(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Two bars."""
    ax = figure.subplots()
    ax.barh(["weights and biases", "trained time constants"], [int(arrays["weights"]), int(arrays["constants"])])
    ax.set(xlabel="parameters")
