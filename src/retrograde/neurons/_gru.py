"""Gated recurrent unit."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._abstract import AbstractNeuron, check_positive, fill


class GRUState(eqx.Module):
    """State of a GRU.

    Attributes:
        output: What the unit remembers, and what others see [1].
    """

    output: Float[Array, "*batch neuron"]


class GRU(AbstractNeuron):
    r"""Gated recurrent unit in its "reset after" form: elementwise, since the reset gate acts on a current.

    $$r = \sigma(I_\mathrm{reset}), \quad u = \sigma(I_\mathrm{update}), \quad
      n = \tanh(I_\mathrm{in} + r\,I_\mathrm{rec}), \quad h' = (1-u)\,n + u\,h,$$

    where $I_\mathrm{in}$ is the current of the port `"candidate_input"` and $I_\mathrm{rec}$ that of
    `"candidate_recurrent"`. Projections from elsewhere belong on the `input_ports`, those of the population to itself
    on the `recurrent_ports` (`Network.single_layer` and recipes do so); a bias may reach all four. The rows of their
    weights are then those of `weight_ih_l0` and `weight_hh_l0` of a `torch.nn.GRU`, in the same order.

    Attributes:
        size: Number of units.

    Raises:
        ValueError: If `size` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> neuron = GRU(1)
        >>> zero, one = jnp.zeros((1, 1)), jnp.ones((1, 1))
        >>> state = neuron.step(neuron.initial_state(batch=1), (zero, zero, one, zero))
        >>> round(neuron.activity(state).item(), 4)  # half of tanh(1)
        0.3808

    Source:
        Cho et al. (2014), arXiv:1406.1078v1, in the form of cuDNN. Later versions of that paper reset the activity
        before the matrix product, which would mix neurons.
    """

    ports: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate_input", "candidate_recurrent")
    input_ports: ClassVar[tuple[str, ...] | None] = ("reset", "update", "candidate_input")
    recurrent_ports: ClassVar[tuple[str, ...] | None] = ("reset", "update", "candidate_recurrent")

    size: int = eqx.field(static=True)

    def __check_init__(self):
        check_positive(self)

    def initial_state(self, batch: int, dtype=None) -> GRUState:
        """Returns zeros."""
        return GRUState(fill(0.0, batch, self.size, dtype))

    def step(self, state: GRUState, current: tuple[Float[Array, "*batch neuron"], ...]) -> GRUState:
        """Advances every unit by one time step."""
        reset, update, candidate_input, candidate_recurrent = current
        keep = jax.nn.sigmoid(update)
        candidate = jnp.tanh(candidate_input + jax.nn.sigmoid(reset) * candidate_recurrent)
        return GRUState((1 - keep) * candidate + keep * state.output)

    def activity(self, state: GRUState) -> Float[Array, "*batch neuron"]:
        """The output."""
        return state.output
