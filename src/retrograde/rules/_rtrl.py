"""Real-time recurrent learning."""

import equinox as eqx

from ..network import Network
from ._influence import AbstractInfluenceRule, check_size, push


class RTRL(AbstractInfluenceRule):
    r"""Real-time recurrent learning: the exact gradient, forward in time.

    The influence $M_t = \partial s_t/\partial w$ of every virtual weight on everything the network remembers is carried
    along,

    $$M_t = J_t M_{t-1} + \bar M_t, \qquad J_t = \frac{\partial s_t}{\partial s_{t-1}}, \qquad
      \frac{\partial L_t}{\partial w} = q_t^\top M_{t-1} + \frac{\partial L_t}{\partial w}\Big|_\text{now},$$

    with $q_t$ the derivative of the step's loss with respect to the memory before it. $\bar M_t$ is made of the
    effects of the currents (weights belong to one neuron each), not of one product for each weight.

    Memory: trials × states × weights. Time per step: that × states. Of a batch a CPU takes as many trials at once
    as its cache holds.

    Attributes:
        limit_gib: Largest influence that is accepted [GiB].

    Raises:
        ValueError: If the influence would be larger.

    Source:
        Williams & Zipser (1989), Neural Comput. 1:270; notation of Marschall, Cho & Savin (2020), JMLR 21.
    """

    limit_gib: float = eqx.field(static=True, default=8.0)

    def check(self, network: Network, batch: int, itemsize: int) -> None:
        """Refuses an influence that does not fit into memory."""
        check_size(self, network, batch, itemsize, self.limit_gib)

    def push(self, network, moments, at, memory, learnt, key):
        """Carries the influence on by one step."""
        return push(network, moments, at, memory), learnt
