"""Leaky integrate-and-fire neurons, plain and adaptive."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._abstract import AbstractNeuron, check_positive, check_vectors, fill, row
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


def _fire(x, refractory, surrogate):
    z = spike(x, surrogate)
    return z if refractory is None else z * (refractory <= 0).astype(z.dtype)


class LIF(AbstractNeuron):
    r"""Leaky integrate-and-fire neuron with subtractive reset.

    $$v' = \alpha v + I - \vartheta z, \quad z = H(v - \vartheta),$$

    with $\alpha = e^{-dt/\tau_\mathrm{mem}}$. $H$ is a step going forward and the surrogate going backward, in units of
    the threshold: $\partial z/\partial v = \psi\big((v-\vartheta)/\vartheta\big)/\vartheta$.

    Attributes:
        size: Number of neurons.
        tau_mem: Membrane time constant [ms].
        threshold: $\vartheta$ [unit of $v$, which is dimensionless].
        refractory: Least number of steps between two spikes; 0 for no refractory period [1].
        detach_reset: Whether credit ignores the path through the reset.
        surrogate: Derivative of the spike.
        dt: Length of a time step [ms].

    Raises:
        ValueError: If `size`, `tau_mem`, `threshold` or `dt` is not positive, or `refractory` is negative.

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, eqs 6–7.
    """

    size: int = eqx.field(static=True)
    tau_mem: float | Float[Array, " neuron"] = 20.0
    threshold: float = 1.0
    refractory: int = eqx.field(static=True, default=0)
    detach_reset: bool = eqx.field(static=True, default=False)
    surrogate: AbstractSurrogate = Triangle()
    dt: float = 1.0

    def __check_init__(self):
        check_positive(self, "tau_mem", "threshold", "dt")
        check_vectors(self, "tau_mem")
        _check_refractory(self)

    def initial_state(self, batch: int, dtype=None) -> LIFState:
        """Returns neurons at rest."""
        rest = fill(0.0, batch, self.size, dtype)
        return LIFState(rest, rest if self.refractory else None)

    def step(self, state: LIFState, current: Float[Array, "*batch neuron"]) -> LIFState:
        """Advances every neuron by one time step."""
        z = self.activity(state)
        reset = jax.lax.stop_gradient(z) if self.detach_reset else z
        v = decay(self.tau_mem, self.dt) * state.v + current - self.threshold * reset
        return LIFState(v, _recover(state.refractory, z, self.refractory))

    @property
    def low_pass(self) -> tuple[float | Array, float | Array] | None:
        r"""$(\alpha, 1)$ where credit ignores the reset and there is no refractory period."""
        is_filter = self.detach_reset and not self.refractory
        return (decay(self.tau_mem, self.dt), 1.0) if is_filter else None

    def activity(self, state: LIFState) -> Float[Array, "*batch neuron"]:
        """1 where a neuron fires, else 0."""
        return _fire((state.v - self.threshold) / self.threshold, state.refractory, self.surrogate)


class ALIF(AbstractNeuron):
    r"""Adaptive LIF neuron: every spike raises the threshold.

    $$v' = \alpha v + I - \vartheta z, \quad a' = \rho a + z, \quad z = H(v - \vartheta - \beta a),$$

    with $\alpha = e^{-dt/\tau_\mathrm{mem}}$, $\rho = e^{-dt/\tau_\mathrm{adapt}}$. The surrogate is in units of the
    base threshold $\vartheta$.

    Attributes:
        size: Number of neurons.
        tau_mem: Membrane time constant [ms].
        tau_adapt: Adaptation time constant [ms].
        threshold: Baseline threshold $\vartheta$ [unit of $v$, which is dimensionless].
        beta: Threshold added per unit of $a$ [unit of $v$]; an array with zeros mixes plain and adaptive neurons.
        refractory: Least number of steps between two spikes; 0 for no refractory period [1].
        detach_reset: Whether credit ignores the path through the reset (the one through the adaptation stays).
        surrogate: Derivative of the spike.
        dt: Length of a time step [ms].

    Raises:
        ValueError: If `size`, `tau_mem`, `tau_adapt`, `threshold` or `dt` is not positive, or `refractory` negative.

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, eqs 8–10.
    """

    size: int = eqx.field(static=True)
    tau_mem: float | Float[Array, " neuron"] = 20.0
    tau_adapt: float | Float[Array, " neuron"] = 200.0
    threshold: float = 1.0
    beta: float | Float[Array, " neuron"] = 0.07
    refractory: int = eqx.field(static=True, default=0)
    detach_reset: bool = eqx.field(static=True, default=False)
    surrogate: AbstractSurrogate = Triangle()
    dt: float = 1.0

    def __check_init__(self):
        check_positive(self, "tau_mem", "tau_adapt", "threshold", "dt")
        check_vectors(self, "tau_mem", "tau_adapt", "beta")
        _check_refractory(self)

    def initial_state(self, batch: int, dtype=None) -> ALIFState:
        """Returns neurons at rest, unadapted."""
        rest = fill(0.0, batch, self.size, dtype)
        return ALIFState(rest, rest, rest if self.refractory else None)

    def step(self, state: ALIFState, current: Float[Array, "*batch neuron"]) -> ALIFState:
        """Advances every neuron by one time step."""
        z = self.activity(state)
        reset = jax.lax.stop_gradient(z) if self.detach_reset else z
        v = decay(self.tau_mem, self.dt) * state.v + current - self.threshold * reset
        a = decay(self.tau_adapt, self.dt) * state.a + z
        return ALIFState(v, a, _recover(state.refractory, z, self.refractory))

    def activity(self, state: ALIFState) -> Float[Array, "*batch neuron"]:
        """1 where a neuron fires, else 0."""
        distance = state.v - self.threshold - row(self.beta) * state.a
        return _fire(distance / self.threshold, state.refractory, self.surrogate)


def _check_refractory(neuron: LIF | ALIF) -> None:
    if not isinstance(neuron.refractory, int) or neuron.refractory < 0:
        raise ValueError(
            f"`{type(neuron).__name__}(refractory=...)` is a number of time steps, 0 or more, got "
            f"{neuron.refractory!r}."
        )
