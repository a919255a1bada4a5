"""The contract of a neuron: its dynamics, written elementwise."""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

State = Any
Current = Float[Array, "*batch neuron"] | tuple[Float[Array, "*batch neuron"], ...]
# A constant of all neurons (an array of no axis inside a plain `jax.jit`), or a number for each.
Parameter = float | Float[Array, ""] | Float[Array, " neuron"]


class AbstractNeuron(eqx.Module):
    """The dynamics of a population of neurons that do not see each other.

    Everything is elementwise: neuron `i` of trial `b` sees its own state and its own current(s), nothing else (mixing
    is a projection's work). From `step` alone the rules derive what they need. A Python float among the fields is a
    constant shared by all neurons; an array is a parameter of each, and trained unless `constants` names it.
    `retrograde.testing.check_neuron` verifies all this for a neuron of your own.

    Attributes:
        size: Number of neurons.
        ports: Names of the currents a neuron receives; a gated unit has several.
        input_ports: Ports for current from elsewhere, such as the input; all of them if `None`.
        recurrent_ports: Ports for current from the population itself; all of them if `None`.
        stateless: Whether the activity depends on the present current only.
        time_constants: Names of the fields that are time constants; where they are trained they stay positive.
    """

    size: eqx.AbstractVar[int]
    ports: ClassVar[tuple[str, ...]] = ("current",)
    input_ports: ClassVar[tuple[str, ...] | None] = None
    recurrent_ports: ClassVar[tuple[str, ...] | None] = None
    stateless: ClassVar[bool] = False
    time_constants: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def initial_state(self, batch: int, dtype=None) -> State:
        """Returns the state before the first step: a pytree of arrays `"batch neuron"`."""

    def draw_state(self, key: Key[Array, ""], batch: int, dtype=None) -> State:
        """Returns the state before the first step where a trial may begin at random: by default `initial_state`."""
        return self.initial_state(batch, dtype)

    def project(self) -> "AbstractNeuron":
        """Puts trained parameters back into their range, after an optimiser's step.

        Time constants stay at a tenth of a time step or more, where the memory of a step is $e^{-10}$.
        """
        trained = [name for name in self.time_constants if eqx.is_array(getattr(self, name))]
        if not trained:
            return self
        shortest = 0.1 * getattr(self, "dt", 1.0)
        return eqx.tree_at(
            lambda neuron: [getattr(neuron, name) for name in trained],
            self,
            [jnp.maximum(getattr(self, name), shortest) for name in trained],
        )

    @abc.abstractmethod
    def step(self, state: State, current: Current) -> State:
        """Advances every neuron by one time step.

        Args:
            state: The state before the step.
            current: Synaptic current, `"batch neuron"`; a tuple of these, one for each port, if there are several.

        Returns:
            The state after the step, of the same structure, shapes and types.
        """

    @abc.abstractmethod
    def activity(self, state: State) -> Float[Array, "*batch neuron"]:
        """What others see of a state: a rate or a spike."""

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the arrays that are not trained; a field of many neurons."""
        return ()

    @property
    def low_pass(self) -> tuple[float | Array, float | Array] | None:
        """Decay and gain of a neuron whose state is a low-pass filter of its current, where it is one; else `None`.

        That is, of a neuron with one port and one state $s' = $ decay $· s + $ gain $· I$, but for terms without
        derivative. Its eligibility traces are the same for all neurons.
        """
        return None

    @property
    def current_noise(self) -> float | Float[Array, " neuron"]:
        """Standard deviation of white noise added to the current in each step [unit of the current]."""
        return 0.0


def fill(value: Parameter, batch: int, size: int, dtype) -> Float[Array, "batch neuron"]:
    """An initial state: one number, or one number for each neuron, for all trials."""
    dtype = jnp.zeros(0).dtype if dtype is None else dtype
    return jnp.broadcast_to(jnp.asarray(value, dtype).reshape(1, -1), (batch, size))


def row(value: Parameter) -> float | Float[Array, ""] | Float[Array, "1 neuron"]:
    """A parameter ready to meet `"batch neuron"` arrays (rank promotion may be forbidden)."""
    return value if isinstance(value, float) or value.ndim == 0 else value[None]


def check_positive(neuron: AbstractNeuron, *fields: str) -> None:
    """Refuses sizes that are not positive integers and parameters that are not positive numbers."""
    name = type(neuron).__name__
    if isinstance(neuron.size, bool) or not isinstance(neuron.size, int) or neuron.size < 1:
        raise ValueError(f"`{name}(size=...)` must be a positive whole number of neurons, got {neuron.size!r}.")
    for field in fields:
        value = getattr(neuron, field)
        if isinstance(value, float | int) and not value > 0:
            raise ValueError(f"`{name}({field}=...)` must be positive, got {value}.")


def check_vectors(neuron: AbstractNeuron, *fields: str) -> None:
    """Refuses parameter arrays that do not hold one number for each neuron."""
    for field in fields:
        value = getattr(neuron, field)
        if not isinstance(value, float | int) and jnp.shape(value) != (neuron.size,):
            raise ValueError(
                f"`{type(neuron).__name__}({field}=...)` must be a number, or an array with one number for each of "
                f"the {neuron.size} neurons, got shape {jnp.shape(value)}."
            )


def check_constants(neuron: AbstractNeuron) -> None:
    """Refuses names of constants that are no fields."""
    fields = [field.name for field in dataclasses.fields(neuron)]
    for name in neuron.constants:
        if name not in fields:
            raise ValueError(
                f"`{type(neuron).__name__}(constants=...)` names {name!r}, which is none of {', '.join(fields)}."
            )
