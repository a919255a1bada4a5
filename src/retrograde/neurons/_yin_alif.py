"""The adaptive LIF neuron of Yin, Corradi & Bohte, whose time constants are trained."""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, Key

from ._abstract import AbstractNeuron, check_constants, check_positive, check_vectors, fill, row
from ._leaky import decay
from ._surrogate import AbstractSurrogate, MultiGaussian, spike


class YinALIFState(eqx.Module):
    """State of such a neuron.

    Attributes:
        u: Membrane potential [unit of the threshold].
        b: Adaptation: its spikes, filtered [1].
    """

    u: Float[Array, "*batch neuron"]
    b: Float[Array, "*batch neuron"]


class YinALIF(AbstractNeuron):
    r"""Adaptive LIF neuron whose reset subtracts the adapted threshold.

    $$b' = \rho b + (1-\rho) z, \quad \theta' = b_0 + \beta b', \quad
      u' = \alpha u + (1-\alpha) I - \theta' z, \quad z' = H(u' - \theta'),$$

    with $\alpha = e^{-dt/\tau_\mathrm{mem}}$, $\rho = e^{-dt/\tau_\mathrm{adapt}}$: first the threshold, then the
    membrane, which the *new* threshold is taken from. Credit flows through all of it. The surrogate is in units of the
    membrane, not of the threshold. Arrays as time constants are trained, one for each neuron.

    Attributes:
        size: Number of neurons.
        tau_mem: Membrane time constant [ms; the authors' unit is a step].
        tau_adapt: Adaptation time constant [ms].
        threshold: $b_0$, the threshold at rest [unit of $u$].
        beta: Threshold added per unit of $b$ [unit of $u$]; 0 for a LIF neuron.
        initial: Range from which the membrane's initial state is drawn, anew in each trial, where the network is
            given a key; else it is the middle of it [unit of $u$].
        initial_adaptation: Initial state of $b$ [1].
        reads: What others see: its `"spike"`, or its `"membrane"` (of a readout).
        detach_reset: Whether credit ignores the path through the reset.
        surrogate: Derivative of the spike, of the distance from threshold in units of the membrane.
        dt: Length of a time step [ms].
        constants: Names of the arrays that are not trained.

    Raises:
        ValueError: If `size`, a time constant, `threshold` or `dt` is not positive, or `initial` or `reads` is none of
            the above.

    Source:
        Yin, Corradi & Bohte (2021), Nat. Mach. Intell. 3:905, and the authors' programs. Differs from them: there the
        spike before the first step is a copy of the random membrane in some of the programs, here it is a spike.
    """

    time_constants: ClassVar[tuple[str, ...]] = ("tau_mem", "tau_adapt")

    size: int = eqx.field(static=True)
    tau_mem: float | Float[Array, " neuron"] = 20.0
    tau_adapt: float | Float[Array, " neuron"] = 200.0
    threshold: float = 0.01
    beta: float | Float[Array, " neuron"] = 1.8
    initial: tuple[float, float] = eqx.field(static=True, default=(0.0, 0.0))
    initial_adaptation: float = 0.01
    reads: Literal["spike", "membrane"] = eqx.field(static=True, default="spike")
    detach_reset: bool = eqx.field(static=True, default=False)
    surrogate: AbstractSurrogate = MultiGaussian()
    dt: float = 1.0
    constants: tuple[str, ...] = eqx.field(static=True, default=())

    def __check_init__(self):
        check_positive(self, "tau_mem", "tau_adapt", "threshold", "dt")
        check_vectors(self, "tau_mem", "tau_adapt", "beta")
        check_constants(self)
        if len(self.initial) != 2 or not self.initial[0] <= self.initial[1]:
            raise ValueError(f"`YinALIF(initial={self.initial})` must be a range (low, high).")
        if self.reads not in ("spike", "membrane"):
            raise ValueError(f"`YinALIF(reads={self.reads!r})` must be 'spike' or 'membrane'.")

    def initial_state(self, batch: int, dtype=None) -> YinALIFState:
        """Returns membranes in the middle of `initial`."""
        middle = sum(self.initial) / 2
        return YinALIFState(
            fill(middle, batch, self.size, dtype), fill(self.initial_adaptation, batch, self.size, dtype)
        )

    def draw_state(self, key: Key[Array, ""], batch: int, dtype=None) -> YinALIFState:
        """Returns membranes drawn from `initial`."""
        state = self.initial_state(batch, dtype)
        low, high = self.initial
        if low == high:
            return state
        return YinALIFState(jr.uniform(key, state.u.shape, state.u.dtype, low, high), state.b)

    def step(self, state: YinALIFState, current: Float[Array, "*batch neuron"]) -> YinALIFState:
        """Advances every neuron by one time step."""
        alpha, rho = decay(self.tau_mem, self.dt), decay(self.tau_adapt, self.dt)
        z = self._spike(state)
        b = rho * state.b + (1 - rho) * z
        reset = self._threshold(b) * z
        if self.detach_reset:
            reset = jax.lax.stop_gradient(reset)
        return YinALIFState(alpha * state.u + (1 - alpha) * current - reset, b)

    def activity(self, state: YinALIFState) -> Float[Array, "*batch neuron"]:
        """1 where a neuron fires, else 0; or its membrane potential."""
        return state.u if self.reads == "membrane" else self._spike(state)

    def _threshold(self, b):
        return self.threshold + row(self.beta) * b

    def _spike(self, state):
        return spike(state.u - self._threshold(state.b), self.surrogate)
