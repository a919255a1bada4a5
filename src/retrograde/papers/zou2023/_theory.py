"""Infinitely wide ensembles against their published kernels and finite networks; and a neuron that learns features."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.plots import colour
from retrograde.tasks import SequentialDigits
from retrograde.theory import (
    WideEnsemble,
    feature_learning,
    finite_kernel,
    finite_training,
    linearised_training,
    tangent_kernel,
)

# α, steps, angle / π → Θ(1, 1), Θ(1, 2), Θ(2, 2) of the authors' programs
PUBLISHED = {
    (0.5, 2, 0.3): (0.43575, 0.06719, 0.62653),
    (0.5, 3, 0.3): (0.43035, 0.11833, 0.39305),
    (1.0, 2, 0.3): (3.03125, 0.29047, 1.94944),
    (0.5, 2, 1.0): (0.43575, 0.14422, 0.43575),
}


def pair(steps: int, angle: float) -> Float[Array, "time sample channel"]:
    """The two inputs of the paper's first task."""
    first, second = [1.0, -1.0, 1.0], [math.cos(angle), math.sin(angle), -math.cos(angle)]
    return jnp.array([first[:steps], second[:steps]]).T[:, :, None]


@partial(jax.jit, static_argnums=(0, 1))
def _kernels(start, neurons, inputs, keys):
    return jax.lax.map(lambda key: finite_kernel(start, neurons, inputs, key), keys)


def measure_kernel(lab: Lab) -> Finding:
    """The kernel against published values, and finite networks against the kernel."""
    error = 0.0
    for (alpha, steps, angle), wanted in PUBLISHED.items():
        found = np.asarray(tangent_kernel(WideEnsemble(alpha=alpha), pair(steps, angle * math.pi)).total)
        error = max(error, np.abs(found[[0, 0, 1], [0, 1, 1]] - wanted).max())
    neurons, draws, count = lab.pick(smoke=(50, 4, 3), laptop=(500, 20, 9), paper=(2000, 100, 41))
    start, angles = WideEnsemble(alpha=0.5), np.linspace(0, 2 * math.pi, count)
    theory, finite = [], []
    for place, angle in enumerate(angles):
        inputs = pair(2, angle)
        theory.append(np.asarray(tangent_kernel(start, inputs).total))
        keys = jr.split(jr.fold_in(lab.key(900), place), draws)
        finite.append(np.asarray(_kernels(start, neurons, inputs, keys)))
    limit, networks = np.stack(theory), np.stack(finite)  # "angle sample other", "angle draw sample other"
    standard = networks.std(axis=1) / math.sqrt(draws)
    away = np.abs(networks.mean(axis=1) - limit)
    fine = np.linspace(0, 2 * math.pi, 101)
    curve = np.stack([np.asarray(tangent_kernel(start, pair(2, angle)).total)[0, 1] for angle in fine])
    return Finding(
        {
            "published": np.array([error]),
            "within": np.array([np.mean(away <= 4 * standard + 0.05 * np.abs(limit))]),
            "correlation": np.array([np.corrcoef(limit[:, 0, 1], networks.mean(axis=1)[:, 0, 1])[0, 1]]),
        },
        {"fine": fine, "curve": curve, "angles": angles, "finite": networks[:, :, 0, 1]},
    )


def draw_kernel(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """The kernel between two inputs against the angle."""
    ax, finite = figure.subplots(), arrays["finite"]
    ax.plot(arrays["fine"] / math.pi, arrays["curve"], color=colour(0), label="infinite width")
    look: dict[str, Any] = {"fmt": "o", "markersize": 4, "color": colour(1)}
    ax.errorbar(arrays["angles"] / math.pi, finite.mean(1), finite.std(1), label="finite networks, ± s.d.", **look)
    ax.set(xlabel="angle φ (π)", ylabel="kernel Θ(x¹, x²)")
    ax.legend(frameon=False, fontsize=8)


def zeros_and_ones(train: int, test: int) -> tuple[Float[Array, "time sample channel"], Float[Array, " train"]]:
    """Digits 0 and 1 by rows, those to train on first, and the targets of these."""
    task = SequentialDigits(order="rows")
    inputs, targets = [], []
    for split, count in (("train", train), ("test", test)):
        size = task.size(split)
        labels = np.asarray(task.take(jnp.arange(size), split).targets)[-1]
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == digit)[: count // 2] for digit in (0, 1)]))
        inputs.append(task.take(jnp.asarray(chosen), split).inputs)
        targets.append(labels[chosen])
    return jnp.concatenate(inputs, axis=1), jnp.asarray(targets[0], jnp.result_type(float))


def measure_training(lab: Lab) -> Finding:
    """Training loss of finite networks of growing width, against the linear theory."""
    train, test, steps = lab.pick(smoke=(16, 4, 8), laptop=(512, 128, 32), paper=(512, 128, 100))
    widths = lab.pick(smoke=(16,), laptop=(64, 256, 1024), paper=(64, 256, 1024, 2048))
    cases = [(width, 1) for width in widths] + [
        (widths[min(1, len(widths) - 1)], lab.pick(smoke=2, laptop=8, paper=32))
    ]
    start, rate = WideEnsemble(alpha=1.0), 1e-3
    inputs, targets = zeros_and_ones(train, test)
    kernel = tangent_kernel(start, inputs).total[:, :train]
    losses, predicted, change = (np.zeros((len(cases), lab.seeds, steps + 1)) for _ in range(3))
    for place, (width, passes) in enumerate(cases):
        for seed in range(lab.seeds):
            found = finite_training(
                start, width, inputs, targets, lab.key(1000 + seed), rate=rate, steps=steps, passes=passes
            )
            linear = linearised_training(kernel, found.outputs[0], targets, rate=rate, steps=steps)
            for target, outputs in ((losses, found.outputs), (predicted, linear)):
                target[place, seed] = 0.5 * jnp.mean((outputs[:, :train] - targets[None]) ** 2, axis=1)
            change[place, seed] = found.change
    away = np.abs(losses / predicted - 1)
    eighth = away[:, :, min(8, steps)]
    middle = min(1, len(widths) - 1)
    return Finding(
        {
            "deviation": eighth[middle],
            "averaged": np.array([eighth[-1].mean() - eighth[middle].mean()]),
            "lazier": change[0, :, -1] / change[len(widths) - 1, :, -1],
        },
        {"losses": losses, "predicted": predicted, "cases": np.array(cases)},
    )


def draw_training(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Training loss against updates, found and predicted."""
    cases = arrays["cases"]
    axes = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for number, (ax, (width, passes)) in enumerate(zip(axes, cases, strict=True)):
        steps = np.arange(1, arrays["losses"].shape[-1] + 1)
        for place, (name, words) in enumerate((("losses", "network"), ("predicted", "theory"))):
            values = arrays[name][number]
            mean, sd = values.mean(0), values.std(0)
            ax.plot(steps, mean, color=colour(place), linestyle="-:"[place], label=words)
            ax.fill_between(steps, mean - sd, mean + sd, color=colour(place), alpha=0.2, linewidth=0)
        ax.set_xscale("log", base=2)
        ax.set_title(f"N = {width}" + (f", mean of {passes} passes" if passes > 1 else ""), fontsize=9)
        ax.set(xlabel="update + 1")
    figure.axes[0].set(ylabel="training loss")
    figure.axes[0].legend(frameon=False, fontsize=8)


def measure_features(lab: Lab) -> Finding:
    """The neuron that learns features, and the one that cannot."""
    sizes = lab.pick(smoke=(100,), laptop=(100, 1000, 10_000), paper=(100, 1000, 10_000))
    epochs, large = lab.pick(smoke=50, laptop=600, paper=600), sizes[-1]
    found = {
        size: [feature_learning(size, key=lab.key(1100 + seed), epochs=epochs) for seed in range(lab.seeds)]
        for size in sizes
    }
    lazy = [
        feature_learning(large, key=lab.key(1100 + seed), scale=float(large) ** 2, epochs=epochs)
        for seed in range(lab.seeds)
    ]

    def last(name, size=large):
        return np.array([float(getattr(one, name)[-1]) for one in found[size]])

    def ratio(size):
        return last("fluctuation_part", size) / last("mean_part", size)

    deviation = np.array([float(one.deviation[-1] / one.deviation[0]) for one in found[large]])
    return Finding(
        {
            "loss": last("loss"),
            "change": np.array([float(one.change[-1, 0]) for one in found[large]]),
            "deviation": np.abs(deviation - 1),
            "falling": ratio(large) / ratio(sizes[0]),
            "lazy": np.array([float(one.loss[-1]) for one in lazy]),
        },
        {
            "sizes": np.array(sizes),
            "loss": np.array([[one.loss for one in found[size]] for size in sizes]),
            "lazy": np.array([one.loss for one in lazy]),
            "ratio": np.array([ratio(size) for size in sizes]),
        },
    )


def draw_features(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Loss against epochs for several numbers of inputs, and how small the fluctuation's part is."""
    left, right = figure.subplots(1, 2)
    epochs = np.arange(arrays["lazy"].shape[-1])
    for number, (size, losses) in enumerate(zip(arrays["sizes"], arrays["loss"], strict=True)):
        left.plot(epochs, losses.mean(0), color=colour(number), label=f"a = N = {size:,}")
    left.plot(epochs, arrays["lazy"].mean(0), color="black", linestyle=":", label="a = N²")
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    left.legend(frameon=False, fontsize=8)
    ratio = arrays["ratio"]
    right.errorbar(arrays["sizes"], ratio.mean(1), ratio.std(1), marker="o", color=colour(0))
    right.set(xlabel="inputs N", ylabel="∂h/∂m: fluctuation / mean", xscale="log", yscale="log")
