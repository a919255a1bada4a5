from collections.abc import Mapping

from matplotlib.axes import Axes

from retrograde.plots._colours import colour


def plot_energy(
    energies: Mapping[str, Mapping[str, float]], *, ax: Axes, ylabel: str = "energy of a time step (pJ)"
) -> Axes:
    """Draws what networks spend on what: one bar for each network, stacked of its parts.

    For accuracy against energy, use `plot_pareto`.

    Args:
        energies: Energy by part, in the unit that `ylabel` says, by network; see
            `retrograde.analysis.Consumption.parts`. A part has one colour in all bars.
        ax: Where to draw.
        ylabel: Quantity and unit.

    Returns:
        `ax`.
    """
    parts = list(dict.fromkeys(part for spent in energies.values() for part in spent))
    floor = dict.fromkeys(energies, 0.0)
    for number, part in enumerate(parts):
        heights = [spent.get(part, 0.0) for spent in energies.values()]
        ax.bar(list(energies), heights, bottom=list(floor.values()), width=0.6, color=colour(number), label=part)
        floor = {name: low + height for (name, low), height in zip(floor.items(), heights, strict=True)}
    ax.set(ylabel=ylabel, ylim=(0, 1.35 * max(floor.values()) or 1))  # the legend needs room
    ax.grid(axis="y", alpha=0.3)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize=8)
    return ax
