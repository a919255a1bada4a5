"""A curve drawn by 100 LIF neurons: e-prop, with symmetric and with random feedback, beside BPTT."""

# mypy: disable-error-code="call-arg"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from retrograde.losses import FiringRate
from retrograde.network import Network, Projection
from retrograde.neurons import LIF, LeakyReadout
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.bellec2020._common import RULES, WORDS, recurrent
from retrograde.plots import colour, plot_curves
from retrograde.synapses import Dense
from retrograde.tasks import PatternGeneration, Trials

NEURONS = 100


def network(key: Key[Array, ""], task: PatternGeneration, detach_reset: bool) -> Network:
    """The authors' network: constants in the older, normalised form."""
    in_key, rec_key, out_key = jr.split(key, 3)
    hidden = LIF(NEURONS, tau_mem=30.0, threshold=0.03, normalised=True, detach_reset=detach_reset)
    return Network(
        {"hidden": hidden, "readout": LeakyReadout(task.outputs, tau=30.0, normalised=True)},
        [
            Projection("input", "hidden", Dense(jr.normal(in_key, (NEURONS, task.inputs)) * task.inputs**-0.5)),
            Projection("hidden", "hidden", recurrent(rec_key, NEURONS), delay=1),
            Projection("hidden", "readout", Dense(jr.normal(out_key, (task.outputs, NEURONS)) * NEURONS**-0.5)),
        ],
        inputs=task.inputs,
        readout="readout",
    )


def half_sum(outputs: Float[Array, "steps batch output"], trials: Trials) -> Float[Array, ""]:
    """Half the squared error, summed over the trial."""
    return 0.5 * jnp.sum((outputs - trials.targets) ** 2)


def trained(lab: Lab) -> dict[str, list[tuple[np.ndarray, np.ndarray, float]]]:
    """Loss in each iteration, the curve drawn in the end, and the mean firing rate [Hz], by rule and seed."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray, float]]] = {}
    for name, (rule, detach_reset) in RULES.items():
        for seed in range(lab.seeds):
            task = curve(lab, seed)
            result, _ = lab.train(
                f"pattern-{name}-{seed}",
                lambda key, task=task, detach_reset=detach_reset: network(key, task, detach_reset),
                task,
                rule=rule(NEURONS**-0.5),
                optimiser=optax.sgd(1e-4),
                steps=lab.pick(smoke=20, laptop=1000, paper=1000),
                key=lab.key(seed),
                batch=1,
                loss=half_sum,
                penalty=FiringRate(target=0.01, strength=150.0),
                log_every=1,
                checkpoint_every=lab.pick(smoke=20, laptop=500, paper=500),
            )
            run = _draw_curve(result.network, task)
            rate = 1000 * float(run.activity["hidden"].mean())
            found.setdefault(name, []).append((result.history.loss[0], np.asarray(run.outputs[:, 0, 0]), rate))
    return found


def curve(lab: Lab, seed: int) -> PatternGeneration:
    """What one seed is to draw, and its input."""
    short = PatternGeneration(seed=seed, steps=250, periods=(250, 125))
    return lab.pick(smoke=short, laptop=PatternGeneration(seed=seed), paper=PatternGeneration(seed=seed))


def _start(lab: Lab, seed: int) -> float:
    """Loss of a network before training, on the curve of the same seed."""
    task = curve(lab, seed)
    run = _draw_curve(network(lab.key(seed), task, False), task)
    return float(half_sum(run.outputs, task.take(jnp.zeros(1, jnp.int32))))


@eqx.filter_jit
def _draw_curve(network, task):
    return network(task.take(jnp.zeros(1, jnp.int32)).inputs, record=("hidden",))


def measure(lab: Lab) -> Finding:
    """Loss at the start and at iteration 990, ratios, and rates."""
    found = lab.once(trained)
    curves = {name: np.stack([loss for loss, _, _ in runs]) for name, runs in found.items()}
    late = {name: curve[:, -11] for name, curve in curves.items()}  # iteration 990 of 1,000
    return Finding(
        {
            "start": curves["bptt"][:, 0],
            "start_many": np.array([_start(lab, seed) for seed in range(lab.pick(smoke=1, laptop=40, paper=40))]),
            **late,
            "random_above": (late["random"] > late["symmetric"]).astype(float),
            "ratio": late["symmetric"] / late["bptt"],
            "rate": np.array([rate for runs in found.values() for _, _, rate in runs]),
        },
        {
            **{f"loss.{name}": curve for name, curve in curves.items()},
            **{f"curve.{name}": runs[0][1] for name, runs in found.items()},
            "target": np.asarray(curve(lab, 0).curve)[:, 0],
        },
    )


def draw(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Loss against iterations; and what the first network draws."""
    left, right = figure.subplots(1, 2)
    losses = {word: arrays[f"loss.{name}"] for name, word in WORDS.items()}
    plot_curves(
        {word: (np.arange(1, loss.shape[1] + 1), loss) for word, loss in losses.items()},
        ylabel="loss, ½ Σ error²",
        ax=left,
        logarithmic=True,
    )
    right.plot(arrays["target"], color="black", linestyle=":", label="target")
    for number, (name, word) in enumerate(WORDS.items()):
        right.plot(arrays[f"curve.{name}"], color=colour(number), linewidth=1, label=word)
    right.set(xlabel="time (ms)", ylabel="output")
    right.legend(frameon=False, fontsize=7)
