"""Weights that are plain numbers."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._abstract import AbstractSynapse, Moments, check_matrix


class Dense(AbstractSynapse):
    """A full weight matrix.

    The current is `weight · pre`.

    Attributes:
        weight: Weights [current per activity], `"post pre"`.

    Raises:
        ValueError: If `weight` is not a matrix.

    Example:
        >>> import jax.numpy as jnp
        >>> synapse = Dense(jnp.array([[1.0, 2.0]]))
        >>> mean, variance = synapse.current(jnp.array([[1.0, 1.0]]))
        >>> mean.tolist(), variance
        ([[3.0]], None)
    """

    weight: Float[Array, "post pre"]

    def __check_init__(self):
        check_matrix("Dense", "weight", self.weight)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows (post) and columns (pre)."""
        post, pre = self.weight.shape
        return post, pre

    def moments(self) -> Moments:
        """The weights themselves, without variance."""
        return Moments(self.weight)


class Diagonal(AbstractSynapse):
    """One-to-one connections; from a population to itself, local feedback.

    The current of neuron `i` is `weight[i] · pre[i]`.

    Attributes:
        weight: Weights [current per activity], `"neuron"`.

    Raises:
        ValueError: If `weight` is not a vector.
    """

    weight: Float[Array, " neuron"]

    def __check_init__(self):
        check_matrix("Diagonal", "weight", self.weight, ndim=1)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows (post) and columns (pre), equal."""
        return (self.weight.size, self.weight.size)

    def moments(self) -> Moments:
        """The weights as a vector, without variance."""
        return Moments(self.weight)


class Identity(AbstractSynapse):
    """A link: passes activity on unchanged. Has no parameter.

    Attributes:
        size: Number of neurons on either side.
    """

    size: int = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows (post) and columns (pre), equal."""
        return (self.size, self.size)

    def moments(self) -> Moments:
        """A vector of ones, without variance."""
        return Moments(jnp.broadcast_to(1.0, (self.size,)))  # weakly typed: the current has the type of the activity


class Dale(AbstractSynapse):
    r"""Weights whose sign belongs to the presynaptic neuron (Dale's law).

    $w_{ij} = s_j |\theta_{ij}|$.

    Attributes:
        weight: Parameters $\theta$ [current per activity], `"post pre"`; only their size matters.
        sign: Sign $s$ of each presynaptic neuron, +1 (excitatory) or -1 (inhibitory), `"pre"`. Not trained.

    Raises:
        ValueError: If `weight` is not a matrix, or `sign` is not +1 or -1 for each of its columns.
    """

    weight: Float[Array, "post pre"]
    sign: Int[np.ndarray, " pre"]

    def __init__(self, weight: Float[Array, "post pre"], sign):
        check_matrix("Dale", "weight", weight)
        sign = np.asarray(sign)
        if sign.shape != (weight.shape[1],) or not np.isin(sign, (-1, 1)).all():
            raise ValueError(
                f"`Dale(sign=...)` needs +1 or -1 for each of the {weight.shape[1]} presynaptic neurons, got {sign!r}."
            )
        self.weight = weight
        self.sign = sign.astype(np.int32)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows (post) and columns (pre)."""
        post, pre = self.weight.shape
        return post, pre

    def moments(self) -> Moments:
        """Signed weights, without variance."""
        return Moments(jnp.abs(self.weight) * self.sign.astype(self.weight.dtype)[None])
