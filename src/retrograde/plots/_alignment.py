from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from retrograde.plots._colours import Style
from retrograde.plots._curves import plot_curves


def plot_alignment(
    values: Mapping[str, tuple[Int[np.ndarray, " point"], Float[np.ndarray, "seed point"]]],
    *,
    ylabel: str,
    ax: Axes,
    styles: Mapping[str, Style] | None = None,
) -> Axes:
    """Draws how far rules agree with the exact gradient while they train, from before the first update on.

    Args:
        values: Updates made before each measurement, shape `point`, and what was measured, shape `seed point`, by rule.
        ylabel: Quantity and unit.
        ax: Where to draw.
        styles: How each rule looks; in the palette's order if `None`.

    Returns:
        `ax`.
    """
    plot_curves(values, ylabel=ylabel, ax=ax, styles=styles)
    for level in (0, 1):
        ax.axhline(level, color="#999999", linewidth=0.8)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(lambda updates, _: f"{updates:,.0f}")
    return ax
