"""Eligibility propagation."""

from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Key

from .. import feedback as operators
from ..network import Network
from ..unroll import Credit, Trajectory, unroll
from . import _influence, _traces
from ._online import AbstractOnlineRule


class EProp(AbstractOnlineRule):
    r"""Eligibility propagation: no credit through recurrent connections, all credit through a neuron's own state.

    $$\frac{dL}{dW_{ji}} \approx \sum_t L_t^j\, e_t^{ji}, \qquad
      e_t^{ji} = \frac{\partial z_t^j}{\partial s_t^j}\epsilon_t^{ji}, \qquad
      \epsilon_t^{ji} = \frac{\partial s_t^j}{\partial s_{t-1}^j}\epsilon_{t-1}^{ji}
        + \frac{\partial s_t^j}{\partial I_t^j} z_{t-1}^i.$$

    Attributes:
        form: `"backward"` runs credit back through the stored trial with the recurrent paths blocked, without a matrix
            product in its loop; `"forward"` carries eligibility traces, in memory that does not grow with time. Their
            gradients are the same. Streams use the forward form.
        feedback: What `prepare` puts on the projections onto the readout: `"exact"` (symmetric e-prop), `"random"`,
            `"adaptive"`, `"sign"` or `"uniform"`.
        scale: Size of the feedback's entries; see `retrograde.feedback.draw`.
        decay: Decay of adaptive feedback per update [1].
        limit_gib: Largest influence that is accepted by the forward form [GiB], where traces of single neurons would
            not hold all the credit (a stack of layers).

    Raises:
        ValueError: If a field is none of these.

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625. Whether a neuron's own spike counts as its own state (reset) is the
        neuron's `detach_reset`. In a stack, credit passes through the layers above with their memory, where the
        authors' code sends the readout's error to every layer.
    """

    apart: ClassVar[bool] = True

    form: str = eqx.field(static=True, default="backward")
    feedback: str = eqx.field(static=True, default="exact")
    scale: float | None = eqx.field(static=True, default=None)
    decay: float = eqx.field(static=True, default=1e-2)
    limit_gib: float = eqx.field(static=True, default=8.0)

    def __check_init__(self):
        if self.form not in ("backward", "forward"):
            raise ValueError(f"`EProp(form={self.form!r})` must be 'backward' or 'forward'.")
        operators.check_kind("EProp", self.feedback)

    @property
    def paths(self) -> Credit:
        """No recurrent path."""
        return "blocked"

    def prepare(self, network: Network, *, key: Key[Array, ""]) -> Network:
        """Puts the feedback onto the readout's projections, unless it is exact or they have some already.

        Raises:
            ValueError: If a neuron of your own sees other neurons.
        """
        _traces.refuse_mixing(type(self).__name__, network)
        bare = [
            name
            for name, p in network.projections.items()
            if p.target == network.readout and p.source in network.populations and p.feedback is None
        ]
        if self.feedback == "exact" or not bare:
            return network
        return network.with_feedback(self.feedback, key=key, projections=bare, scale=self.scale, decay=self.decay)

    def check(self, network: Network, batch: int, itemsize: int) -> None:
        """Refuses an influence that does not fit into memory."""
        if self.form == "forward" and _traces.why_not_local(network) is not None:
            _influence.check_size(self, network, batch, itemsize, self.limit_gib)

    def begin(self, network, moments, now):
        """No traces."""
        return (_influence if _traces.why_not_local(network) else _traces).begin(network, moments, now)

    def push(self, network, moments, at, memory, learnt, key):
        """The traces after a step."""
        engine = _influence if _traces.why_not_local(network) else _traces
        return engine.push(network, moments, at, memory), learnt

    def contract(self, network, moments, at, memory, credit, learnt):
        """Learning signals times traces."""
        engine = _influence if _traces.why_not_local(network) else _traces
        return engine.contract(network, moments, at, memory, credit), memory, learnt

    def unroll(self, network: Network, *args, **options) -> Trajectory:
        """Runs the network; differentiating gives e-prop's gradient."""
        if self.form == "backward":
            return unroll(network, *args, credit="blocked", **options)
        return super().unroll(network, *args, **options)
