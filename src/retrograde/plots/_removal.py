from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from retrograde.plots._colours import MARKERS, colour


def plot_removal(
    fractions: Float[np.ndarray, " fraction"],
    scores: Mapping[str, Float[np.ndarray, "seed fraction"]],
    *,
    xlabel: str = "removed (%)",
    ylabel: str,
    ax: Axes,
    chance: float | None = None,
) -> Axes:
    """Draws what is left of a network as connections are removed: mean and standard deviation over seeds.

    Args:
        fractions: Shares removed [1]; drawn as per cent.
        scores: What was measured, by the set of connections, in the unit of `ylabel`.
        xlabel: Of what the shares are.
        ylabel: Quantity and unit.
        ax: Where to draw.
        chance: Score of a guess, drawn as a line.

    Returns:
        `ax`.
    """
    for number, (name, score) in enumerate(scores.items()):
        ax.errorbar(
            100 * fractions,
            score.mean(axis=0),
            score.std(axis=0),
            color=colour(number),
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            label=name,
        )
    if chance is not None:
        ax.axhline(chance, color="black", linestyle=":", linewidth=1)
        ax.annotate("chance", (0, chance), fontsize=8, va="bottom")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, fontsize=8)
    return ax
