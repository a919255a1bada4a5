from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from retrograde.plots._colours import DASHES, Style, colour


def plot_curves(
    curves: Mapping[str, tuple[Int[np.ndarray, " row"], Float[np.ndarray, "seed row"]]],
    *,
    ylabel: str,
    ax: Axes,
    logarithmic: bool = False,
    styles: Mapping[str, Style] | None = None,
) -> Axes:
    """Draws a quantity against updates: mean over seeds, with a band of ± s.d. where there are several.

    Args:
        curves: Updates made, shape `row`, and values, shape `seed row`, by name.
        ylabel: Quantity and unit.
        ax: Where to draw.
        logarithmic: Whether the vertical axis is logarithmic.
        styles: How each curve looks, by name; in the palette's order if `None`.

    Returns:
        `ax`.
    """
    for number, (name, (step, values)) in enumerate(curves.items()):
        mean, sd = values.mean(axis=0), values.std(axis=0)
        ink, dashes = colour(number), DASHES[number // 7 % len(DASHES)]
        if styles is not None:
            ink, dashes, _ = styles[name]
        ax.plot(step, mean, label=name, marker="." if len(step) < 15 else None, color=ink, linestyle=dashes)
        if len(values) > 1:
            ax.fill_between(step, mean - sd, mean + sd, color=ink, alpha=0.2, linewidth=0)
    if logarithmic:
        ax.set_yscale("log")
    ax.set(xlabel="updates", ylabel=ylabel)
    ax.grid(alpha=0.3)
    if len(curves) > 1:
        ax.legend(frameon=False)
    return ax
