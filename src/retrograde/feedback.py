"""Feedback operators: what carries credit backwards across a projection.

Forward, a projection is its synapse. Backward it is the exact transpose of the mean weights unless it has an operator
of this file: then credit returns by another matrix, while the weights' own gradient stays what it is.
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

KINDS = ("exact", "random", "adaptive", "sign", "uniform")


class AbstractFeedback(eqx.Module):
    """The contract: mean weights to the matrix that credit returns by.

    `constants` names array fields that no optimiser may touch. `shape` is that of the arrays inside, or `None` where
    any weights fit.
    """

    constants: ClassVar[tuple[str, ...]] = ()

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Numbers of rows (post) and columns (pre), or `None`."""
        return None

    @abc.abstractmethod
    def matrix(self, mean: Float[Array, "post pre"]) -> Float[Array, "post pre"]:
        """The matrix whose transpose carries credit, given the mean weights of the projection."""


class Random(AbstractFeedback):
    """A fixed matrix that has nothing to do with the weights (feedback alignment).

    Attributes:
        weight: The matrix [unit of the weights].

    Source:
        Lillicrap et al. (2016), Nat. Commun. 7:13276.
    """

    constants: ClassVar[tuple[str, ...]] = ("weight",)

    weight: Float[Array, "post pre"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix."""
        return self.weight.shape

    def matrix(self, mean: Float[Array, "post pre"]) -> Float[Array, "post pre"]:
        """The matrix."""
        return jax.lax.stop_gradient(self.weight)


class Adaptive(AbstractFeedback):
    r"""A matrix that learns with the weights and so comes to equal them (Kolen & Pollack).

    It receives the same gradient as the weights, goes through the same optimiser, and after each update both are
    multiplied by $1-c$, so that $B - W$ dies out as $(1-c)^n$.

    Attributes:
        weight: The matrix [unit of the weights].
        decay: $c$ [1], in [0, 1).

    Raises:
        ValueError: If `decay` is outside [0, 1).

    Source:
        Kolen & Pollack (1994), IEEE ICNN; "adaptive e-prop" of Bellec et al. (2020), Nat. Commun. 11:3625.
    """

    weight: Float[Array, "post pre"]
    decay: float = eqx.field(static=True, default=1e-2)

    def __check_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"`Adaptive(decay=...)` must lie in [0, 1), got {self.decay!r}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix."""
        return self.weight.shape

    def matrix(self, mean: Float[Array, "post pre"]) -> Float[Array, "post pre"]:
        """The matrix as it has become."""
        return self.weight


class SignMatched(AbstractFeedback):
    """The signs of the weights with magnitudes of its own.

    Attributes:
        magnitude: A magnitude for each weight, or one for all [unit of the weights].

    Source:
        Liao, Leibo & Poggio (2016), AAAI ("sign-concordant feedback").
    """

    constants: ClassVar[tuple[str, ...]] = ("magnitude",)

    magnitude: Float[Array, "post pre"] | float

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of the magnitudes; `None` for one number."""
        return None if isinstance(self.magnitude, float) else self.magnitude.shape

    def matrix(self, mean: Float[Array, "post pre"]) -> Float[Array, "post pre"]:
        """The signs of the present weights times the magnitudes."""
        return jax.lax.stop_gradient(jnp.sign(mean) * self.magnitude)


class Uniform(AbstractFeedback):
    """The same credit for every neuron: a matrix of one number.

    Attributes:
        value: The number [unit of the weights]; one over the root of the number of columns (pre) if `None`.

    Source:
        The control `BAglobal` of Bellec et al. (2020), Nat. Commun. 11:3625.
    """

    value: float | None = eqx.field(static=True, default=None)

    def matrix(self, mean: Float[Array, "post pre"]) -> Float[Array, "post pre"]:
        """The number, everywhere."""
        return jnp.full_like(mean, mean.shape[1] ** -0.5 if self.value is None else self.value)


def draw(
    kind: str, shape: tuple[int, int], *, key: Key[Array, ""], scale: float | None = None, decay: float = 1e-2
) -> AbstractFeedback | None:
    """Makes a feedback operator for weights of a shape.

    Args:
        kind: `"exact"` (`None`: the transpose), `"random"`, `"adaptive"`, `"sign"` or `"uniform"`.
        shape: Rows (post) and columns (pre) of the weights.
        key: Seeds the matrix.
        scale: Standard deviation of its normal entries, or the one number of `"sign"` and `"uniform"`; one over the
            root of the number of columns if `None`, as a readout is usually initialised.
        decay: Decay of `"adaptive"`, per update [1].

    Raises:
        ValueError: If `kind` is none of these.
    """
    size = shape[1] ** -0.5 if scale is None else scale
    if kind == "exact":
        return None
    if kind == "random":
        return Random(size * jr.normal(key, shape))
    if kind == "adaptive":
        return Adaptive(size * jr.normal(key, shape), decay)
    if kind == "sign":
        return SignMatched(float(size))
    if kind == "uniform":
        return Uniform(float(size))
    raise ValueError(f"`feedback={kind!r}` must be one of {', '.join(map(repr, KINDS))}.")


def check_kind(rule: str, kind: str) -> None:
    """Refuses a kind of feedback that does not exist, in the name of a rule."""
    if kind not in KINDS:
        raise ValueError(f"`{rule}(feedback={kind!r})` must be one of {', '.join(map(repr, KINDS))}.")
