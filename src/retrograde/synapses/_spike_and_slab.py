"""Weights that are spike-and-slab distributions: an ensemble of networks in one."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Key

from ._abstract import AbstractSynapse, Moments, check_matrix


class SpikeAndSlab(AbstractSynapse):
    r"""A distribution over weights: each is absent with some probability, else Gaussian.

    $$P(w) = \pi\,\delta(w) + (1 - \pi)\,\mathcal N(w \mid m, \Xi).$$

    Mean $\mu = (1-\pi) m$ and variance $V = (1-\pi)\Xi + \pi(1-\pi)m^2$ (this form: $\varrho - \mu^2$ goes negative
    in float32). `project` clips $\pi$ to [0, 1] and $\Xi$ to [0, ∞), so that exactly 0 and 1 occur: they define the
    important and the unimportant connections.

    Attributes:
        m: Mean of the slab [current per activity], `"post pre"`.
        pi: Probability that the connection is absent [1], `"post pre"`.
        xi: Variance $\Xi$ of the slab [(current per activity)²], `"post pre"`.

    Raises:
        ValueError: If the three are not matrices of one shape.

    Example:
        >>> import jax.numpy as jnp
        >>> synapse = SpikeAndSlab(jnp.array([[2.0]]), jnp.array([[0.5]]), jnp.array([[1.0]]))
        >>> mean, variance = synapse.current(jnp.array([[1.0]]))
        >>> mean.item(), variance.item()
        (1.0, 1.5)

    Source:
        Zou, Li & Huang (2023), Phys. Rev. E 107, 024307, arXiv:2102.03740; the moments are eqs of the ensemble's
        mean-field dynamics there. $V$ is written without their subtraction.
    """

    m: Float[Array, "post pre"]
    pi: Float[Array, "post pre"]
    xi: Float[Array, "post pre"]

    def __check_init__(self):
        check_matrix("SpikeAndSlab", "m", self.m)
        for field in ("pi", "xi"):
            if jnp.shape(getattr(self, field)) != jnp.shape(self.m):
                raise ValueError(
                    f"`SpikeAndSlab({field}=...)` must have the shape of `m`, {jnp.shape(self.m)}, got "
                    f"{jnp.shape(getattr(self, field))}."
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows (post) and columns (pre)."""
        post, pre = self.m.shape
        return post, pre

    def moments(self) -> Moments:
        r"""Mean $\mu$ and variance $V$ of every weight."""
        present = 1 - self.pi
        return Moments(present * self.m, present * self.xi + self.pi * present * self.m**2)

    def sample(self, key: Key[Array, ""]) -> Moments:
        """Draws every weight once."""
        spike_key, slab_key = jr.split(key)
        present = jr.uniform(spike_key, self.m.shape, self.m.dtype) >= self.pi
        spread = jnp.where(self.xi > 0, jnp.sqrt(jnp.where(self.xi > 0, self.xi, 1)), 0)  # its slope is 0 at 0 too
        slab = self.m + spread * jr.normal(slab_key, self.m.shape, self.m.dtype)
        return Moments(jnp.where(present, slab, jnp.zeros_like(slab)))

    def scaled(self, factor: float) -> "SpikeAndSlab":
        r"""Multiplies every weight of the ensemble: $m$ by the factor, $\Xi$ by its square."""
        return SpikeAndSlab(factor * self.m, self.pi, factor**2 * self.xi)

    def project(self) -> "SpikeAndSlab":
        r"""Clips $\pi$ to [0, 1] and $\Xi$ to [0, ∞)."""
        return SpikeAndSlab(self.m, jnp.clip(self.pi, 0, 1), jnp.maximum(self.xi, 0))

    def certain(self) -> Bool[Array, "post pre"]:
        r"""Connections that are one number in every network of the ensemble: $\pi = 0$ and $\Xi = 0$ exactly.

        The "very important" connections of Li & Huang (2020), Phys. Rev. Lett. 125, 178301.
        """
        return (self.pi == 0) & (self.xi == 0)

    def absent(self) -> Bool[Array, "post pre"]:
        r"""Connections that no network of the ensemble has: $\pi = 1$ exactly (the "unimportant" ones)."""
        return self.pi == 1

    def important(self, max_pi: float = 0.1, max_xi: float = 0.1, min_m: float = 0.08) -> Bool[Array, "post pre"]:
        r"""Connections that are nearly always there, nearly fixed and large.

        $\pi \le$ `max_pi`, $\Xi <$ `max_xi` and $|m| >$ `min_m`: the thresholds of Zou et al. for the recurrent weights
        of multisensory integration.
        """
        return (self.pi <= max_pi) & (self.xi < max_xi) & (jnp.abs(self.m) > min_m)

    def discrete_entropy(self) -> Float[Array, "post pre"]:
        r"""Entropy of being there or not, $S_\pi = -\pi\ln\pi - (1-\pi)\ln(1-\pi)$ [nat]; 0 at $\pi\in\{0,1\}$."""
        return jax.scipy.special.entr(self.pi) + jax.scipy.special.entr(1 - self.pi)

    def continuous_entropy(self, floor: float = 1e-4) -> Float[Array, "post pre"]:
        r"""Entropy of the slab, $S_\Xi = \tfrac12\ln(2\pi\Xi) + \tfrac12$ [nat], with $\Xi$ at least `floor`."""
        return 0.5 * jnp.log(2 * jnp.pi * jnp.maximum(self.xi, floor)) + 0.5

    def entropy(self, key: Key[Array, ""], samples: int = 1000, floor: float = 1e-4) -> Float[Array, "post pre"]:
        r"""Entropy of the whole distribution [nat], its spike widened to a Gaussian of variance `floor`.

        $$S = -\pi\ln\!\big[\pi\mathcal N(0|0,\epsilon) + (1-\pi)\mathcal N(0|m,\Xi)\big]
          - (1-\pi)\,\mathbb E_\eta\ln\!\big[\pi\mathcal N(m+\sqrt\Xi\eta|0,\epsilon)
          + (1-\pi)\mathcal N(\eta|0,1)/\sqrt\Xi\big],$$

        an approximation (as its authors say), by Monte Carlo over `samples` draws of $\eta$; densities are floored at
        the smallest normal number of the type.

        Args:
            key: Seeds the draws, which all connections share.
            samples: Number of draws [1].
            floor: Width $\epsilon$ of the spike and least $\Xi$ [(current per activity)²].

        Source:
            Zou et al. (2023), "entropy I" of their analysis code.
        """
        dtype = self.m.dtype
        xi = jnp.maximum(self.xi, floor)
        tiny = jnp.finfo(dtype).tiny

        def log(density):
            return jnp.log(jnp.maximum(density, tiny))

        def gauss(x, variance):
            return jnp.exp(-0.5 * x**2 / variance) / jnp.sqrt(2 * jnp.pi * variance)

        at_spike = self.pi * gauss(jnp.zeros_like(xi), jnp.asarray(floor, dtype)) + (1 - self.pi) * gauss(self.m, xi)

        def add(total, eta):
            at_slab = self.pi * gauss(self.m + jnp.sqrt(xi) * eta, jnp.asarray(floor, dtype))
            at_slab += (1 - self.pi) * gauss(eta, jnp.ones_like(eta)) / jnp.sqrt(xi)
            return total + log(at_slab), None

        total, _ = jax.lax.scan(add, jnp.zeros_like(self.m), jr.normal(key, (samples,), dtype))
        return -self.pi * log(at_spike) - (1 - self.pi) * total / samples
