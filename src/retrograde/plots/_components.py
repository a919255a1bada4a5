from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from retrograde.plots._colours import MARKERS, colour


def plot_variance(
    shares: Mapping[str, Float[np.ndarray, "seed component"]], *, ax: Axes, line: float | None = None
) -> Axes:
    """Draws how much of the variance the first principal components hold together: mean and s.d. over seeds.

    Args:
        shares: Share of each component, most first [1], by what was analysed.
        ax: Where to draw.
        line: A share to compare with, drawn as a line [1].

    Returns:
        `ax`.
    """
    for number, (name, share) in enumerate(shares.items()):
        together = 100 * np.cumsum(share, axis=1)
        ax.errorbar(
            np.arange(1, together.shape[1] + 1),
            together.mean(axis=0),
            together.std(axis=0),
            color=colour(number),
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            label=name,
        )
    if line is not None:
        ax.axhline(100 * line, color="black", linestyle=":", linewidth=1)
    ax.set(xlabel="principal components", ylabel="variance in all of them (%)")
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_trajectories(path: Float[np.ndarray, "time trial 3"], kinds: Sequence[str], *, ax: Any) -> Any:
    """Draws trajectories along three directions, their beginnings black and their ends as dots.

    Args:
        path: Coordinates, from `PrincipalComponents.project`.
        kinds: What each trial is; trials of one kind share a colour.
        ax: Where to draw; three-dimensional, `figure.add_subplot(projection="3d")`.

    Returns:
        `ax`.
    """
    for number, kind in enumerate(dict.fromkeys(kinds)):
        trials = [trial for trial, other in enumerate(kinds) if other == kind]
        for trial in trials:
            label = kind if trial == trials[0] else None
            ax.plot(*path[:, trial].T, color=colour(number), linewidth=0.8, label=label)
        ax.scatter(*path[-1, trials].T, color=colour(number), s=8)
    ax.scatter(*path[0].T, color="black", s=8)
    ax.set(xlabel="PC 1", ylabel="PC 2", zlabel="PC 3")
    ax.legend(frameon=False, fontsize=8)
    return ax
