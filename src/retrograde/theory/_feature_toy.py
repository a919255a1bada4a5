r"""The smallest ensemble that learns features: one neuron with many identical inputs.

A leaky tanh neuron reads $N$ copies of a signal through spike-and-slab weights and is to repeat it,

$$h_t = (1-\alpha) h_{t-1} + \alpha\,(G_t + \epsilon_t D_t), \quad G_t = a^{-1/2} \sum_i \mu_i x_t, \quad
  D_t = a^{-1/2} \sqrt{\textstyle\sum_i V_i x_t^2}.$$

With $m \sim \mathcal N(0, 1/N)$ and $a = N$ its output begins at almost 0, and to learn, the weights must change by as
much as they are: features. With $a = N^2$ they hardly move.

Zou, Li & Huang (2023), Phys. Rev. E 107, 024307, from their program.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

ALPHA = 0.9
RATES = (0.005, 0.01, 0.01)  # of m, π and Ξ, halved every `HALVED` epochs
HALVED = 100


class FeatureLearning(NamedTuple):
    r"""What the neuron did, epoch by epoch; the first entry is before learning.

    Attributes:
        loss: Half the squared error of a trial without noise, summed over its steps [1].
        mean: Mean size of the current's mean $G$ [1].
        deviation: Mean of its standard deviation $D$ [1].
        mean_part: Mean size of the part of $\partial h/\partial m$ that comes by $G$ [1].
        fluctuation_part: Of the part that comes by $D$ [1].
        change: Mean change of m, π and Ξ since the beginning over their mean size then [1], `"epoch parameter"`.
    """

    loss: Float[Array, " epoch"]
    mean: Float[Array, " epoch"]
    deviation: Float[Array, " epoch"]
    mean_part: Float[Array, " epoch"]
    fluctuation_part: Float[Array, " epoch"]
    change: Float[Array, "epoch parameter"]


@partial(jax.jit, static_argnames=("neurons", "epochs"))
def feature_learning(
    neurons: int, *, key: Key[Array, ""], scale: float | Float[Array, ""] | None = None, epochs: int = 600
) -> FeatureLearning:
    r"""Trains the neuron online, at every time step by that step's gradient alone, and watches.

    Args:
        neurons: $N$, number of its inputs.
        key: Seeds weights and noise.
        scale: $a$; $N$ if `None`.
        epochs: Number of passes over the 21 steps of the signal.

    Returns:
        Losses, currents, gradients and changes after each epoch.

    Example:
        >>> import jax
        >>> found = feature_learning(100, key=jax.random.key(0), epochs=100)
        >>> bool(found.loss[-1] < 0.2 * found.loss[0])
        True
    """
    a = jnp.asarray(float(neurons) if scale is None else scale)
    signal = jnp.sin(jnp.linspace(2.0, 10.0, 21))
    m_key, pi_key, xi_key, noise_key = jr.split(key, 4)
    start = (
        jr.normal(m_key, (neurons,)) / neurons**0.5,
        0.1 * jr.uniform(pi_key, (neurons,)),
        0.1 * jr.uniform(xi_key, (neurons,)),
    )

    def current(params, x):
        m, pi, xi = params
        mu, variance = (1 - pi) * m, (1 - pi) * xi + pi * (1 - pi) * m**2
        return a**-0.5 * jnp.sum(mu) * x, a**-0.5 * jnp.sqrt(jnp.sum(variance) * x**2)

    def parts(params, x, ratio):
        """Derivatives of m's current by its mean, and by its fluctuation; `ratio` is ε/D."""
        m, pi, _ = params
        return a**-0.5 * (1 - pi) * x, ratio / a * pi * (1 - pi) * m * x**2

    def online(carry, now):
        params, h = carry
        x, eps, rates = now
        mean, deviation = current(params, x)
        h = (1 - ALPHA) * h + ALPHA * (mean + eps * deviation)
        r = jnp.tanh(h)
        delta = ALPHA * (r - x) * (1 - r**2)
        ratio = jnp.where(deviation > 0, eps / jnp.where(deviation > 0, deviation, 1), 0)
        m, pi, xi = params
        by_mean, by_fluctuation = parts(params, x, ratio)
        m = m - rates[0] * delta * (by_mean + by_fluctuation)
        by_pi = -(a**-0.5) * m * x - 0.5 / a * ((2 * pi - 1) * m**2 + xi) * ratio * x**2
        pi = jnp.clip(pi - rates[1] * delta * by_pi, 0, 1)
        xi = jnp.maximum(xi - rates[2] * delta * 0.5 / a * (1 - pi) * ratio * x**2, 0)
        return ((m, pi, xi), h), None

    def measure(params, eps):
        def step(h, now):
            x, eps = now
            mean, deviation = current(params, x)
            h = (1 - ALPHA) * h + ALPHA * mean
            ratio = jnp.where(deviation > 0, eps / jnp.where(deviation > 0, deviation, 1), 0)
            by_mean, by_fluctuation = (ALPHA * jnp.abs(part).mean() for part in parts(params, x, ratio))
            return h, (0.5 * (jnp.tanh(h) - x) ** 2, jnp.abs(mean), deviation, by_mean, by_fluctuation)

        _, (losses, size, deviation, *gradient) = jax.lax.scan(step, jnp.zeros_like(a), (signal, eps))
        by_mean, by_fluctuation = gradient
        change = [jnp.abs(now - old).mean() / jnp.abs(old).mean() for now, old in zip(params, start, strict=True)]
        return FeatureLearning(
            loss=losses.sum(),
            mean=size.mean(),
            deviation=deviation.mean(),
            mean_part=by_mean.mean(),
            fluctuation_part=by_fluctuation.mean(),
            change=jnp.stack(change),
        )

    def epoch(params, number):
        rates = jnp.array(RATES) * 0.5 ** (number // HALVED).astype(a.dtype)
        learning, watching = jr.normal(jr.fold_in(noise_key, number), (2, signal.size))
        given = (signal, learning, jnp.broadcast_to(rates, (signal.size, 3)))
        (params, _), _ = jax.lax.scan(online, (params, jnp.zeros_like(a)), given)
        return params, measure(params, watching)

    before = measure(start, jr.normal(jr.fold_in(noise_key, epochs), signal.shape))
    _, after = jax.lax.scan(epoch, start, jnp.arange(epochs))
    return FeatureLearning(*(jnp.concatenate([first[None], later]) for first, later in zip(before, after, strict=True)))
