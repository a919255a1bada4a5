"""Spikes with a surrogate derivative."""

import abc
import math
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class AbstractSurrogate(eqx.Module):
    r"""Stands in for the derivative of a spike with respect to the distance from threshold.

    In which unit that distance is measured, the threshold's or the membrane's, is said by the neuron.

    Attributes:
        dampening: Factor $\gamma$ of the whole [1].
    """

    dampening: eqx.AbstractVar[float]

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a distance `x` from threshold."""


class Triangle(AbstractSurrogate):
    r"""$\psi(x) = \gamma\,\max(0, 1 - |x|)$; also called linear.

    Attributes:
        dampening: Height $\gamma$ [1].

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, Methods; with $\gamma = 0.5$ the "linear" one of Yin, Corradi &
        Bohte (2021), Nat. Mach. Intell. 3:905.
    """

    dampening: float = 0.3

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a distance `x` from threshold."""
        return self.dampening * jax.nn.relu(1 - jnp.abs(x))


class Gaussian(AbstractSurrogate):
    r"""$\psi(x) = \gamma\,\mathcal N(x; 0, \sigma)$, the density of a normal distribution.

    Attributes:
        sigma: Its standard deviation $\sigma$ [unit of $x$].
        dampening: Factor $\gamma$ [1].

    Source:
        Yin, Corradi & Bohte (2020), arXiv:2005.11633.
    """

    sigma: float = 0.5
    dampening: float = 0.5

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a distance `x` from threshold."""
        return self.dampening * _density(x, self.sigma)


class MultiGaussian(AbstractSurrogate):
    r"""A positive centre with two small negative flanks, which push neurons back from silence and from saturation.

    $$\psi(x) = \gamma\,\big((1+h)\,\mathcal N(x; 0, \sigma) - h\,\mathcal N(x; \sigma, s\sigma)
      - h\,\mathcal N(x; -\sigma, s\sigma)\big).$$

    Attributes:
        height: Weight $h$ of a flank [1].
        spread: Width $s$ of a flank, of that of the centre [1].
        sigma: Standard deviation $\sigma$ of the centre [unit of $x$].
        dampening: Factor $\gamma$ [1].

    Source:
        Yin, Corradi & Bohte (2021), Nat. Mach. Intell. 3:905, and the authors' programs.
    """

    height: float = 0.15
    spread: float = 6.0
    sigma: float = 0.5
    dampening: float = 0.5

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a distance `x` from threshold."""
        wide = self.spread * self.sigma
        flanks = _density(x - self.sigma, wide) + _density(x + self.sigma, wide)
        return self.dampening * ((1 + self.height) * _density(x, self.sigma) - self.height * flanks)


class Exponential(AbstractSurrogate):
    r"""$\psi(x) = \gamma\,e^{-\beta|x|}$, the one of SLAYER.

    Attributes:
        sharpness: $\beta$ [1/unit of $x$].
        dampening: Height $\gamma$ [1].

    Source:
        Shrestha & Orchard (2018), arXiv:1810.08646; with these constants, the "SLayer" of Yin, Corradi & Bohte (2021).
    """

    sharpness: float = 5.0
    dampening: float = 0.5

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a distance `x` from threshold."""
        return self.dampening * jnp.exp(-self.sharpness * jnp.abs(x))


class FastSigmoid(AbstractSurrogate):
    r"""$\psi(x) = \gamma\,(1 + \beta|x|)^{-2}$, the slope of $x/(1+|x|)$.

    Attributes:
        sharpness: $\beta$ [1/unit of $x$].
        dampening: Height $\gamma$ [1].

    Source:
        Zenke & Ganguli (2018), Neural Comput. 30:1514.
    """

    sharpness: float = 25.0
    dampening: float = 1.0

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a distance `x` from threshold."""
        return self.dampening / (1 + self.sharpness * jnp.abs(x)) ** 2


class ArcTan(AbstractSurrogate):
    r"""$\psi(x) = \gamma\,\frac{\alpha}{2}\big/\big(1 + (\frac{\pi}{2}\alpha x)^2\big)$, the slope of an arc tangent.

    Attributes:
        sharpness: $\alpha$ [1/unit of $x$].
        dampening: Factor $\gamma$ [1].

    Source:
        Fang et al. (2021), arXiv:2007.05785.
    """

    sharpness: float = 2.0
    dampening: float = 1.0

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a distance `x` from threshold."""
        return self.dampening * self.sharpness / 2 / (1 + (math.pi / 2 * self.sharpness * x) ** 2)


SURROGATES: Mapping[str, type[AbstractSurrogate]] = {
    "triangle": Triangle,
    "gaussian": Gaussian,
    "multi_gaussian": MultiGaussian,
    "exponential": Exponential,
    "fast_sigmoid": FastSigmoid,
    "arc_tan": ArcTan,
}


def _density(x, sigma):
    return jnp.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))


@jax.custom_jvp
def _heaviside(x, slope):
    return (x > 0).astype(x.dtype)


@_heaviside.defjvp
def _heaviside_jvp(primals, tangents):
    x, slope = primals
    return _heaviside(x, slope), slope * tangents[0]


def spike(x: Float[Array, "..."], surrogate: AbstractSurrogate) -> Float[Array, "..."]:
    """1 where `x > 0`, else 0; differentiates as if its slope were `surrogate(x)`.

    Args:
        x: Distance from threshold.
        surrogate: The stand-in derivative.
    """
    return _heaviside(x, jax.lax.stop_gradient(surrogate(x)))
