"""Leaky integrate-and-fire neurons, plain and adaptive."""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._abstract import AbstractNeuron, check_constants, check_positive, check_vectors, fill, row
from ._leaky import decay
from ._surrogate import AbstractSurrogate, Triangle, spike


class LIFState(eqx.Module):
    """State of a LIF neuron.

    Attributes:
        v: Membrane potential [unit of the threshold].
        refractory: Steps for which the neuron cannot fire [1].
    """

    v: Float[Array, "*batch neuron"]
    refractory: Float[Array, "*batch neuron"] | None


class ALIFState(eqx.Module):
    """State of an adaptive LIF neuron.

    Attributes:
        v: Membrane potential [unit of the threshold].
        a: Adaptation: a leaky count of spikes [1].
        refractory: Steps for which the neuron cannot fire [1].
    """

    v: Float[Array, "*batch neuron"]
    a: Float[Array, "*batch neuron"]
    refractory: Float[Array, "*batch neuron"] | None


def _recover(refractory: Float[Array, "*batch neuron"] | None, z: Float[Array, "*batch neuron"], steps: int):
    """The refractory counter of the next step: `steps - 1` silent steps follow a spike."""
    if refractory is None:
        return None
    return jnp.clip(refractory + steps * jax.lax.stop_gradient(z) - 1, 0, steps)


def _leak(neuron, current):
    r"""What is left of the membrane after a step, $\alpha$, and what the current adds to it, $g I$."""
    alpha = decay(neuron.tau_mem, neuron.dt)
    return alpha, (1 - alpha) * current if neuron.normalised else current


def _fire(x, refractory, surrogate):
    z = spike(x, surrogate)
    return z if refractory is None else z * (refractory <= 0).astype(z.dtype)


class LIF(AbstractNeuron):
    r"""Leaky integrate-and-fire neuron.

    $$v' = \alpha v + g I - \vartheta z, \quad z = H(v - \vartheta),$$

    with $\alpha = e^{-dt/\tau_\mathrm{mem}}$ and $g = 1$; with `normalised`, $g = 1-\alpha$. With `reset="zero"` the
    membrane starts from 0 after a spike, $v' = \alpha (1-z) v + g I$. $H$ is a step going forward and the surrogate
    $\psi$ going backward, in units of the threshold:
    $\partial z/\partial v = \psi\big((v-\vartheta)/\vartheta\big)/\vartheta$.

    Dividing $v$ and $\vartheta$ by $1-\alpha$ turns the normalised form into the other: same spikes, same weights.

    Attributes:
        size: Number of neurons.
        tau_mem: Membrane time constant [ms].
        threshold: $\vartheta$ [unit of $v$, which is dimensionless].
        refractory: Least number of steps between two spikes; 0 for no refractory period [1].
        detach_reset: Whether credit ignores the path through the reset.
        surrogate: Derivative of the spike, of the distance from threshold in units of the threshold.
        dt: Length of a time step [ms].
        normalised: Whether $g = 1-\alpha$ (a filter of gain 1) instead of $g = 1$.
        reset: `"subtract"` the threshold, or start from `"zero"`.
        constants: Names of the arrays that are not trained.

    Raises:
        ValueError: If `size`, `tau_mem`, `threshold` or `dt` is not positive, `refractory` is negative, or `reset` is
            neither.

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, eqs 6–7. `normalised` is the form of the authors' older programs.
    """

    time_constants: ClassVar[tuple[str, ...]] = ("tau_mem",)

    size: int = eqx.field(static=True)
    tau_mem: float | Float[Array, " neuron"] = 20.0
    threshold: float = 1.0
    refractory: int = eqx.field(static=True, default=0)
    detach_reset: bool = eqx.field(static=True, default=False)
    surrogate: AbstractSurrogate = Triangle()
    dt: float = 1.0
    normalised: bool = eqx.field(static=True, default=False)
    reset: Literal["subtract", "zero"] = eqx.field(static=True, default="subtract")
    constants: tuple[str, ...] = eqx.field(static=True, default=())

    def __check_init__(self):
        check_positive(self, "tau_mem", "threshold", "dt")
        check_vectors(self, "tau_mem")
        check_constants(self)
        _check_refractory(self)
        if self.reset not in ("subtract", "zero"):
            raise ValueError(f"`LIF(reset={self.reset!r})` must be 'subtract' or 'zero'.")

    def initial_state(self, batch: int, dtype=None) -> LIFState:
        """Returns neurons at rest."""
        rest = fill(0.0, batch, self.size, dtype)
        return LIFState(rest, rest if self.refractory else None)

    def step(self, state: LIFState, current: Float[Array, "*batch neuron"]) -> LIFState:
        """Advances every neuron by one time step."""
        z = self.activity(state)
        reset = jax.lax.stop_gradient(z) if self.detach_reset else z
        alpha, drive = _leak(self, current)
        if self.reset == "zero":
            v = alpha * (1 - reset) * state.v + drive
        else:
            v = alpha * state.v + drive - self.threshold * reset
        return LIFState(v, _recover(state.refractory, z, self.refractory))

    @property
    def low_pass(self) -> tuple[float | Array, float | Array] | None:
        r"""$(\alpha, g)$ where credit ignores a subtracted reset and there is no refractory period."""
        is_filter = self.detach_reset and not self.refractory and self.reset == "subtract"
        alpha = decay(self.tau_mem, self.dt)
        return (alpha, 1 - alpha if self.normalised else 1.0) if is_filter else None

    def activity(self, state: LIFState) -> Float[Array, "*batch neuron"]:
        """1 where a neuron fires, else 0."""
        return _fire((state.v - self.threshold) / self.threshold, state.refractory, self.surrogate)


class ALIF(AbstractNeuron):
    r"""Adaptive LIF neuron: every spike raises the threshold.

    $$v' = \alpha v + g I - \vartheta z, \quad a' = \rho a + h z, \quad z = H(v - \vartheta - \beta a),$$

    with $\alpha = e^{-dt/\tau_\mathrm{mem}}$, $\rho = e^{-dt/\tau_\mathrm{adapt}}$ and $g = h = 1$; with `normalised`,
    $g = 1-\alpha$ and $h = 1-\rho$. The surrogate $\psi$ is of the distance from threshold in units of the base
    threshold $\vartheta$ or, with `surrogate_scale="adapted"`, of the present one $\vartheta + \beta a$.

    The normalised form fires the same spikes as the other one with threshold $\vartheta/(1-\alpha)$ and adaptation
    $\beta(1-\rho)/(1-\alpha)$.

    Attributes:
        size: Number of neurons.
        tau_mem: Membrane time constant [ms].
        tau_adapt: Adaptation time constant [ms].
        threshold: Baseline threshold $\vartheta$ [unit of $v$, which is dimensionless].
        beta: Threshold added per unit of $a$ [unit of $v$]; an array with zeros mixes plain and adaptive neurons, and
            is trained unless `constants` names it.
        refractory: Least number of steps between two spikes; 0 for no refractory period [1].
        detach_reset: Whether credit ignores the path through the reset (the one through the adaptation stays).
        surrogate: Derivative of the spike, of the distance from threshold in units of `surrogate_scale`.
        dt: Length of a time step [ms].
        normalised: Whether $g = 1-\alpha$ and $h = 1-\rho$ (filters of gain 1) instead of 1.
        constants: Names of the arrays that are not trained, such as `("beta",)`.
        surrogate_scale: `"base"` or `"adapted"`: in units of which threshold the surrogate is.

    Raises:
        ValueError: If `size`, `tau_mem`, `tau_adapt`, `threshold` or `dt` is not positive, `refractory` negative, or
            `surrogate_scale` neither.

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, eqs 8–10. `normalised` is the form of the authors' older programs,
        `"adapted"` that of the one for store–recall (2019).
    """

    time_constants: ClassVar[tuple[str, ...]] = ("tau_mem", "tau_adapt")

    size: int = eqx.field(static=True)
    tau_mem: float | Float[Array, " neuron"] = 20.0
    tau_adapt: float | Float[Array, " neuron"] = 200.0
    threshold: float = 1.0
    beta: float | Float[Array, " neuron"] = 0.07
    refractory: int = eqx.field(static=True, default=0)
    detach_reset: bool = eqx.field(static=True, default=False)
    surrogate: AbstractSurrogate = Triangle()
    dt: float = 1.0
    normalised: bool = eqx.field(static=True, default=False)
    constants: tuple[str, ...] = eqx.field(static=True, default=())
    surrogate_scale: Literal["base", "adapted"] = eqx.field(static=True, default="base")

    def __check_init__(self):
        check_positive(self, "tau_mem", "tau_adapt", "threshold", "dt")
        check_vectors(self, "tau_mem", "tau_adapt", "beta")
        check_constants(self)
        _check_refractory(self)
        if self.surrogate_scale not in ("base", "adapted"):
            raise ValueError(f"`ALIF(surrogate_scale={self.surrogate_scale!r})` must be 'base' or 'adapted'.")

    def initial_state(self, batch: int, dtype=None) -> ALIFState:
        """Returns neurons at rest, unadapted."""
        rest = fill(0.0, batch, self.size, dtype)
        return ALIFState(rest, rest, rest if self.refractory else None)

    def step(self, state: ALIFState, current: Float[Array, "*batch neuron"]) -> ALIFState:
        """Advances every neuron by one time step."""
        z = self.activity(state)
        reset = jax.lax.stop_gradient(z) if self.detach_reset else z
        alpha, drive = _leak(self, current)
        rho = decay(self.tau_adapt, self.dt)
        v = alpha * state.v + drive - self.threshold * reset
        a = rho * state.a + ((1 - rho) * z if self.normalised else z)
        return ALIFState(v, a, _recover(state.refractory, z, self.refractory))

    def activity(self, state: ALIFState) -> Float[Array, "*batch neuron"]:
        """1 where a neuron fires, else 0."""
        raised = row(self.beta) * state.a
        scale = self.threshold + raised if self.surrogate_scale == "adapted" else self.threshold
        return _fire((state.v - self.threshold - raised) / scale, state.refractory, self.surrogate)


def _check_refractory(neuron: LIF | ALIF) -> None:
    if not isinstance(neuron.refractory, int) or neuron.refractory < 0:
        raise ValueError(
            f"`{type(neuron).__name__}(refractory=...)` is a number of time steps, 0 or more, got "
            f"{neuron.refractory!r}."
        )
