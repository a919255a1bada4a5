from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from retrograde.plots._colours import MARKERS, colour


def plot_samplers(accuracies: Mapping[str, Mapping[str, Float[np.ndarray, " sample"]]], *, ax: Axes) -> Axes:
    """Draws the accuracy of each sampler: a dot for each sample, mean ± s.d. beside it.

    Args:
        accuracies: Accuracy of each sample [fraction], shape `sample`, by run and then by sampler.
        ax: Where to draw.

    Returns:
        `ax`.
    """
    samplers = list(dict.fromkeys(name for run in accuracies.values() for name in run))
    width = 0.7 / max(len(accuracies), 1)
    for number, (run, by_sampler) in enumerate(accuracies.items()):
        shift = (number - (len(accuracies) - 1) / 2) * width
        ink = colour(number)
        for name, values in by_sampler.items():
            place = samplers.index(name) + shift
            spread = np.linspace(-0.25, 0.25, len(values)) * width if len(values) > 1 else np.zeros(1)
            ax.plot(place + spread, 100 * values, ".", color=ink, alpha=0.35, markersize=4)
            ax.errorbar(
                place,
                100 * values.mean(),
                yerr=100 * values.std(),
                color=ink,
                marker=MARKERS[number % len(MARKERS)],
                capsize=4,
                label=run if name == next(iter(by_sampler)) else None,
            )
    ax.set(xticks=range(len(samplers)), ylabel="test accuracy (%)")
    ax.set_xticklabels(samplers)
    ax.set_xlim(-0.6, len(samplers) - 0.4)
    ax.grid(axis="y", alpha=0.3)
    if len(accuracies) > 1:
        ax.legend(frameon=False, fontsize=8)
    return ax
