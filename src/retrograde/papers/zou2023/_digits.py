"""Handwritten digits row by row, and pixel by pixel: accuracy, connections, and trajectories."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from retrograde import analysis, recipes
from retrograde.network import Network
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.zou2023._common import RECURRENT, selectivity, slab
from retrograde.plots import (
    MARKERS,
    colour,
    plot_curves,
    plot_distribution,
    plot_removal,
    plot_trajectories,
    plot_variance,
)
from retrograde.synapses import SpikeAndSlab
from retrograde.training import Result, evaluate

LAYERS = {"input->hidden": "input", RECURRENT: "recurrent", "hidden->readout": "output"}


def changed(name: str, **settings: Any) -> recipes.Recipe:
    """A shipped recipe with other settings; `__` in a name stands for a dot."""
    lines = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return recipes.read(name, {line: line for line in lines})


def plain_weights(recipe: recipes.Recipe) -> recipes.Recipe:
    """The same recipe with plain numbers for weights, which start from the ensemble's means."""
    content = recipe.model_dump(exclude_none=True)
    for section in content["synapses"].values():
        if section["name"] == "spike_and_slab":
            mean = section["m"]
            section.clear()
            section.update(name="dense", weight=mean)
    return recipes.check(content, f"plain weights of {recipe.name}")


@eqx.filter_jit
def watch_connections(network: Network) -> dict[str, Array]:
    """All parameters of the connections, and their mean entropies."""
    found = {}
    for label, layer in LAYERS.items():
        synapse = network.projections[label].synapse
        if not isinstance(synapse, SpikeAndSlab):
            continue
        axes = (-2, -1)
        found |= {f"{layer}.{name}": getattr(synapse, name).astype(jnp.float32) for name in ("m", "pi", "xi")}
        found |= {
            f"{layer}.S_pi": synapse.discrete_entropy().mean(axes),
            f"{layer}.S_xi": synapse.continuous_entropy().mean(axes),
        }
    return found


def rows_recipe(lab: Lab) -> recipes.Recipe:
    """What the ensembles that read row by row are trained by."""
    return changed(lab.pick(smoke="digits-rows-3000", laptop="digits-rows-3000", paper="digits-full"), **_short(lab))


def rows(lab: Lab) -> tuple[list[Result], dict[str, np.ndarray]]:
    """The ensembles that read row by row, and their connections over training, `"moment seed …"`."""
    recipe = rows_recipe(lab)
    every = lab.pick(smoke=5, laptop=50, paper=500)
    moments = range(0, recipe.training.steps + 1, every)
    results, seen = zip(*lab.train_recipe("rows", recipe, watch=watch_connections, at=moments), strict=True)
    stacked = {key: np.stack([one[key] for one in seen], axis=1) for key in seen[0] if key != "step"}
    return list(results), {"step": seen[0]["step"], **stacked}


def rows_plain(lab: Lab) -> list[Result]:
    """Plain weights, the same budget."""
    name = lab.pick(smoke="digits-bptt", laptop="digits-bptt", paper="digits-full-bptt")
    return [result for result, _ in lab.train_recipe("rows-plain", changed(name, **_short(lab)))]


def _short(lab: Lab) -> dict[str, int]:
    return lab.pick(smoke={"training__steps": 20, "training__validate_every": 20}, laptop={}, paper={})


def accuracies(results: Sequence[Result], lab: Lab, weights: str) -> np.ndarray:
    """Test accuracy of each seed, mean over draws."""
    samples = lab.pick(smoke=1, laptop=20, paper=20)
    return np.array([result.evaluate(weights=weights, samples=samples).accuracy for result in results])


def _curve(results: Sequence[Result]) -> dict[str, np.ndarray]:
    curves = [result.history.measured("validation_accuracy") for result in results]
    return {"step": curves[0][0], "accuracy": np.concatenate([values for _, values in curves])}


def compare_with_plain(lab: Lab, ensembles: Sequence[Result], plain: Sequence[Result]) -> Finding:
    """Accuracy of ensembles by all ways to run them, and of plain weights."""
    found = {weights: accuracies(ensembles, lab, weights) for weights in ("mean-field", "annealed", "quenched")}
    base = accuracies(plain, lab, "mean-field")
    return Finding(
        {
            "mean_field": found["mean-field"],
            "plain": base,
            "against_plain": found["mean-field"] - base,
            "annealed_gap": np.abs(found["annealed"].mean() - found["mean-field"].mean())[None],
            "quenched": found["quenched"],
            "quenched_gap": found["mean-field"] - found["quenched"],
        },
        {
            **{f"ensemble.{key}": value for key, value in _curve(ensembles).items()},
            **{f"plain.{key}": value for key, value in _curve(plain).items()},
            **{f"at.{key}": value for key, value in found.items()},
            "at.plain": base,
        },
    )


def draw_accuracy(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Accuracy against updates; and of each way to run the ensemble."""
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    curves = {
        words: (arrays[f"{name}.step"], 100 * arrays[f"{name}.accuracy"])
        for name, words in (("ensemble", "ensemble"), ("plain", "plain weights"))
    }
    plot_curves(curves, ylabel="test accuracy (%)", ax=left)
    ways = ("mean-field", "annealed", "quenched", "plain")
    for number, way in enumerate(ways):
        values = 100 * arrays[f"at.{way}"]
        right.plot(np.full(len(values), number), values, "os^D"[number], color=colour(number))
    right.set_xticks(range(4), ["mean\nfield", "annealed", "quenched", "plain\nweights"])
    right.set(ylabel="test accuracy (%)")


def measure_rows(lab: Lab) -> Finding:
    """Ensembles and plain weights by rows."""
    return compare_with_plain(lab, lab.once(rows)[0], lab.once(rows_plain))


def pooled(lab: Lab) -> tuple[list[Result], list[Result]]:
    """Ensembles and plain weights that read the pixels of 7 × 7 images."""
    steps = lab.pick(smoke=10, laptop=2000, paper=2000)
    recipe = changed(
        "digits-pixels",
        task__pool=4,
        training__steps=steps,
        training__validate_every=lab.pick(smoke=10, laptop=100, paper=100),
        training__checkpoint_every=250,
    )
    return _both(lab, "pooled", recipe)


def pixels(lab: Lab) -> tuple[list[Result], list[Result]]:
    """Ensembles and plain weights that read all 784 pixels of all of MNIST."""
    return _both(lab, "pixels", recipes.read("digits-pixels-full"))


def _both(lab: Lab, name: str, recipe: recipes.Recipe) -> tuple[list[Result], list[Result]]:
    ensembles = [result for result, _ in lab.train_recipe(name, recipe)]
    return ensembles, [result for result, _ in lab.train_recipe(f"{name}-plain", plain_weights(recipe))]


def measure_pooled(lab: Lab) -> Finding:
    """Ensembles and plain weights by the pixels of small images."""
    return compare_with_plain(lab, *lab.once(pooled))


def measure_full_pixels(lab: Lab) -> Finding:
    """Ensembles and plain weights by the pixels of all of MNIST."""
    return compare_with_plain(lab, *lab.once(pixels))


def measure_order(lab: Lab) -> Finding:
    """Which entropy of the connections moves first."""
    _, seen = lab.once(rows)
    values, arrays = {}, {"step": seen["step"]}
    for layer in LAYERS.values():
        halves = {}
        for kind in ("S_xi", "S_pi"):
            curves = seen[f"{layer}.{kind}"].T  # "seed moment"
            arrays[f"{layer}.{kind}"] = curves
            halves[kind] = np.array([analysis.half_way(seen["step"], curve) for curve in curves])
        values[f"{layer}_lead"] = halves["S_pi"] - halves["S_xi"]
    sizes = [seen[f"{layer}.m"][0, 0].size for layer in LAYERS.values()]
    whole = {
        kind: np.average([seen[f"{layer}.{kind}"].T for layer in LAYERS.values()], axis=0, weights=sizes)
        for kind in ("S_xi", "S_pi")
    }
    values["lead"] = np.array(
        [
            analysis.half_way(seen["step"], spike) - analysis.half_way(seen["step"], slab)
            for slab, spike in zip(whole["S_xi"], whole["S_pi"], strict=True)
        ]
    )
    slab, spike = arrays["recurrent.S_xi"], arrays["recurrent.S_pi"]
    values["slab"] = slab[:, -1] - slab[:, 0]
    values["spike"] = spike[:, -1] - spike[:, 0]
    return Finding(values, arrays)


def draw_order(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """How far each entropy has come on its way, by layer."""
    for ax, layer in zip(figure.subplots(1, 3, sharey=True), LAYERS.values(), strict=True):
        curves = {}
        for kind, words in (("S_xi", "slab S_Ξ"), ("S_pi", "presence S_π")):
            entropy = arrays[f"{layer}.{kind}"]
            way = (entropy - entropy[:, :1]) / (entropy[:, -1:] - entropy[:, :1])
            curves[words] = (arrays["step"], 100 * way)
        plot_curves(curves, ylabel="change so far (% of the whole)", ax=ax)
        ax.axhline(50, color="black", linestyle=":", linewidth=0.8)
        ax.set_title(layer)


def measure_distributions(lab: Lab) -> Finding:
    """Shares of exact zeros and ones, and the distributions over training."""
    _, seen = lab.once(rows)
    last = {name: seen[f"recurrent.{name}"][-1] for name in ("m", "pi", "xi")}
    axes = (1, 2)
    moments = np.unique(np.linspace(0, len(seen["step"]) - 1, 4).astype(int))
    arrays = {
        f"{layer}.{name}": seen[f"{layer}.{name}"][moments, 0]
        for layer in LAYERS.values()
        for name in ("m", "pi", "xi")
    }
    return Finding(
        {
            "certain": ((last["pi"] == 0) & (last["xi"] == 0)).mean(axes),
            "zero_xi": (last["xi"] == 0).mean(axes),
            "mean_pi": last["pi"].mean(axes),
            "mean_xi": last["xi"].mean(axes),
        },
        {"step": seen["step"][moments], **arrays},
    )


def draw_distributions(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Histograms of m, π, Ξ for each layer at four moments."""
    labels = {"m": "m (current per activity)", "pi": "absence π", "xi": "variance Ξ"}
    for row, layer in zip(figure.subplots(3, 3), LAYERS.values(), strict=True):
        for ax, (name, label) in zip(row, labels.items(), strict=True):
            moments = zip(arrays["step"], arrays[f"{layer}.{name}"], strict=True)
            values = {f"update {step}": value for step, value in moments}
            plot_distribution(values, xlabel=f"{label}, {layer}", ax=ax, bins=40)


def measure_removal(lab: Lab) -> Finding:
    """Accuracy as certain, random and most absent recurrent connections go."""
    results, _ = lab.once(rows)
    task = results[0].task
    fractions = lab.pick(smoke=[0.0, 1.0], laptop=np.linspace(0, 1, 11).tolist(), paper=np.linspace(0, 1, 11).tolist())
    curves, chance = [], 0.1

    def score(network, key):
        return evaluate(network, task, key).accuracy

    for seed, network in enumerate(result.network for result in results):
        synapse = slab(network, RECURRENT)
        certain, pi = np.asarray(synapse.certain()), np.asarray(synapse.pi)
        if lab.scale == "smoke" and not certain.any():  # after so few updates: to see that it runs
            certain = np.eye(len(certain), dtype=bool)
        sets = {"certain": certain, "random": np.ones_like(certain), "absent": pi}
        repeats = lab.pick(smoke=1, laptop=2, paper=5)
        if not certain.any():  # nothing to remove: not a number, so not reached
            curves.append(np.full((len(sets), len(fractions)), np.nan))
            continue
        found = analysis.removal_curves(
            network, RECURRENT, sets, score, key=lab.key(600 + seed), fractions=fractions, repeats=repeats
        )
        curves.append(np.stack([found.scores[name] for name in sets]).mean(axis=-1))
    curve = np.stack(curves)
    drop = curve[:, :, 0] - curve[:, :, -1]
    return Finding(
        {
            "certain_left": curve[:, 0, -1] - chance,
            "certain": drop[:, 0],
            "random": drop[:, 1],
            "absent": drop[:, 2],
        },
        {"fractions": np.array(fractions), "accuracy": curve},
    )


def draw_removal(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Accuracy against the share that was removed."""
    names = ("certain (π = 0, Ξ = 0)", "as many at random", "as many with the largest π")
    plot_removal(
        arrays["fractions"],
        {name: 100 * arrays["accuracy"][:, number] for number, name in enumerate(names)},
        xlabel="removed (% of the number of certain connections)",
        ylabel="test accuracy (%)",
        chance=10.0,
        ax=figure.subplots(),
    )


@eqx.filter_jit
def _activity(network, inputs, keys):
    def one(key):
        return network(inputs, key=key, record=("hidden",)).activity["hidden"]

    return jax.lax.map(one, keys).mean(axis=0)


def record(results: Sequence[Result], lab: Lab, digits: Sequence[int], each: int) -> tuple[np.ndarray, np.ndarray]:
    """Activity for the first test images of some digits, mean over draws, `"seed time trial neuron"`; the labels."""
    task, draws = results[0].task, lab.pick(smoke=1, laptop=10, paper=10)
    labels = np.asarray(task.take(jnp.arange(task.size("test")), "test").targets)[-1]
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:each] for digit in digits])
    inputs = task.take(jnp.asarray(chosen), "test").inputs
    keys = jr.split(lab.key(700), draws)
    return np.stack([np.asarray(_activity(result.network, inputs, keys)) for result in results]), labels[chosen]


def measure_components(lab: Lab) -> Finding:
    """How many dimensions the activity needs: ten images each of three digits, as in the authors' notebook."""
    read = {"pixels": lab.once(pooled)[0], "rows": lab.once(rows)[0]}
    shares, arrays = {}, {}
    for name, results in read.items():
        activity, labels = record(results, lab, (1, 5, 9), 10)
        found = [analysis.principal_components(one) for one in activity]
        shares[name] = np.stack([one.shares[:10] for one in found])
        arrays |= {name: shares[name], f"{name}.path": found[0].project(activity[0], 3), "label": labels}
    return Finding({name: share[:, :3].sum(axis=1) for name, share in shares.items()}, arrays)


def draw_components(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Share of variance against components, and trajectories of three digits."""
    shares = {"by pixels (49 steps)": arrays["pixels"], "by rows (28 steps)": arrays["rows"]}
    plot_variance(shares, line=0.85, ax=figure.add_subplot(1, 2, 1))
    kinds = [f"digit {label}" for label in arrays["label"]]
    plot_trajectories(arrays["pixels.path"], kinds, ax=figure.add_subplot(1, 2, 2, projection="3d"))


def measure_selectivity(lab: Lab) -> Finding:
    """How many units respond to one digit, to some, or to all alike."""
    recorded, labels = record(lab.once(rows)[0], lab, range(10), lab.pick(smoke=3, laptop=50, paper=50))
    responses = [
        np.stack([activity[:, labels == digit].mean(axis=(0, 1)) for digit in np.unique(labels)], axis=1)
        for activity in recorded
    ]
    values, index = selectivity(responses)
    return Finding(values, {"index": index})


def draw_selectivity(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """The distribution of the index."""
    ax, edges = figure.subplots(), np.linspace(0, 1, 21)
    for seed, index in enumerate(arrays["index"]):
        counts, _ = np.histogram(index[np.isfinite(index)], edges)
        ax.stairs(counts, edges, color=colour(seed), label=f"seed {seed}")
    ax.set(xlabel="selectivity index over ten digits", ylabel="units")
    ax.legend(frameon=False, fontsize=8)


def measure_synaptic(lab: Lab) -> Finding:
    """How the recurrent m, π and Ξ move: drift and spread along the principal components of each."""
    _, seen = lab.once(rows)
    points, seeds = seen["recurrent.m"].shape[:2]
    count = min(5, points - 1)
    paths = {name: seen[f"recurrent.{name}"].reshape(points, seeds, -1).swapaxes(0, 1) for name in ("m", "pi", "xi")}
    ratios = {}
    for name, path in paths.items():
        found = [analysis.drift_and_spread(one, count) for one in path]
        ratios[name] = np.stack([np.abs(one.drift) / one.spread for one in found])
    parts = [analysis.principal_components(one) for one in paths["m"]]
    velocity = np.diff(parts[0].project(paths["m"][0], 3), axis=0)
    return Finding(
        {
            "first": ratios["m"][:, 0],
            "others": ratios["m"][:, 1:].max(axis=1),
            "three": np.stack([one.shares[:3].sum() for one in parts]),
        },
        {"step": seen["step"][1:], "velocity": velocity, **ratios},
    )


def draw_synaptic(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Velocity along three components against updates, and drift over spread of five."""
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for number, velocity in enumerate(arrays["velocity"].T):
        left.plot(arrays["step"], velocity, color=colour(number), linewidth=1, label=f"PC {number + 1}")
    left.axhline(0, color="black", linewidth=0.8)
    left.set(xlabel="update", ylabel="change between two moments")
    left.legend(frameon=False, fontsize=8)
    for number, (name, words) in enumerate((("m", "m"), ("pi", "π"), ("xi", "Ξ"))):
        ratio, place = arrays[name], np.arange(1, arrays[name].shape[1] + 1) + 0.15 * (number - 1)
        right.errorbar(place, ratio.mean(0), ratio.std(0), fmt=MARKERS[number], color=colour(number), label=words)
    right.set(xlabel="component", ylabel="mean change / its s.d.")
    right.legend(frameon=False, fontsize=8)
