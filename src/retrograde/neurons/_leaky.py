"""Rate neurons: leaky, memoryless, and leaky readouts."""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._abstract import AbstractNeuron, Parameter, check_positive, check_vectors, fill, row

ACTIVATIONS: dict[str, Callable] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "identity": lambda x: x,
}


def _activation(function: str | Callable) -> Callable:
    return ACTIVATIONS[function] if isinstance(function, str) else function


class RateState(eqx.Module):
    """State of a rate neuron.

    Attributes:
        value: The leaky quantity: the filtered current, or the rate [1].
    """

    value: Float[Array, "*batch neuron"]


class LeakyRate(AbstractNeuron):
    r"""Leaky rate neuron, in both orders of leak and non-linearity.

    With `leak="current"` the current is filtered and the rate is a function of the result,

    $$s' = (1-\alpha)\,s + \alpha I + \sqrt{2\alpha}\,\sigma\,\xi, \quad z' = \phi(s'),$$

    with `leak="activity"` the non-linearity comes first and the rate itself is leaky,

    $$z' = (1-\alpha)\,z + \alpha\,\phi(I).$$

    $\alpha = dt/\tau$; `alpha=1.0` is the vanilla recurrent network in either order.

    Attributes:
        size: Number of neurons.
        activation: $\phi$: `"relu"`, `"tanh"`, `"sigmoid"`, `"softplus"`, `"identity"`, or any elementwise function.
        alpha: Leak $\alpha$ per step [1], in (0, 1].
        leak: What is leaky: `"current"` or `"activity"`.
        initial: State before the first step [1].
        noise: $\sigma$ of the state's white noise $\xi\sim\mathcal N(0,1)$ [unit of the state]; only with
            `leak="current"`.

    Raises:
        ValueError: If `size`, `activation`, `alpha`, `leak` or `noise` is not one of the above.

    Example:
        >>> import jax.numpy as jnp
        >>> neuron = LeakyRate(1, "relu", alpha=0.5)
        >>> state = neuron.step(neuron.initial_state(batch=1), jnp.array([[3.0]]))
        >>> neuron.activity(state).item()
        1.5

    Source:
        `leak="current"`: Zou, Li & Huang (2023), arXiv:2102.03740. `leak="activity"`: Marschall, Cho & Savin (2020),
        JMLR 21; Murray (2019), eLife 8:e43299.
    """

    size: int = eqx.field(static=True)
    activation: str | Callable = eqx.field(static=True, default="tanh")
    alpha: float | Float[Array, " neuron"] = 1.0
    leak: Literal["current", "activity"] = eqx.field(static=True, default="current")
    initial: float | Float[Array, " neuron"] = 0.0
    noise: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        check_positive(self, "alpha")
        check_vectors(self, "alpha", "initial")
        if isinstance(self.alpha, float) and self.alpha > 1:
            raise ValueError(
                f"`LeakyRate(alpha=...)` is dt/tau and must lie in (0, 1], got {self.alpha}. "
                "A time constant shorter than a step cannot be simulated: shorten the step."
            )
        if isinstance(self.activation, str) and self.activation not in ACTIVATIONS:
            raise ValueError(
                f"`LeakyRate(activation={self.activation!r})` is unknown; use one of {', '.join(ACTIVATIONS)}, or any "
                "elementwise function."
            )
        if self.leak not in ("current", "activity"):
            raise ValueError(f"`LeakyRate(leak=...)` must be 'current' or 'activity', got {self.leak!r}.")
        if not self.noise >= 0 or (self.noise and self.leak == "activity"):
            raise ValueError(
                f"`LeakyRate(noise={self.noise}, leak={self.leak!r})`: noise must not be negative, and it acts on a "
                "leaky current only."
            )

    def initial_state(self, batch: int, dtype=None) -> RateState:
        """Returns `initial` for all trials."""
        return RateState(fill(self.initial, batch, self.size, dtype))

    def step(self, state: RateState, current: Float[Array, "*batch neuron"]) -> RateState:
        """Advances every neuron by one time step."""
        alpha = row(self.alpha)
        drive = current if self.leak == "current" else _activation(self.activation)(current)
        return RateState((1 - alpha) * state.value + alpha * drive)

    def activity(self, state: RateState) -> Float[Array, "*batch neuron"]:
        """The rate."""
        return state.value if self.leak == "activity" else _activation(self.activation)(state.value)

    @property
    def low_pass(self) -> tuple[float | Array, float | Array] | None:
        r"""$(1-\alpha, \alpha)$ where the current is leaky."""
        return (1 - self.alpha, self.alpha) if self.leak == "current" else None

    @property
    def current_noise(self) -> float | Float[Array, " neuron"]:
        r"""Noise of the state, referred to the current: $\sigma\sqrt{2/\alpha}$."""
        if not self.noise:
            return 0.0
        level = self.noise * (2 / self.alpha) ** 0.5
        return level if isinstance(level, float) else jnp.broadcast_to(level, (self.size,))


class Linear(AbstractNeuron):
    """A memoryless unit: its activity is its current. The plain readout.

    Attributes:
        size: Number of units.
    """

    stateless: ClassVar[bool] = True

    size: int = eqx.field(static=True)

    def __check_init__(self):
        check_positive(self)

    def initial_state(self, batch: int, dtype=None) -> RateState:
        """Returns zeros."""
        return RateState(fill(0.0, batch, self.size, dtype))

    def step(self, state: RateState, current: Float[Array, "*batch neuron"]) -> RateState:
        """Takes over the current."""
        return RateState(current)

    def activity(self, state: RateState) -> Float[Array, "*batch neuron"]:
        """The current of the present step."""
        return state.value

    @property
    def low_pass(self) -> tuple[float, float]:
        """Nothing is kept, everything passes."""
        return 0.0, 1.0


class LeakyReadout(AbstractNeuron):
    r"""A leaky integrator of its current: the readout of spiking networks.

    $y' = \kappa y + g I$ with $\kappa = e^{-dt/\tau}$.

    Attributes:
        size: Number of units.
        tau: Time constant $\tau$ [ms].
        dt: Length of a time step [ms].
        normalised: Whether $g = 1-\kappa$ (a filter of gain 1) instead of $g = 1$.

    Raises:
        ValueError: If `size`, `tau` or `dt` is not positive.

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, eq. 11 (`normalised=False`; their code has both).
    """

    time_constants: ClassVar[tuple[str, ...]] = ("tau",)

    size: int = eqx.field(static=True)
    tau: float | Float[Array, " neuron"] = 20.0
    dt: float = 1.0
    normalised: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_positive(self, "tau", "dt")
        check_vectors(self, "tau")

    def initial_state(self, batch: int, dtype=None) -> RateState:
        """Returns zeros."""
        return RateState(fill(0.0, batch, self.size, dtype))

    def step(self, state: RateState, current: Float[Array, "*batch neuron"]) -> RateState:
        """Advances every unit by one time step."""
        kappa, gain = self.low_pass
        return RateState(kappa * state.value + gain * current)

    @property
    def low_pass(self) -> tuple[float | Array, float | Array]:
        r"""$(\kappa, g)$."""
        kappa = decay(self.tau, self.dt)
        return kappa, 1 - kappa if self.normalised else 1.0

    def activity(self, state: RateState) -> Float[Array, "*batch neuron"]:
        """The filtered current."""
        return state.value


def decay(tau: Parameter, dt: float | Float[Array, ""]) -> float | Float[Array, ""] | Float[Array, "1 neuron"]:
    """What is left after one step, `exp(-dt/tau)` [1]."""
    return math.exp(-dt / tau) if isinstance(tau, float) else row(jnp.exp(-dt / tau))
