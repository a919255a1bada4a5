"""Heart beats named wave by wave, by 36 spiking neurons whose time constants are trained."""

# mypy: disable-error-code="call-arg"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from retrograde import losses
from retrograde.network import Network, Projection
from retrograde.neurons import AbstractSurrogate, Exponential, Gaussian, MultiGaussian, Triangle, YinALIF
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.plots import colour, plot_curves, plot_time_constants
from retrograde.rules import BPTT, AbstractRule, TruncatedBPTT
from retrograde.synapses import Dense
from retrograde.tasks import ECG, Trials
from retrograde.training import Result, optimiser

HIDDEN, THRESHOLD = 36, 0.1
STEP = 4.0  # ms
BATCH, EPOCH = 64, 9  # updates: 618 trials hold 9 whole batches
SURROGATES: Mapping[str, AbstractSurrogate] = {
    "multi-Gaussian": MultiGaussian(),
    "Gaussian": Gaussian(),
    "linear": Triangle(0.5),
    "SLayer": Exponential(),
}
MAIN = "multi-Gaussian"
WINDOW = 100  # steps that truncated BPTT reaches back, at most
WANTED = 0.05  # spikes in a step that a penalty on firing rates wants


def network(key: Key[Array, ""], surrogate: AbstractSurrogate, outputs: int = 6, inputs: int = 4) -> Network:
    """4 – 36, recurrent, without adaptation – 6 adaptive units whose membranes are read; biases as the authors have."""
    in_key, rec_key, out_key = jr.split(key, 3)

    def glorot(key, post, pre):
        limit = (6 / (post + pre)) ** 0.5
        return Dense(jr.uniform(key, (post, pre), minval=-limit, maxval=limit))

    def bias(size):
        return Dense(jnp.zeros((size, 1)))

    common: dict[str, Any] = {"threshold": THRESHOLD, "initial": (0.0, THRESHOLD), "surrogate": surrogate}
    hidden = YinALIF(HIDDEN, tau_mem=jnp.full(HIDDEN, 20.0), beta=0.0, **common)
    readout = YinALIF(
        outputs, tau_mem=jnp.full(outputs, 20.0), tau_adapt=jnp.full(outputs, 100.0), reads="membrane", **common
    )
    return Network(
        {"hidden": hidden, "readout": readout},
        [
            Projection("input", "hidden", glorot(in_key, HIDDEN, inputs)),
            Projection("bias", "hidden", bias(HIDDEN), name="bias of input"),
            Projection("hidden", "hidden", Dense(jr.orthogonal(rec_key, HIDDEN)), delay=1),
            Projection("bias", "hidden", bias(HIDDEN), name="bias of recurrence"),
            Projection("hidden", "readout", glorot(out_key, outputs, HIDDEN)),
            Projection("bias", "readout", bias(outputs)),
        ],
        inputs=inputs,
        readout="readout",
    )


def summed(outputs: Float[Array, "steps batch class"], trials: Trials) -> Float[Array, ""]:
    """Cross-entropy, summed over steps and averaged over trials."""
    return outputs.shape[0] * losses.cross_entropy(outputs, trials)


@eqx.filter_jit
def _watch(network: Network, task: ECG) -> dict[str, Array]:
    """Spikes of the hidden neurons in a step, over the test trials; and all time constants."""
    trials = task.take(jnp.arange(task.size("test"), dtype=jnp.int32), "test")
    z = network(trials.inputs, key=jr.key(0), record=("hidden",)).activity["hidden"]
    hidden: Any = network.populations["hidden"]
    readout: Any = network.populations["readout"]
    return {
        "rate": z.mean(),
        "tau_mem": hidden.tau_mem,
        "tau_mem_out": readout.tau_mem,
        "tau_adapt_out": readout.tau_adapt,
    }


def _train(
    lab: Lab, name: str = MAIN, suffix: str = "", rule: AbstractRule | None = None, strength: float = 0.0
) -> list[tuple[Result, dict[str, np.ndarray]]]:
    """Networks trained with one surrogate, by BPTT or another rule, and what was watched before and after, by seed."""
    task, surrogate = ECG(), SURROGATES[name]

    def make(key):
        return network(key, surrogate)

    adam = optimiser(
        make,
        "adam",
        1e-2,
        decay=0.0,
        clip_spectral=None,
        halve_every=100 * EPOCH,
        groups={"hidden.tau_*": {"learning_rate": 3e-2}, "readout.tau_*": {"learning_rate": 2e-2}},
    )
    steps = lab.pick(smoke=2, laptop=EPOCH * (60 if name != MAIN or suffix else 120), paper=EPOCH * 400)
    every = lab.pick(smoke=2, laptop=10 * EPOCH, paper=10 * EPOCH)
    return [
        lab.train(
            f"ecg-{name.lower()}{suffix}-{seed}",
            make,
            task,
            watch=lambda network: _watch(network, task),
            at=(0, steps),
            rule=rule or BPTT(),
            penalty=losses.FiringRate(target=WANTED, strength=strength) if strength else None,
            optimiser=adam,
            steps=steps,
            key=lab.key(seed),
            batch=lab.pick(smoke=8, laptop=BATCH, paper=BATCH),
            loss=summed,
            log_every=lab.pick(smoke=2, laptop=EPOCH, paper=EPOCH),
            validate_every=every,
            checkpoint_every=every,
        )
        for seed in range(lab.seeds)
    ]


# Each surrogate's networks, trained when they are first asked for: `lab.once(TRAINED[name])`.
TRAINED = {name: functools.partial(_train, name=name) for name in SURROGATES}
TRUNCATED = functools.partial(_train, suffix=f"-{WINDOW}", rule=TruncatedBPTT(WINDOW))
# The same by the strength of a penalty on firing rates.
SPARSE = {0.0: TRAINED[MAIN]} | {
    strength: functools.partial(_train, suffix=f"-rate-{strength:g}", strength=strength) for strength in (30.0, 300.0)
}


def accuracies(runs: list[tuple[Result, dict[str, np.ndarray]]]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs at which test accuracy was measured, and the accuracies, `"seed epoch"`."""
    curves = [result.history.measured("validation_accuracy") for result, _ in runs]
    return curves[0][0] // EPOCH, np.concatenate([values for _, values in curves])


def _best(lab: Lab, marks: tuple[int, ...]) -> Finding:
    """Best test accuracy so far after some epochs, that of the last network, and its firing rate."""
    runs = lab.once(TRAINED[MAIN])
    epoch, accuracy = accuracies(runs)
    best = np.maximum.accumulate(accuracy, axis=1)
    return Finding(
        {
            **{f"epoch_{mark}": best[:, np.flatnonzero(epoch <= mark)[-1]] for mark in marks},
            "last": accuracy[:, -1],
            "rate": np.array([watched["rate"][-1] for _, watched in runs]),
        },
        {
            "epoch": epoch,
            "accuracy": accuracy,
            "step": runs[0][0].history.step // EPOCH,
            "training": np.concatenate([result.history.accuracy for result, _ in runs]),
        },
    )


def measure(lab: Lab) -> Finding:
    """Accuracy within 120 epochs."""
    return _best(lab, (20, 60, 120))


def measure_long(lab: Lab) -> Finding:
    """Accuracy within 400 epochs."""
    return _best(lab, (400,))


def draw(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Accuracy against epochs."""
    ax = figure.subplots()
    measured = ~np.isnan(arrays["training"]).any(axis=0)
    curves = {
        "training": (arrays["step"][measured], 100 * arrays["training"][:, measured]),
        "test": (arrays["epoch"], 100 * arrays["accuracy"]),
    }
    plot_curves(curves, ylabel="right steps (%)", ax=ax)
    ax.axhline(85.9, color="grey", linestyle=":", linewidth=1)
    ax.set(xlabel="epochs")


def measure_surrogates(lab: Lab) -> Finding:
    """Best test accuracy within 60 epochs, for each surrogate."""
    values, arrays = {}, {}
    for name, study in TRAINED.items():
        epoch, accuracy = accuracies(lab.once(study))
        within = epoch <= lab.pick(smoke=60, laptop=60, paper=400)
        label = name.lower().replace("-", "_")
        values[label] = accuracy[:, within].max(axis=1)
        arrays[f"{label}.epoch"], arrays[f"{label}.accuracy"] = epoch[within], accuracy[:, within]
    others = [accuracy for label, accuracy in values.items() if label != "multi_gaussian"]
    return Finding({**values, "advantage": values["multi_gaussian"] - np.max(others, axis=0)}, arrays)


def draw_surrogates(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Accuracy against epochs for each surrogate; and the surrogates."""
    left, right = figure.subplots(1, 2)
    curves = {}
    for name in SURROGATES:
        label = name.lower().replace("-", "_")
        curves[name] = (arrays[f"{label}.epoch"], 100 * arrays[f"{label}.accuracy"])
    plot_curves(curves, ylabel="right steps of the test (%)", ax=left)
    left.set(xlabel="epochs")
    x = np.linspace(-3, 3, 301)
    for number, (name, surrogate) in enumerate(SURROGATES.items()):
        right.plot(x, np.asarray(surrogate(jnp.asarray(x))), color=colour(number), label=name)
    right.set(xlabel="distance from threshold (membrane units)", ylabel="derivative of a spike")
    right.grid(alpha=0.3)


def measure_truncated(lab: Lab) -> Finding:
    """Best test accuracy within 60 epochs, by BPTT through all steps and in windows."""
    values, arrays = {}, {}
    for label, study in (("bptt", TRAINED[MAIN]), ("truncated", TRUNCATED)):
        epoch, accuracy = accuracies(lab.once(study))
        within = epoch <= lab.pick(smoke=60, laptop=60, paper=400)
        values[label] = accuracy[:, within].max(axis=1)
        arrays[f"{label}.epoch"], arrays[f"{label}.accuracy"] = epoch[within], accuracy[:, within]
    return Finding({**values, "lost": values["bptt"] - values["truncated"]}, arrays)


def draw_truncated(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Accuracy against epochs, by BPTT and in windows."""
    words = {"bptt": "through all steps", "truncated": f"in windows of {WINDOW} steps"}
    curves = {word: (arrays[f"{label}.epoch"], 100 * arrays[f"{label}.accuracy"]) for label, word in words.items()}
    ax = figure.subplots()
    plot_curves(curves, ylabel="right steps of the test (%)", ax=ax)
    ax.set(xlabel="epochs")


def measure_time_constants(lab: Lab) -> Finding:
    """Means and spreads of the time constants after training."""
    runs = [watched for _, watched in lab.once(TRAINED[MAIN])]
    stacked = {
        name: np.stack([watched[name] for watched in runs]) for name in ("tau_mem", "tau_mem_out", "tau_adapt_out")
    }
    return Finding(
        {
            "mean": stacked["tau_mem"][:, -1].mean(axis=1),
            "sd": stacked["tau_mem"][:, -1].std(axis=1),
            "shortest": stacked["tau_mem"][:, -1].min(axis=1),
            "longest": stacked["tau_mem"][:, -1].max(axis=1),
            "adapt_out": stacked["tau_adapt_out"][:, -1].mean(axis=1),
        },
        stacked,
    )


def draw_time_constants(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Histograms of the time constants, of all networks."""
    words = {
        "tau_mem": "membrane, hidden",
        "tau_mem_out": "membrane, readout",
        "tau_adapt_out": "adaptation, readout",
    }
    for ax, (name, word) in zip(figure.subplots(1, 3), words.items(), strict=True):
        plot_time_constants(STEP * arrays[name][:, 0], STEP * arrays[name][:, -1], ax=ax)
        ax.set_title(word, fontsize=9)


def sizes(network: Network) -> tuple[int, int]:
    """Numbers of weights (with biases), and of trained parameters of neurons."""
    arrays = eqx.filter(network, network.trainable())
    weights = sum(leaf.size for leaf in jax.tree.leaves(arrays.projections))
    return weights, sum(leaf.size for leaf in jax.tree.leaves(arrays.populations))
