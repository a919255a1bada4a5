from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from retrograde.plots._colours import Style, colour


def plot_credit_by_lag(
    first: Int[np.ndarray, " band"],
    last: Int[np.ndarray, " band"],
    delivered: Mapping[str, Float[np.ndarray, "seed band"]],
    size: Float[np.ndarray, " band"],
    *,
    ax: Axes,
    ylabel: str = "share of true credit delivered",
    styles: Mapping[str, Style] | None = None,
) -> Axes:
    """Draws how much of the true credit each rule delivers, as a function of lag; behind it, how much there is.

    Args:
        first: Smallest lag of each band [steps].
        last: Largest lag of each band [steps].
        delivered: Share delivered, or its cosine [1], shape `seed band`, by rule; NaN where there is nothing to
            deliver.
        size: Length of the true credit, in any unit: drawn relative to the largest.
        ax: Where to draw.
        ylabel: What is drawn.
        styles: How each rule looks; in the palette's order if `None`.

    Returns:
        `ax`.
    """
    place = np.arange(len(first))
    largest = size.max() if size.max() > 0 else 1.0
    ax.bar(place, size / largest, width=0.9, color="#999999", alpha=0.3, linewidth=0, label="true credit (relative)")
    for level in (0, 1):
        ax.axhline(level, color="#999999", linewidth=0.8)
    for number, (name, values) in enumerate(delivered.items()):
        ink, dashes, marker = styles[name] if styles else Style(colour(number), "-", "o")
        known = ~np.isnan(values).all(axis=0)
        mean, sd = np.nanmean(values[:, known], axis=0), np.nanstd(values[:, known], axis=0)
        # side by side, since exact rules lie on top of each other
        x = place[known] + 0.08 * (number - (len(delivered) - 1) / 2)
        bars = sd if len(values) > 1 else None
        ax.errorbar(x, mean, yerr=bars, color=ink, linestyle=dashes, marker=marker, markersize=4, capsize=2, label=name)
    ax.set_xticks(place, [str(a) if a == b else f"{a}–{b}" for a, b in zip(first, last, strict=True)])
    low, high = ax.get_ylim()
    ax.set_ylim(min(max(low, -1.0), -0.05), min(high, 2.0))
    ax.set(xlabel="lag between use and loss (steps)", ylabel=ylabel)
    ax.legend(fontsize=8, framealpha=0.7, edgecolor="none")
    return ax
