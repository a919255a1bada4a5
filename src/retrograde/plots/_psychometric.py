from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from retrograde.plots._colours import MARKERS, colour


def plot_psychometric(
    stimuli: Float[np.ndarray, " stimulus"],
    shares: Mapping[str, Float[np.ndarray, "seed stimulus"]],
    *,
    xlabel: str,
    ax: Axes,
    fits: Mapping[str, Any] | None = None,
    boundary: float | None = None,
) -> Axes:
    """Draws how often the higher choice is made, against the stimulus: mean and standard deviation over seeds.

    Args:
        stimuli: The stimuli, rising.
        shares: Share of high choices [1], by condition.
        xlabel: Quantity and unit of the stimulus.
        ax: Where to draw.
        fits: Curves, stimulus → share, by condition: see `analysis.fit_psychometric`.
        boundary: Stimulus at which the right choice changes, drawn as a line.

    Returns:
        `ax`.
    """
    fine = np.linspace(stimuli[0], stimuli[-1], 200)
    for number, (name, share) in enumerate(shares.items()):
        mean, sd = 100 * share.mean(axis=0), 100 * share.std(axis=0)
        marker = MARKERS[number % len(MARKERS)]
        ax.errorbar(stimuli, mean, sd, fmt=marker, markersize=4, color=colour(number), label=name)
        if fits is not None and name in fits:
            ax.plot(fine, 100 * fits[name](fine), color=colour(number), linewidth=1)
    if boundary is not None:
        ax.axvline(boundary, color="black", linestyle=":", linewidth=1)
    ax.set(xlabel=xlabel, ylabel='choices "high" (%)')
    ax.legend(frameon=False, fontsize=8)
    return ax
