"""Long short-term memory."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._abstract import AbstractNeuron, check_positive, fill


class LSTMState(eqx.Module):
    """State of an LSTM unit.

    Attributes:
        cell: Memory cell [1].
        output: What others see [1].
    """

    cell: Float[Array, "*batch neuron"]
    output: Float[Array, "*batch neuron"]


class LSTM(AbstractNeuron):
    r"""Long short-term memory: four currents, three gates.

    $$c' = \sigma(I_\mathrm{forget} + b)\,c + \sigma(I_\mathrm{input})\tanh(I_\mathrm{cell}), \quad
      h' = \sigma(I_\mathrm{output})\tanh(c').$$

    A projection onto all four ports has a weight of `4 · size` rows, port by port.

    Attributes:
        size: Number of units.
        forget_bias: Constant $b$ added to the forget gate's current [1].

    Raises:
        ValueError: If `size` is not positive.

    Source:
        Hochreiter & Schmidhuber (1997), Neural Comput. 9:1735; Gers et al. (2000), ibid. 12:2451 (forget gate).
    """

    ports: ClassVar[tuple[str, ...]] = ("input", "forget", "cell", "output")

    size: int = eqx.field(static=True)
    forget_bias: float = 1.0

    def __check_init__(self):
        check_positive(self)

    def initial_state(self, batch: int, dtype=None) -> LSTMState:
        """Returns zeros."""
        zero = fill(0.0, batch, self.size, dtype)
        return LSTMState(zero, zero)

    def step(self, state: LSTMState, current: tuple[Float[Array, "*batch neuron"], ...]) -> LSTMState:
        """Advances every unit by one time step."""
        admit, forget, candidate, output = current
        cell = jax.nn.sigmoid(forget + self.forget_bias) * state.cell + jax.nn.sigmoid(admit) * jnp.tanh(candidate)
        return LSTMState(cell, jax.nn.sigmoid(output) * jnp.tanh(cell))

    def activity(self, state: LSTMState) -> Float[Array, "*batch neuron"]:
        """The gated output."""
        return state.output
