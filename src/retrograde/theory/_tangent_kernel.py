r"""The tangent kernel of an infinitely wide ensemble of recurrent networks, and how such a network learns.

Leaky neurons with ReLU, $s_t = (1-\alpha) s_{t-1} + \alpha i_t$, whose output $f = W_\mathrm{out} z_{T-1}$ is read at
the last step. Weights start as $m = \sigma\tilde m/\sqrt{\text{fan-in}}$ with $\tilde m \sim \mathcal N(0, 1)$;
recurrent ones are absent with probability $\pi$ and have the variance $\Xi = \tilde\Xi/N$. Gradient descent on
$\tilde m, \pi, \tilde\Xi$ then follows the kernel $\Theta(x, x') = \sum_\theta \partial_\theta f(x)\,
\partial_\theta f(x')$, which for $N\to\infty$ is no longer random and does not change while the network learns.

Zou, Li & Huang (2023), Phys. Rev. E 107, 024307, from their programs; for $\pi \neq 0$ and any mean of $\tilde\Xi$
derived here by the same steps.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Rows of covariances are `"time sample other"`: of one time step with all, of every sample with every other.


@dataclasses.dataclass(frozen=True)
class WideEnsemble:
    r"""How a wide network starts.

    Attributes:
        alpha: Leak $\alpha$, time step over time constant, in (0, 1] [1].
        sigma_in: $\sigma$ of the input weights, which are plain [current per input].
        sigma_rec: $\sigma$ of the recurrent weights [current per rate].
        sigma_out: $\sigma$ of the readout weights [output per rate].
        sigma_initial: Standard deviation of the state before the first step, drawn for every sample and run [state].
        pi: Probability $\pi$ that a connection is absent, the same for all [1].
        xi: Mean of $\tilde\Xi$, $N$ times the variance of a recurrent weight [current² per rate²].
        ensemble_readout: Whether the readout too has probabilities $\pi$, and learns them.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> import jax.numpy as jnp
        >>> inputs = jnp.array([[[1.0], [0.5878]], [[-1.0], [0.809]]])  # two steps of two samples of one channel
        >>> kernel = tangent_kernel(WideEnsemble(alpha=0.5), inputs).total
        >>> [round(float(entry), 3) for entry in kernel[0]]
        [0.436, 0.067]
    """

    alpha: float
    sigma_in: float = 1.0
    sigma_rec: float = 1.0
    sigma_out: float = 1.0
    sigma_initial: float = 1.0
    pi: float = 0.0
    xi: float = 0.5
    ensemble_readout: bool = False

    def __post_init__(self):
        if not 0 < self.alpha <= 1:
            raise ValueError(f"`WideEnsemble(alpha=...)` must lie in (0, 1], got {self.alpha}.")
        if not 0 <= self.pi <= 1:
            raise ValueError(f"`WideEnsemble(pi=...)` is a probability, got {self.pi}.")
        for name in ("sigma_in", "sigma_rec", "sigma_out", "sigma_initial", "xi"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`WideEnsemble({name}=...)` must not be negative, got {getattr(self, name)}.")

    @property
    def present(self) -> float:
        """Mean of (1-π)²."""
        return (1 - self.pi) ** 2

    @property
    def fluctuation(self) -> float:
        """Variance of a recurrent weight, times the number of neurons."""
        return (1 - self.pi) * self.xi + self.pi * (1 - self.pi) * self.sigma_rec**2


class TangentKernel(eqx.Module):
    r"""Kernels $\Theta(x, x')$ between samples, by what learns.

    That of the variances $\tilde\Xi$ is 0 at infinite width.

    Attributes:
        m_in: Of the input weights' $\tilde m$ [output²], `"sample other"`.
        m_rec: Of the recurrent weights' $\tilde m$.
        pi_rec: Of the recurrent connections' $\pi$.
        m_out: Of the readout weights' $\tilde m$.
        pi_out: Of the readout's $\pi$; 0 unless it is an ensemble too.
    """

    m_in: Float[Array, "sample other"]
    m_rec: Float[Array, "sample other"]
    pi_rec: Float[Array, "sample other"]
    m_out: Float[Array, "sample other"]
    pi_out: Float[Array, "sample other"]

    @property
    def total(self) -> Float[Array, "sample other"]:
        """The kernel of gradient descent on all of them with one learning rate."""
        return self.m_in + self.m_rec + self.pi_rec + self.m_out + self.pi_out


def relu_integrals(
    covariance: Float[Array, "..."], variance: Float[Array, "..."], other: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    r"""$\mathbb E[\phi(a)\phi(b)]$ and $\mathbb E[\phi'(a)\phi'(b)]$ of Gaussian $a, b$ with mean 0, for ReLU.

    Args:
        covariance: Of $a$ and $b$.
        variance: Of $a$.
        other: Variance of $b$.
    """
    size = jnp.sqrt(variance * other)
    is_there = size > 0
    cosine = jnp.clip(covariance / jnp.where(is_there, size, 1), -1, 1)
    angle = math.pi - jnp.arccos(cosine)
    rate = size / (2 * math.pi) * (cosine * angle + jnp.sqrt(1 - cosine**2))
    return rate, jnp.where(is_there, angle / (2 * math.pi), jnp.zeros_like(angle))


@partial(jax.jit, static_argnums=0)
def tangent_kernel(network: WideEnsemble, inputs: Float[Array, "time sample channel"]) -> TangentKernel:
    """Computes the tangent kernel of an infinitely wide network between all samples.

    For training and test samples, stack both. Memory and time grow with time² × sample², and time × sample² if
    `alpha` is 1.

    Args:
        network: How the network starts.
        inputs: What it sees [input], `"time sample channel"`.

    Returns:
        The kernels by kind of parameter.

    Source:
        Zou, Li & Huang (2023), from the recursions in their programs. Differs: each time step's covariances with all
        earlier ones are made at once, by the leak's linear filter.
    """
    rates, seen, slopes = _forward(network, inputs)
    present, out = network.present, network.sigma_out**2
    by_readout = present if network.ensemble_readout else 1.0
    last = (-1,) if network.alpha == 1 else (-1, -1)
    # `rates` begin before the first step, slopes with it
    credit = _backward(network, slopes, out * by_readout * slopes[last])
    before = rates[:-1] if network.alpha == 1 else rates[:-1, :-1]
    axes = tuple(range(credit.ndim - 2))
    recurrent = network.alpha**2 * network.sigma_rec**2 * jnp.sum(credit * before, axes)
    inward = network.alpha**2 * jnp.sum(credit * seen, axes)
    outward = out * rates[last]
    return TangentKernel(
        m_in=inward,
        m_rec=present * recurrent,
        pi_rec=recurrent,
        m_out=by_readout * outward,
        pi_out=outward if network.ensemble_readout else jnp.zeros_like(outward),
    )


def _forward(network, inputs):
    """E[φφ'] from before the first step on, products of the inputs, and E[φ'φ''], for all pairs of times and samples.

    With α = 1 only for equal times: unequal ones have no part in the kernel.
    """
    steps, samples, channels = inputs.shape
    scale = network.sigma_in**2 / channels
    same = jnp.eye(samples, dtype=inputs.dtype)
    recurrent = network.present * network.sigma_rec**2
    first = network.sigma_initial**2 * same

    if network.alpha == 1:
        seen = scale * jnp.einsum("tac,tbc->tab", inputs, inputs)

        def step(covariance, seen):
            rate, _ = _between(covariance)
            after = seen + (recurrent + network.fluctuation * same) * rate
            return after, (rate, _between(after)[1])

        last, (rates, slopes) = jax.lax.scan(step, first, seen)
        return jnp.concatenate([rates, _between(last)[0][None]]), seen, slopes

    seen = scale * jnp.einsum("tac,sbc->tsab", inputs, inputs)

    def source(i, before, variances):
        rate, _ = relu_integrals(before, variances[i - 1][None, :, None], variances[:, None, :])
        is_now = (jnp.arange(steps) == i - 1)[:, None, None]
        return seen[i - 1] + (recurrent + jnp.where(is_now, network.fluctuation * same[None], 0)) * rate[:-1]

    covariances = _covariances(source, first, steps, network.alpha)
    variances = jnp.einsum("ttaa->ta", covariances)
    rates, slopes = relu_integrals(covariances, variances[:, None, :, None], variances[None, :, None, :])
    return rates, seen, slopes[1:, 1:]


def _between(covariance):
    variance = jnp.diagonal(covariance)
    return relu_integrals(covariance, variance[:, None], variance[None])


def _backward(network, slopes, last):
    """Covariances of the credit of the states, summed over neurons, for all pairs of times and samples."""
    gain = network.present * network.sigma_rec**2
    if network.alpha == 1:

        def step(credit, slope):
            return gain * slope * credit, credit

        first, later = jax.lax.scan(step, last, slopes[:-1], reverse=True)
        return jnp.concatenate([first[None], later])
    steps = slopes.shape[0]
    reverse = slopes[::-1, ::-1]

    def source(i, before, variances):
        return gain * reverse[i, 1:] * before[:-1]

    return _covariances(source, last, steps - 1, network.alpha)[::-1, ::-1]


def _covariances(
    source: Callable, first: Float[Array, "sample other"], steps: int, alpha: float
) -> Float[Array, "time time sample other"]:
    r"""Covariances of $s_i = (1-\alpha) s_{i-1} + \alpha c_i$ for $i = 0 \ldots$ `steps`, of all pairs of times.

    Args:
        source: `(i, C[i-1, :], variances) -> Cov(c_i, c_j)` for j = 1 … `steps`, right for j ≤ i if `C[i-1, j]` is for
            j < i; the variances are those of the states before i, `"time sample"`.
        first: Covariance of $s_0$, which the $c$ do not depend on.
        steps: Number of the $c_i$.
        alpha: The leak.
    """
    keep = 1 - alpha
    times = jnp.arange(steps + 1)
    lags = times[:, None] - times[None, 1:]
    filtered = alpha * jnp.where(lags >= 0, keep ** jnp.maximum(lags, 0).astype(first.dtype), 0)  # state × current
    decay = keep ** times.astype(first.dtype)
    samples = first.shape[0]

    def row(carry, i):
        before, variances, mixed = carry
        new = source(i, before, variances)  # Cov(c_i, c_j)
        # Cov(s_i, c_j): for j < i from the step before; for j = i from what c_i has in common with the past
        with_past = jnp.einsum("e,eab->ba", filtered[i - 1], new)
        mixed = keep * mixed.at[i - 1].set(with_past) + alpha * new
        after = decay[i] * decay[:, None, None] * first[None] + jnp.einsum("je,eab->jab", filtered, mixed)
        after = jnp.where((times <= i)[:, None, None], after, 0)
        return (after, variances.at[i].set(jnp.diagonal(after[i])), mixed), after

    start = jnp.where((times == 0)[:, None, None], first[None], 0)
    variances = jnp.zeros((steps + 1, samples), first.dtype).at[0].set(jnp.diagonal(first))
    mixed = jnp.zeros((steps, samples, samples), first.dtype)
    _, rows = jax.lax.scan(row, (start, variances, mixed), times[1:])
    lower = jnp.concatenate([start[None], rows])
    is_lower = (times[:, None] >= times[None])[..., None, None]
    return jnp.where(is_lower, lower, lower.transpose(1, 0, 3, 2))


def linearised_training(
    kernel: Float[Array, "sample train"],
    start: Float[Array, " sample"],
    targets: Float[Array, " train"],
    *,
    rate: float,
    steps: int,
) -> Float[Array, "step sample"]:
    r"""Predicts the outputs of a wide network while it learns by gradient descent on half the summed squared error.

    $$f_{k+1}(x) = f_k(x) - \eta \sum_b \Theta(x, x_b)\,(f_k(x_b) - y_b).$$

    Args:
        kernel: $\Theta$ between all samples and those of the training set, which come first.
        start: Outputs before learning.
        targets: What the training samples shall give.
        rate: Learning rate $\eta$ [1/output²].
        steps: Number of updates.

    Returns:
        Outputs before learning and after each update.

    Raises:
        ValueError: If the shapes do not fit, or the rate is so large that the error must grow.

    Example:
        >>> import jax.numpy as jnp
        >>> linearised_training(jnp.eye(1), jnp.zeros(1), jnp.ones(1), rate=0.5, steps=2).ravel().tolist()
        [0.0, 0.5, 0.75]
    """
    samples, train = kernel.shape
    if start.shape != (samples,) or targets.shape != (train,) or train > samples:
        raise ValueError(
            "`linearised_training` needs a kernel of all samples with those of the training set, which come first: got "
            f"a kernel of shape {kernel.shape}, outputs of shape {start.shape} and targets of shape {targets.shape}."
        )
    largest = float(jnp.linalg.eigvalsh(kernel[:train])[-1])
    if not rate * largest < 2:
        raise ValueError(
            f"`linearised_training(rate={rate:g})`: with a largest eigenvalue of {largest:.3g} the error grows without "
            f"bound; take a rate below {2 / largest:.3g}."
        )

    def update(outputs, _):
        after = outputs - rate * kernel @ (outputs[:train] - targets)
        return after, after

    _, later = jax.lax.scan(update, start, length=steps)
    return jnp.concatenate([start[None], later])
