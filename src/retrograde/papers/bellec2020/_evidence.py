"""Accumulating evidence: adaptive neurons bridge a delay that plain ones cannot."""

# mypy: disable-error-code="call-arg"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import math
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Key
from matplotlib.figure import Figure

from retrograde import losses
from retrograde.losses import FiringRate
from retrograde.network import Network, Projection
from retrograde.neurons import ALIF, LeakyReadout
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.bellec2020 import _trial as trial
from retrograde.papers.bellec2020._common import RULES, WORDS, recurrent
from retrograde.plots import colour, plot_curves
from retrograde.rules import BPTT, EProp
from retrograde.synapses import Dense
from retrograde.tasks import EvidenceAccumulation, decision_error
from retrograde.training import EarlyStop, Result

NEURONS, TAU_MEM = 100, 20.0
BETA = 1.7  # in the older, normalised form, as the authors' programs have it
SHORT = EvidenceAccumulation(cues=3, delay=300.0)
CONTROL = "lif"  # e-prop, symmetric, on neurons that do not adapt
ALL = {**WORDS, CONTROL: "no adaptation"}


def network(
    key: Key[Array, ""], task: EvidenceAccumulation, tau_adapt: float, adaptive: bool, detach_reset: bool
) -> Network:
    """The authors' network: 50 LIF and 50 ALIF neurons (or 100 LIF), all to all."""
    in_key, rec_key, out_key = jr.split(key, 3)
    size = BETA * math.expm1(-1 / tau_adapt) / math.expm1(-1 / TAU_MEM) if adaptive else 0.0
    beta = jnp.where(jnp.arange(NEURONS) >= NEURONS // 2, size, 0.0)
    hidden = ALIF(
        NEURONS,
        tau_mem=TAU_MEM,
        tau_adapt=tau_adapt,
        threshold=0.6,
        beta=beta,
        refractory=5,
        detach_reset=detach_reset,
        constants=("beta",),
    )
    limit = (6 / (NEURONS + task.outputs)) ** 0.5
    outward = jr.uniform(out_key, (task.outputs, NEURONS), minval=-limit, maxval=limit)
    return Network(
        {"hidden": hidden, "readout": LeakyReadout(task.outputs, tau=20.0, normalised=True)},
        [
            Projection("input", "hidden", Dense(jr.normal(in_key, (NEURONS, task.inputs)) * task.inputs**-0.5)),
            Projection("hidden", "hidden", recurrent(rec_key, NEURONS), delay=1),
            Projection("hidden", "readout", Dense(outward)),
        ],
        inputs=task.inputs,
        readout="readout",
    )


def _train(lab: Lab, name: str, kind: str, seed: int, *, task, tau_adapt, watch=None, at=(), **options) -> tuple:
    rule, detach_reset = RULES["symmetric" if kind == CONTROL else kind]

    def make(key):
        return network(key, task, tau_adapt, kind != CONTROL, detach_reset)

    return lab.train(
        f"{name}-{kind}-{seed}",
        make,
        task,
        watch=watch,
        at=at,
        rule=rule(1.0),
        optimiser=optax.adam(5e-3),
        key=lab.key(seed),
        penalty=FiringRate(target=0.01, strength=1.0),
        log_every=10,
        checkpoint_every=50,
        **options,
    )


@eqx.filter_jit
def _errors(network: Network, task: EvidenceAccumulation) -> dict[str, Array]:
    trials = task.sample(jr.key(999), 256, "test")
    outputs = network(trials.inputs, readout_steps=task.target_steps).outputs
    return {"error": decision_error(outputs, trials)}


def short_task(lab: Lab) -> EvidenceAccumulation:
    """Three cues and a short delay."""
    return lab.pick(smoke=EvidenceAccumulation(cues=1, delay=0.0, recall=50.0), laptop=SHORT, paper=SHORT)


def short(lab: Lab) -> dict[str, list[tuple[Result, dict[str, np.ndarray]]]]:
    """Networks that learn the short task, by rule and seed, and their test errors in iterations 200 to 240."""
    task = short_task(lab)
    steps, first = lab.pick(smoke=(20, 20), laptop=(250, 200), paper=(250, 200))
    return {
        kind: [
            _train(
                lab,
                "short",
                kind,
                seed,
                task=task,
                tau_adapt=600.0,
                watch=lambda network: _errors(network, task),
                at=range(first, min(first + 41, steps + 1), 10),
                steps=steps,
                batch=lab.pick(smoke=4, laptop=32, paper=32),
            )
            for seed in range(lab.seeds)
        ]
        for kind in ALL
    }


def measure_short(lab: Lab) -> Finding:
    """Share of wrong decisions, by rule."""
    found = lab.once(short)
    curves = {kind: np.stack([1 - result.history.accuracy[0] for result, _ in runs]) for kind, runs in found.items()}
    errors = {kind: np.array([watched["error"].mean() for _, watched in runs]) for kind, runs in found.items()}
    return Finding(
        {**errors, "contrast": errors[CONTROL] - errors["symmetric"]},
        {"step": found[CONTROL][0][0].history.step, **{f"error.{kind}": curve for kind, curve in curves.items()}},
    )


def draw_short(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Errors against iterations."""
    curves = {word: (arrays["step"], 100 * arrays[f"error.{kind}"]) for kind, word in ALL.items()}
    ax = plot_curves(curves, ylabel="wrong, of the steps of recall (%)", ax=figure.subplots())
    ax.axhline(50, color="grey", linestyle=":", linewidth=1)
    ax.set(ylim=(0, 100))


def measure_trial(lab: Lab) -> Finding:
    """How much of the slow part of a trace, as it is when the last cue ends, is left when the recall begins."""
    task, seen = (
        short_task(lab),
        [trial.watch(result.network, short_task(lab)) for result, _ in lab.once(short)["symmetric"]],
    )
    cues_end = round(task.cues * (task.silence + task.cue))
    left = [one["slow"][-task.target_steps] / one["slow"][cues_end] for one in seen]
    return Finding(
        {
            "left": np.array([float(np.median(ratio)) for ratio in left]),
            "early": np.array([float(np.abs(one["signal"][: -task.target_steps]).max()) for one in seen]),
        },
        seen[0],
    )


MOST = 700  # iterations


def whole(lab: Lab) -> dict[str, list[Result]]:
    """Networks that learn the whole task until they make fewer than 7 % errors, by rule and seed."""
    return {
        kind: [
            _train(
                lab,
                "whole",
                kind,
                seed,
                task=EvidenceAccumulation(),
                tau_adapt=2000.0,
                steps=200 if kind == CONTROL else MOST,
                batch=64,
                early_stop=None if kind == CONTROL else EarlyStop("accuracy", threshold=0.93),
            )[0]
            for seed in range(lab.seeds)
        ]
        for kind in ALL
    }


def measure_whole(lab: Lab) -> Finding:
    """How many networks meet the criterion, and when."""
    found = lab.once(whole)
    values: dict[str, np.ndarray] = {}
    for kind in WORDS:
        values[f"{kind}_solved"] = np.array([float(result.stopped_early) for result in found[kind]])
        values[f"{kind}_iterations"] = np.array([float(result.step) for result in found[kind]])
    early = [1 - result.history.accuracy[0][:10].mean() for result in found["symmetric"]]
    values["at_100"] = np.array(early)
    values["control"] = np.array([1 - result.history.accuracy[0][-5:].mean() for result in found[CONTROL]])
    arrays = {}
    for kind, results in found.items():
        for seed, result in enumerate(results):
            arrays[f"{kind}.{seed}"] = np.stack([result.history.step, 1 - result.history.accuracy[0]])
    return Finding(values, arrays)


def draw_whole(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Errors of every network against iterations."""
    ax = figure.subplots()
    for number, (kind, word) in enumerate(ALL.items()):
        for seed, name in enumerate(name for name in arrays if name.startswith(f"{kind}.")):
            step, error = arrays[name]
            ax.plot(step, 100 * error, color=colour(number), label=word if seed == 0 else None, linewidth=1)
    ax.axhline(7, color="grey", linestyle=":", linewidth=1)
    ax.set(xlabel="iterations", ylabel="wrong, of the steps of recall (%)", ylim=(0, 70))
    ax.legend(frameon=False)


def measure_cosines(lab: Lab) -> Finding:
    """Cosine of the angle between e-prop's and BPTT's gradient, before training."""
    task, tau_adapt = short_task(lab), 600.0
    found: dict[str, list[float]] = {}
    for seed in range(lab.seeds):
        gradients = {}
        for name, rule, detach_reset in (("exact", BPTT(), False), ("symmetric", EProp(), True)):
            one = network(lab.key(seed), task, tau_adapt, True, detach_reset)
            gradients[name] = _gradient(one, rule, task, lab.key(100 + seed))
        for label, layer in (("input->hidden", "input"), ("hidden->hidden", "recurrent")):
            pair = [gradients[name].projections[label].synapse for name in ("symmetric", "exact")]
            a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(one)]) for one in pair)
            found.setdefault(layer, []).append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
    cosines = {layer: np.array(values) for layer, values in found.items()}
    return Finding(cosines, dict(cosines))


@eqx.filter_jit
def _gradient(network, rule, task, key):
    trials = task.sample(key, 32)

    def loss(network):
        run = network(trials.inputs, rule=rule, readout_steps=task.target_steps)
        return losses.cross_entropy(run.outputs, trials)

    return eqx.filter_grad(loss)(network)


def draw_cosines(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """One point for each network."""
    ax = figure.subplots()
    for number, values in enumerate(arrays.values()):
        ax.plot(np.full(len(values), number), values, "os"[number], color=colour(number))
    ax.axhline(0, color="grey", linestyle=":", linewidth=1)
    ax.set_xticks(range(len(arrays)), [f"{layer} weights" for layer in arrays])
    ax.set(ylabel="cosine to the exact gradient", xlim=(-0.5, len(arrays) - 0.5), ylim=(-0.1, 1))
