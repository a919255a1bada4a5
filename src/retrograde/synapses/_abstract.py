"""The contract of a synapse: presynaptic activity to the mean and the variance of a current."""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def product(matrix: Float[Array, "..."], pre: Float[Array, "*time_batch pre"]) -> Float[Array, "*time_batch post"]:
    """Applies a weight matrix `"post pre"`, or a one-to-one weight vector `"post"`, to presynaptic activity."""
    if matrix.ndim == 1:
        return pre * matrix.reshape((1,) * (pre.ndim - 1) + (-1,))
    # Two axes only: contracting time and batch as one makes the weight gradient five times faster on a CPU.
    return (pre.reshape(-1, pre.shape[-1]) @ matrix.T).reshape(*pre.shape[:-1], matrix.shape[0])


class Moments(eqx.Module):
    """The virtual weights of a synapse: what its current is linear in.

    A synapse of independent random weights with mean `mean` and variance `variance`, driven by `pre`, gives a
    current of mean `mean · pre` and variance `variance · pre²`. Every rule acts on this pair; the chain rule to the
    synapse's own parameters is the derivative of `AbstractSynapse.moments`.

    Attributes:
        mean: Mean weights [current per activity]; `"post pre"`, or `"post"` for one-to-one connections.
        variance: Variances of the weights, of the same shape, or `None` for weights that do not fluctuate.
    """

    mean: Float[Array, "..."]
    variance: Float[Array, "..."] | None = None

    def __call__(
        self, pre: Float[Array, "*time_batch pre"]
    ) -> tuple[Float[Array, "*time_batch post"], Float[Array, "*time_batch post"] | None]:
        """Turns presynaptic activity into the mean and the variance (or `None`) of the current."""
        variance = None if self.variance is None else product(self.variance, pre * pre)
        return product(self.mean, pre), variance

    def transpose(self) -> "Moments":
        """The same weights read from post to pre."""
        return Moments(self.mean.T, None if self.variance is None else self.variance.T)


class AbstractSynapse(eqx.Module):
    """How the weights of a projection are represented.

    A subclass gives `shape` and `moments`; `current`, `sample` and `project` follow from them unless the weights are
    random or have a range. Rows are the target's neurons (for a neuron with several ports: ports × neurons, port by
    port), columns the source's. `constants` names array fields that no optimiser may touch.
    """

    constants: ClassVar[tuple[str, ...]] = ()

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int]:
        """Number of rows (post) and columns (pre)."""

    @abc.abstractmethod
    def moments(self) -> Moments:
        """Mean and variance of every weight."""

    def current(
        self, pre: Float[Array, "*time_batch pre"]
    ) -> tuple[Float[Array, "*time_batch post"], Float[Array, "*time_batch post"] | None]:
        """Turns presynaptic activity into the mean and the variance (or `None`) of a current."""
        return self.moments()(pre)

    def sample(self, key: Key[Array, ""]) -> Moments:
        """Draws the weights once. Weights that do not fluctuate are their own sample."""
        moments = self.moments()
        if moments.variance is not None:
            raise NotImplementedError(f"`{type(self).__name__}` has random weights, so it must define `sample`.")
        return moments

    def scaled(self, factor: float) -> "AbstractSynapse":
        """Returns the synapse with its mean weights multiplied by a factor (weight decay)."""
        return jax.tree.map(lambda leaf: leaf * factor if eqx.is_inexact_array(leaf) else leaf, self)

    def project(self) -> "AbstractSynapse":
        """Returns the synapse with its parameters back in their range, after an optimiser's step."""
        return self


def check_matrix(name: str, field: str, value: Float[Array, "..."], ndim: int = 2) -> None:
    """Refuses a parameter array of the wrong rank, with a message that names it."""
    if jnp.ndim(value) != ndim:
        axes = '"post pre"' if ndim == 2 else '"neuron"'
        raise ValueError(f"`{name}({field}=...)` must have axes {axes}, got an array of shape {jnp.shape(value)}.")
