"""Current-based synapses: a filter between the current and the neuron."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Float, Key

from ._abstract import AbstractNeuron, check_positive, check_vectors, fill
from ._leaky import decay


class FilteredState(eqx.Module):
    """State of a neuron behind synaptic filters.

    Attributes:
        current: Filtered current [unit of the current].
        neuron: State of the neuron.
    """

    current: Float[Array, "*batch neuron"]
    neuron: Any


class Filtered(AbstractNeuron):
    r"""A neuron whose currents outlast a time step: exponential, current-based synapses.

    $$i' = \kappa i + g I, \qquad s' = \mathrm{step}(s, i'),$$

    with $\kappa = e^{-dt/\tau}$ and $g = 1$, or $1-\kappa$ if `normalised`. Any neuron with one port can be filtered.

    Attributes:
        neuron: The neuron.
        tau: Time constant of its synapses $\tau$ [ms].
        dt: Length of a time step [ms].
        normalised: Whether $g = 1-\kappa$ instead of $g = 1$.

    Raises:
        ValueError: If `tau` or `dt` is not positive, or the neuron has several ports.

    Example:
        >>> import jax.numpy as jnp, retrograde as rg
        >>> neuron = Filtered(rg.neurons.LIF(1, threshold=1.0), tau=5.0)
        >>> state = neuron.step(neuron.initial_state(batch=1), jnp.array([[0.6]]))
        >>> state = neuron.step(state, jnp.array([[0.0]]))  # no current any more, and yet a spike
        >>> neuron.activity(state).item()
        1.0
    """

    time_constants: ClassVar[tuple[str, ...]] = ("tau",)

    neuron: AbstractNeuron
    tau: float | Float[Array, " neuron"] = 5.0
    dt: float = 1.0
    normalised: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if len(self.neuron.ports) > 1:
            raise ValueError(
                f"`Filtered({type(self.neuron).__name__})` filters one current, and this neuron has the ports "
                f"{', '.join(self.neuron.ports)}."
            )
        check_positive(self, "tau", "dt")
        check_vectors(self, "tau")

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of neurons."""
        return self.neuron.size

    def initial_state(self, batch: int, dtype=None) -> FilteredState:
        """Returns synapses at rest and the neuron's initial state."""
        return FilteredState(fill(0.0, batch, self.size, dtype), self.neuron.initial_state(batch, dtype))

    def draw_state(self, key: Key[Array, ""], batch: int, dtype=None) -> FilteredState:
        """Returns synapses at rest and a state drawn by the neuron."""
        return FilteredState(fill(0.0, batch, self.size, dtype), self.neuron.draw_state(key, batch, dtype))

    def project(self) -> AbstractNeuron:
        """Puts the time constants, and the neuron's parameters, back into their range."""
        return dataclasses.replace(super().project(), neuron=self.neuron.project())  # type: ignore[call-arg]

    def step(self, state: FilteredState, current: Float[Array, "*batch neuron"]) -> FilteredState:
        """Advances every neuron by one time step."""
        kappa = decay(self.tau, self.dt)
        filtered = kappa * state.current + ((1 - kappa) * current if self.normalised else current)
        return FilteredState(filtered, self.neuron.step(state.neuron, filtered))

    def activity(self, state: FilteredState) -> Float[Array, "*batch neuron"]:
        """What the neuron shows."""
        return self.neuron.activity(state.neuron)

    @property
    def current_noise(self) -> float | Float[Array, " neuron"]:
        """That of the neuron, which reaches it through the filter."""
        return self.neuron.current_noise
