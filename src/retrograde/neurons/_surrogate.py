"""Spikes with a surrogate derivative."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class AbstractSurrogate(eqx.Module):
    """Stands in for the derivative of a spike with respect to the distance from threshold, in units of threshold."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a distance `x` from threshold."""


class Triangle(AbstractSurrogate):
    r"""$\psi(x) = \gamma\,\max(0, 1 - |x|)$.

    Attributes:
        dampening: Height $\gamma$ [1].

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, Methods.
    """

    dampening: float = 0.3

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The derivative at a distance `x` from threshold."""
        return self.dampening * jax.nn.relu(1 - jnp.abs(x))


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
        x: Distance from threshold in units of threshold [1].
        surrogate: The stand-in derivative.
    """
    return _heaviside(x, jax.lax.stop_gradient(surrogate(x)))
