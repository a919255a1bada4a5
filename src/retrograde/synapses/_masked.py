"""Wrappers around another synapse: absent or fixed entries, and shared weights."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from ._abstract import AbstractSynapse, Moments


class Masked(AbstractSynapse):
    """Another synapse, some of whose entries are not free.

    Where `mask` is `False`, the weight is the constant `fill`: 0 for a connection that does not exist (sparse nets,
    no self-connections), any other number for one that is frozen. Such entries neither fluctuate nor learn.

    Attributes:
        synapse: The synapse whose entries are masked.
        mask: `True` where the synapse's own weight holds; shape of its mean, `"post pre"` (`"neuron"` for one-to-one
            connections). Not trained.
        fill: Weight elsewhere [current per activity]; one number, or one for each entry. Not trained.

    Raises:
        ValueError: If `mask` is not boolean, or its shape or that of `fill` does not fit the synapse, or the synapse is
            `Tied`.

    Example:
        >>> import jax.numpy as jnp, numpy as np, retrograde as rg
        >>> no_self = rg.synapses.Masked(rg.synapses.Dense(jnp.ones((2, 2))), ~np.eye(2, dtype=bool))
        >>> no_self.moments().mean.tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """

    constants: ClassVar[tuple[str, ...]] = ("fill",)

    synapse: AbstractSynapse
    mask: Bool[np.ndarray, "..."] | Bool[Array, "..."]
    fill: float | Float[Array, "..."] = 0.0

    def __check_init__(self):
        if isinstance(self.synapse, Tied):
            raise ValueError("`Masked(Tied(...))` has no weights to mask: mask those of the projection it is tied to.")
        shape = jax.eval_shape(self.synapse.moments).mean.shape
        if not jnp.issubdtype(jnp.result_type(self.mask), bool) or jnp.shape(self.mask) != shape:
            raise ValueError(
                f"`Masked(mask=...)` must be boolean of shape {shape}, the shape of the weights, got "
                f"{jnp.result_type(self.mask)} of shape {jnp.shape(self.mask)}."
            )
        if jnp.shape(self.fill) not in ((), shape):
            raise ValueError(
                f"`Masked(fill=...)` must be one number or an array of shape {shape}, got {jnp.shape(self.fill)}."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows (post) and columns (pre)."""
        return self.synapse.shape

    def _fill(self, moments: Moments) -> Moments:
        mean, mask = moments.mean, jnp.asarray(self.mask)
        fill = self.fill if jnp.ndim(self.fill) == 0 else jnp.asarray(self.fill, mean.dtype)
        mean = jnp.where(mask, mean, fill)
        variance = moments.variance
        return Moments(mean, None if variance is None else jnp.where(mask, variance, jnp.zeros_like(variance)))

    def moments(self) -> Moments:
        """The synapse's moments where `mask` holds, `fill` without variance elsewhere."""
        return self._fill(self.synapse.moments())

    def sample(self, key: Key[Array, ""]) -> Moments:
        """Draws the synapse's weights; `fill` elsewhere."""
        return self._fill(self.synapse.sample(key))

    def scaled(self, factor: float) -> "Masked":
        """Multiplies the weights of the synapse inside; `fill` stays."""
        return Masked(self.synapse.scaled(factor), self.mask, self.fill)

    def project(self) -> "Masked":
        """Projects the synapse inside."""
        return Masked(self.synapse.project(), self.mask, self.fill)


class Tied(AbstractSynapse):
    """Uses the weights of another projection, or their transpose. Gradients of shared weights add.

    Attributes:
        to: Name of the projection that owns the weights.
        rows: Number of rows (post) here.
        columns: Number of columns (pre) here.
        transposed: Whether the weights are read from post to pre.
    """

    to: str = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    columns: int = eqx.field(static=True)
    transposed: bool = eqx.field(static=True, default=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows (post) and columns (pre)."""
        return (self.rows, self.columns)

    def moments(self) -> Moments:
        """Only a network knows the weights: see `Network.moments`.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"`Tied(to={self.to!r})` has no weights of its own; `Network.moments()` resolves them.")
