from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from retrograde.plots._colours import colour


def plot_distribution(values: Mapping[str, Float[np.ndarray, "..."]], *, xlabel: str, ax: Axes, bins: int = 50) -> Axes:
    """Draws how a parameter is distributed in each projection: per cent of its connections in each bin.

    Args:
        values: The parameter of all connections, any shape, by projection.
        xlabel: Quantity and unit.
        ax: Where to draw.
        bins: Number of bins.

    Returns:
        `ax`.
    """
    everything = np.concatenate([value.ravel() for value in values.values()])
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    for number, (name, value) in enumerate(values.items()):
        counts, _ = np.histogram(value, edges)
        ax.stairs(100 * counts / value.size, edges, label=name, color=colour(number), linewidth=1.3)
    ax.set_yscale("log")
    ax.locator_params(axis="x", nbins=6)
    ax.set(xlabel=xlabel, ylabel="connections (%)")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=8)
    return ax
