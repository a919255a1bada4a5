from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from retrograde.plots._colours import colour


def plot_raster(
    spikes: Float[np.ndarray, "time neuron"] | Mapping[str, Float[np.ndarray, "time neuron"]],
    dt: float,
    *,
    ax: Axes,
) -> Axes:
    """Draws a dot for every spike of one trial.

    Args:
        spikes: Activity of the neurons, shape `time neuron`; not 0 where a neuron fires. By population, these are
            stacked from below, each in a colour of its own.
        dt: Length of a time step [ms]. Step 0 ends at `dt`.
        ax: Where to draw.

    Returns:
        `ax`.
    """
    populations = spikes if isinstance(spikes, Mapping) else {"": spikes}
    below = 0
    for number, (name, activity) in enumerate(populations.items()):
        step, neuron = np.nonzero(activity)
        ax.plot(
            (step + 1) * dt,
            below + neuron,
            linestyle="none",
            marker="|",
            markersize=3,
            color=colour(number),
            label=name,
        )
        below += activity.shape[1]
    steps = max(activity.shape[0] for activity in populations.values())
    ax.set(xlabel="time (ms)", ylabel="neuron", xlim=(0, (steps + 1) * dt), ylim=(-0.5, below - 0.5))
    if isinstance(spikes, Mapping) and len(spikes) > 1:
        ax.legend(frameon=False, fontsize=8, markerscale=2, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(spikes))
    return ax


def plot_membrane(
    v: Float[np.ndarray, " time"],
    threshold: float | Float[np.ndarray, " time"],
    spikes: Float[np.ndarray, " time"],
    dt: float,
    *,
    ax: Axes,
) -> Axes:
    """Draws the membrane potential of one neuron, its threshold and its spikes.

    Args:
        v: Membrane potential, shape `time` [unit of the threshold].
        threshold: Threshold, one number, or shape `time` where it adapts.
        spikes: Activity, shape `time`; not 0 where the neuron fires.
        dt: Length of a time step [ms]. Step 0 ends at `dt`.
        ax: Where to draw.

    Returns:
        `ax`.
    """
    time = dt * np.arange(1, len(v) + 1)
    limit = np.broadcast_to(threshold, v.shape)
    ax.plot(time, v, color=colour(0), linewidth=1.2, label="membrane")
    ax.plot(time, limit, color="#5F5F5F", linewidth=1, linestyle="--", label="threshold")
    fired = np.flatnonzero(spikes)
    above = max(v.max(), limit.max()) + 0.08 * (np.ptp(np.concatenate([v, limit])) or 1.0)
    ax.plot(time[fired], np.full(len(fired), above), linestyle="none", marker="|", color=colour(1), label="spikes")
    ax.set(xlabel="time (ms)", ylabel="membrane potential (1)")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_time_constants(
    before: Float[np.ndarray, "..."], after: Float[np.ndarray, "..."], *, ax: Axes, bins: int = 30
) -> Axes:
    """Draws how time constants were distributed before training and are after it.

    Args:
        before: Time constants before, any shape [ms].
        after: Time constants after, any shape [ms].
        ax: Where to draw.
        bins: Number of bins, which both share.

    Returns:
        `ax`.
    """
    low, high = (float(edge(np.append(before, after))) for edge in (np.min, np.max))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    for number, (name, values) in enumerate({"before": before, "after": after}.items()):
        counts, _ = np.histogram(values, edges)
        ax.stairs(counts, edges, label=name, color=colour(number), linewidth=1.3)
    ax.set(xlabel="time constant (ms)", ylabel="neurons (1)")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=8)
    return ax
