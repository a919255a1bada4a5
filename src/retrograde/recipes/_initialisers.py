"""First values of weights, by the names that recipes use."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key


def constant(key: Key[Array, ""], shape: tuple[int, int], *, value: float) -> Float[Array, "post pre"]:
    """Fills with `value`."""
    return jnp.full(shape, value)


def zeros(key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "post pre"]:
    """Fills with 0."""
    return jnp.zeros(shape)


def identity(key: Key[Array, ""], shape: tuple[int, int], *, scale: float = 1.0) -> Float[Array, "post pre"]:
    """Puts `scale` on the diagonal: each neuron keeps what it had."""
    return scale * jnp.eye(*shape)


def normal(key: Key[Array, ""], shape: tuple[int, int], *, sd: float, mean: float = 0.0) -> Float[Array, "post pre"]:
    """Draws from a normal distribution."""
    return mean + sd * jr.normal(key, shape)


def scaled_normal(key: Key[Array, ""], shape: tuple[int, int], *, gain: float = 1.0) -> Float[Array, "post pre"]:
    """Draws from a normal distribution of s.d. `gain` / √(number of presynaptic neurons)."""
    return gain * shape[1] ** -0.5 * jr.normal(key, shape)


def uniform(
    key: Key[Array, ""], shape: tuple[int, int], *, low: float = 0.0, high: float = 1.0
) -> Float[Array, "post pre"]:
    """Draws evenly from `low` to `high`."""
    return jr.uniform(key, shape, minval=low, maxval=high)


def orthogonal(key: Key[Array, ""], shape: tuple[int, int], *, scale: float = 1.0) -> Float[Array, "post pre"]:
    """Draws a matrix with orthonormal rows or columns, whichever are fewer, times `scale`."""
    post, pre = shape
    Q, R = jnp.linalg.qr(jr.normal(key, (max(shape), min(shape))))
    Q = Q * jnp.sign(jnp.diagonal(R))[None, :]  # without it the draw is not uniform over rotations
    return scale * (Q if post >= pre else Q.T)


INITIALISERS: Mapping[str, Callable] = {
    "constant": constant,
    "identity": identity,
    "normal": normal,
    "orthogonal": orthogonal,
    "scaled_normal": scaled_normal,
    "uniform": uniform,
    "zeros": zeros,
}
