"""From numbers to spikes: pure functions, arrays in, arrays out."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int32, Integer, Key, Real, UInt8


def poisson(key: Key[Array, ""], rate: Float[Array, "*shape"], *, dt: float = 1.0) -> Float[Array, "*shape"]:
    r"""Draws spikes at given rates, each step and channel independently of the others.

    $$P(z = 1) = \min(1,\ r \,\Delta t / 1000).$$

    Args:
        key: Key of the draw.
        rate: Rate $r$ in each step of each channel [Hz], of any shape, as a rule `time ... channel`.
        dt: Length of a step, $\Delta t$ [ms].

    Returns:
        Spikes, 0 or 1, in shape and dtype of `rate`. Float32 and float64 give the same spikes, but where rounding the
        rate decides.

    Raises:
        ValueError: If `dt` is not positive, or (where it can be seen: not while compiling) a rate is negative or NaN.

    Example:
        >>> spikes = poisson(jr.key(0), jnp.full((1000, 2), 50.0))
        >>> spikes.sum(axis=0).tolist()  # of 1,000 steps of 1 ms, 50 are expected
        [49.0, 61.0]

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, and its code. At most one spike in a step, hence Bernoulli.
    """
    _check_positive("poisson", "dt", dt)
    _check_values("poisson", "rate", rate, lambda r: r >= 0, "must not be negative or NaN; rates are in Hz")
    # Drawn in float32: the same spikes whatever the default type is.
    chance = jr.uniform(key, rate.shape, jnp.float32)
    return (chance < (rate * (dt / 1000)).astype(jnp.float32)).astype(rate.dtype)


def latency(values: Float[Array, "*shape"], steps: int, *, spike_at_zero: bool = False) -> Float[Array, "time ..."]:
    r"""Turns each value into the time of one spike, the earlier the larger.

    $$t = \mathrm{round}\big((1 - x)(T - 1)\big),$$

    so that 1 spikes in the first step and 0 in the last, or not at all. Halves are rounded to the even step.

    Args:
        values: Numbers $x$, 0 to 1 [1], of any shape.
        steps: Number of time steps $T$.
        spike_at_zero: Whether a value of exactly 0 spikes, in the last step.

    Returns:
        Spikes, 0 or 1, in the dtype of `values`: time first.

    Raises:
        ValueError: If `steps` is no positive integer, or (where it can be seen) a value is not between 0 and 1.

    Example:
        >>> latency(jnp.array([1.0, 0.5, 0.0]), 3).T.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]

    Source:
        Time to first spike, linear in the value; Thorpe, Fize and Marlot (1996), Nature 381:520-522, is the argument
        that one spike may do. The form is ours.
    """
    _check_count("latency", "steps", steps, 1)
    _check_values("latency", "values", values, lambda x: (x >= 0) & (x <= 1), "must lie between 0 and 1")
    moment = jnp.round((1 - values) * (steps - 1)).astype(jnp.int32)
    time = jnp.arange(steps, dtype=jnp.int32).reshape((steps,) + (1,) * values.ndim)
    spikes = time == moment[None]
    if not spike_at_zero:
        spikes = spikes & (values > 0)[None]
    return spikes.astype(values.dtype)


def population(
    values: Float[Array, "*shape"],
    neurons: int,
    low: float = 0.0,
    high: float = 1.0,
    width: float | None = None,
    *,
    density: bool = False,
) -> Float[Array, "*shape neuron"]:
    r"""Shows each number to a population of neurons with Gaussian receptive fields.

    $$a_k = e^{-(x - c_k)^2 / 2 w^2}, \qquad c_k = c_\mathrm{low} + k \, \frac{c_\mathrm{high} - c_\mathrm{low}}{n - 1},
      \quad k = 0 \ldots n-1.$$

    Args:
        values: Numbers $x$, of any shape.
        neurons: Number of neurons $n$, two or more.
        low: Centre of the first neuron's field [unit of `values`].
        high: Centre of the last one's.
        width: Standard deviation $w$ of the fields [unit of `values`]. `None`: the distance between two centres.
        density: If true, $a_k$ is divided by $w \sqrt{2\pi}$, which makes it the normal density (and may exceed 1).

    Returns:
        Activities of the neurons, in the dtype of `values`; not normalised over the population. They may be used as
        they are, as rates for `poisson`, or compared with a threshold.

    Raises:
        ValueError: If there are fewer than two neurons, `high` is not above `low`, or `width` is not positive.

    Example:
        >>> population(jnp.array([0.5]), 3, width=0.5).tolist()
        [[0.60653..., 1.0, 0.60653...]]

        As Yin et al. show pixels to `n` neurons: the first centre is below 0, and the width is that of $n - 2$ parts.

        >>> n = 6
        >>> pixels = jnp.linspace(0.0, 1.0, 784)
        >>> population(pixels, n, low=-1 / (n - 2), high=1.0, width=1 / (n - 2), density=True).shape
        (784, 6)

    Source:
        Bohte, Kok and La Poutré (2002), Neurocomputing 48:17-37; Yin, Corradi and Bohte (2021), Nat. Mach. Intell.
        3:905-913, and its code's `RBF_encode`.
    """
    _check_count("population", "neurons", neurons, 2)
    if not high > low:
        raise ValueError(f"`population(low=..., high=...)`: `high` must be above `low`, got {low} and {high}.")
    width = (high - low) / (neurons - 1) if width is None else width
    _check_positive("population", "width", width)
    centres = jnp.asarray(np.linspace(low, high, neurons), values.dtype)
    centres = centres.reshape((1,) * values.ndim + (neurons,))
    scale = 1 / (width * math.sqrt(2 * math.pi)) if density else 1.0
    return scale * jnp.exp(-((values[..., None] - centres) ** 2) / (2 * width**2))


def threshold(values: Float[Array, "*shape"], level: float) -> Float[Array, "*shape"]:
    r"""Tells which numbers stand out, above or below.

    $$z = H(x - \vartheta) - H(-\vartheta - x) \in \{-1, 0, 1\},$$

    with $H(0) = 0$. (It has no useful derivative: learn $\vartheta$ as a network's own threshold instead.)

    Args:
        values: Numbers $x$, of any shape.
        level: Threshold $\vartheta$ [unit of `values`], 0 or more.

    Returns:
        1 above `level`, -1 below `-level`, else 0; in the dtype of `values`.

    Raises:
        ValueError: If `level` is negative.

    Example:
        >>> threshold(jnp.array([-0.2, -0.05, 0.0, 0.06]), 0.05).tolist()
        [-1.0, 0.0, 0.0, 1.0]

    Source:
        Yin, Corradi and Bohte (2021), Nat. Mach. Intell. 3:905-913, for speech commands, with a level of 0.05. Differs
        from it: there the level is trained.
    """
    if not level >= 0:
        raise ValueError(f"`threshold(level=...)` must not be negative, got {level}.")
    return (values > level).astype(values.dtype) - (values < -level).astype(values.dtype)


def level_crossing(signal: Float[Array, "time *batch lead"], step: float) -> Float[Array, "time *batch channel"]:
    r"""Sends a spike where a signal rises or falls by at least `step` from one sample to the next.

    $$u_t = [x_{t+1} - x_t \ge \delta], \qquad d_t = [x_t - x_{t+1} \ge \delta].$$

    The spike is at the *earlier* of the two samples, as in the source, so that it is one sample ahead of what a device
    could know; the last step has none.

    Args:
        signal: Signals $x$, time first, leads last.
        step: $\delta$ [unit of `signal`].

    Returns:
        Spikes, 0 or 1, in the dtype of `signal`, two channels for each lead: lead 0 up, lead 0 down, lead 1 up, …

    Raises:
        ValueError: If `step` is not positive, or there is no time step.

    Example:
        >>> level_crossing(jnp.array([[0.0], [0.5], [0.4], [0.1]]), 0.3).tolist()
        [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]

    Source:
        Yin, Corradi and Bohte (2021), Nat. Mach. Intell. 3:905-913, and its code's `convert_seq`, with a step of 0.03.
        Differs from it: no smoothing; there the signal first goes through a Savitzky-Golay filter (5 points, order 3).
    """
    _check_positive("level_crossing", "step", step)
    if signal.shape[0] == 0:
        raise ValueError("`level_crossing` got a signal without a time step.")
    # Two comparisons of the same differences, as the source has them: they agree with it to the last bit.
    up = signal[1:] - signal[:-1] >= step
    down = signal[:-1] - signal[1:] >= step
    spikes = jnp.stack([up, down], axis=-1).reshape(*up.shape[:-1], 2 * signal.shape[-1])
    return jnp.concatenate([spikes, jnp.zeros_like(spikes[:1], shape=(1, *spikes.shape[1:]))]).astype(signal.dtype)


def bin_events(
    times: Real[np.ndarray, " _event"],
    channels: Integer[np.ndarray, " _event"],
    *,
    steps: int,
    size: int,
    dt: float,
    counts: bool = False,
    closed: str = "right",
) -> UInt8[np.ndarray, "time channel"] | Int32[np.ndarray, "time channel"]:
    r"""Sorts events into time steps, on the host.

    | `closed` | bin $i$ collects | bin 0 |
    | --- | --- | --- |
    | `"right"` | $(i-1)\,\Delta t < t \le i\,\Delta t$ | only $t \le 0$ |
    | `"left"` | $i\,\Delta t \le t < (i+1)\,\Delta t$ | $t < \Delta t$, also below 0 |

    Later events are dropped.

    Args:
        times: Time of each event, in any order [unit of `dt`].
        channels: Channel of each event, 0 to `size - 1`.
        steps: Number of bins.
        size: Number of channels.
        dt: Length of a bin $\Delta t$, in the unit of `times`.
        counts: If true, how many events there are; if false, whether there is one.
        closed: Which end of a bin belongs to it, see the table.

    Returns:
        0 or 1 as `uint8`, or numbers of events as `int32`, shape `time channel`.

    Raises:
        ValueError: If there are not as many times as channels, a time is NaN or infinite, a channel does not exist, or
            a number is out of range.

    Example:
        >>> bin_events(np.array([0.0, 0.5, 1.0, 1.5, 9.0]), np.array([0, 1, 1, 0, 0]), steps=3, size=2, dt=1.0).tolist()
        [[1, 0], [0, 1], [1, 0]]

        As Yin et al. bin the Heidelberg digits, 1 s in steps of 4 ms, with unit 0 dropped:

        >>> times, units = np.array([0.003, 0.01]), np.array([0, 699])  # in seconds, as in the files
        >>> keep = units > 0
        >>> spikes = bin_events(times[keep], 700 - units[keep], steps=250, size=700, dt=0.004)
        >>> np.argwhere(spikes).tolist()
        [[3, 1]]

    Source:
        Yin, Corradi and Bohte (2021), Nat. Mach. Intell. 3:905-913, and its code's `generate_dataset.py`: binary, and
        `closed="right"`.
    """
    _check_count("bin_events", "steps", steps, 1)
    _check_count("bin_events", "size", size, 1)
    _check_positive("bin_events", "dt", dt)
    if closed not in ("left", "right"):
        raise ValueError(f"`bin_events(closed=...)` must be 'left' or 'right', got {closed!r}.")
    if times.shape != channels.shape:
        raise ValueError(
            f"`bin_events` got {times.shape[0]} times but {channels.shape[0]} channels, one for each event."
        )
    if not np.all(np.isfinite(times)):
        raise ValueError("`bin_events(times=...)` has a time that is NaN or infinite.")
    if channels.size and not 0 <= channels.min() <= channels.max() < size:
        wrong = channels.min() if channels.min() < 0 else channels.max()
        raise ValueError(f"`bin_events` got an event in channel {wrong}, but there are channels 0 to {size - 1}.")
    # By comparison with the edges, not by division, whose rounding moves an event that is just on an edge.
    edges = np.arange(steps) * dt
    if closed == "right":
        number, is_kept = np.searchsorted(edges, times, side="left"), times <= edges[-1]
    else:
        number, is_kept = np.searchsorted(edges[1:], times, side="right"), times < steps * dt
    binned = np.zeros((steps, size), np.int32 if counts else np.uint8)
    place = (number[is_kept], channels[is_kept])
    if counts:
        np.add.at(binned, place, 1)
    else:
        binned[place] = 1
    return binned


def _check_values(owner: str, name: str, values: Array, is_right: Callable[[Any], Any], rule: str) -> None:
    """Refuses values out of range where they can be seen."""
    if isinstance(values, jax.core.Tracer):
        return
    seen = np.asarray(values)
    wrong = seen[~is_right(seen)]
    if wrong.size:
        raise ValueError(f"`{owner}({name}=...)` {rule}, got {wrong[0]:g}.")


def _check_positive(owner: str, name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"`{owner}({name}=...)` must be positive and finite, got {value}.")


def _check_count(owner: str, name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{owner}({name}=...)` must be an integer of at least {least}, got {value!r}.")
