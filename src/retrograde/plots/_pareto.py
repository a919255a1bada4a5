from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from retrograde.plots._colours import Style, colour


def plot_pareto(
    costs: Mapping[str, float],
    scores: Mapping[str, Float[np.ndarray, " seed"]],
    front: Sequence[str],
    *,
    xlabel: str,
    ylabel: str,
    ax: Axes,
    styles: Mapping[str, Style] | None = None,
) -> Axes:
    """Draws what rules reach against what they cost: mean ± s.d. over seeds, and the front of those that none beats.

    Args:
        costs: Cost by rule, in the unit that `xlabel` says.
        scores: What was reached, shape `seed`, by rule.
        front: The rules that no other beats in both, from the cheapest on.
        xlabel: Cost and unit.
        ylabel: What was reached, and unit.
        ax: Where to draw.
        styles: How each rule looks; in the palette's order if `None`.

    Returns:
        `ax`.
    """
    corners = [(costs[name], scores[name].mean()) for name in front]
    ax.step(*zip(*corners, strict=True), where="post", color="#999999", linestyle=":", linewidth=1, zorder=0)
    for number, (name, cost) in enumerate(costs.items()):
        ink, _, marker = styles[name] if styles else Style(colour(number), "-", "o")
        values = scores[name]
        ax.errorbar(cost, values.mean(), yerr=values.std(), color=ink, marker=marker, linestyle="none", capsize=3)
        ax.annotate(name, (cost, values.mean()), xytext=(6, 4), textcoords="offset points", fontsize=8, color=ink)
    if max(costs.values()) > 10 * min(costs.values()):
        ax.set_xscale("log")
    ax.margins(x=0.25, y=0.15)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(alpha=0.3)
    return ax
