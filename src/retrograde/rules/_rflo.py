"""Random feedback local online learning."""

import equinox as eqx
from jaxtyping import Array, Key

from .. import feedback as operators
from ..network import Network
from ..neurons import LeakyRate
from ..unroll import Credit, Trajectory
from ._eprop import EProp
from ._online import AbstractOnlineRule


class RFLO(AbstractOnlineRule):
    r"""Random feedback local online learning: a leaky trace of each synapse times a random projection of the error.

    $$p_t^{ab} = (1-\alpha)\,p_{t-1}^{ab} + \alpha\,\phi'(I_t^a)\,z_{t-1}^b, \qquad
      \frac{dL}{dW_{ab}} \approx \sum_t [B\,\varepsilon_t]_a\, p_t^{ab},$$

    with $\varepsilon_t$ the derivative of the loss with respect to the outputs. It is e-prop on leaky rate neurons with
    random feedback, and refuses other neurons. At `alpha=1` the trace is the present step alone.

    Attributes:
        form: `"backward"` or `"forward"`, as for `EProp`.
        feedback: What `prepare` puts on the projections onto the readout; see `EProp`.
        scale: Size of the feedback's entries; see `retrograde.feedback.draw`. (1.0 in the paper.)
        decay: Decay of adaptive feedback per update [1].

    Raises:
        ValueError: If a field is none of these, or a population with a memory is not `LeakyRate`.

    Source:
        Murray (2019), eLife 8:e43299, eqs 5–6. Differs: the trace of the input weights uses the input of the same step,
        as the network does (their eq. 6 prints the one before).
    """

    form: str = eqx.field(static=True, default="backward")
    feedback: str = eqx.field(static=True, default="random")
    scale: float | None = eqx.field(static=True, default=None)
    decay: float = eqx.field(static=True, default=1e-2)

    def __check_init__(self):
        operators.check_kind("RFLO", self.feedback)
        if self.form not in ("backward", "forward"):
            raise ValueError(f"`RFLO(form={self.form!r})` must be 'backward' or 'forward'.")

    @property
    def _rule(self) -> EProp:
        return EProp(self.form, self.feedback, self.scale, self.decay)

    @property
    def paths(self) -> Credit:
        """No recurrent path."""
        return "blocked"

    def prepare(self, network: Network, *, key: Key[Array, ""]) -> Network:
        """Puts the feedback onto the readout's projections, unless it is exact."""
        return self._rule.prepare(network, key=key)

    def check(self, network: Network, batch: int, itemsize: int) -> None:
        """Refuses neurons that are not leaky rates."""
        for name, neuron in network.populations.items():
            if not (isinstance(neuron, LeakyRate) or name == network.readout or neuron.stateless):
                raise ValueError(
                    f"`RFLO` is the rule of leaky rate neurons; {name!r} is made of {type(neuron).__name__}. "
                    '`EProp(feedback="random")` is the same idea with the trace that these neurons need.'
                )
        self._rule.check(network, batch, itemsize)

    def begin(self, network, moments, now):
        """No traces."""
        return self._rule.begin(network, moments, now)

    def push(self, network, moments, at, memory, learnt, key):
        """The traces after a step."""
        return self._rule.push(network, moments, at, memory, learnt, key)

    def contract(self, network, moments, at, memory, credit, learnt):
        """Learning signals times traces."""
        return self._rule.contract(network, moments, at, memory, credit, learnt)

    def unroll(self, network: Network, *args, **options) -> Trajectory:
        """Runs the network; differentiating gives the rule's gradient."""
        inputs = args[2]
        self.check(network, inputs.shape[1], inputs.dtype.itemsize)
        return self._rule.unroll(network, *args, **options)
