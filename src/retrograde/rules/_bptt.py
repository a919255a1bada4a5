"""Back-propagation through time, whole and truncated."""

from typing import Any

import equinox as eqx

from ..network import Network
from ..unroll import Trajectory, unroll
from ._abstract import AbstractRule


class BPTT(AbstractRule):
    r"""Back-propagation through time: the exact transposition.

    All recurrent projections carry credit,

    $$c_t = \frac{\partial L}{\partial I_t} = \Big(\frac{\partial s_t}{\partial I_t}\Big)^{\!\top} d_t, \qquad
      d_t = q_t + \Big(\frac{\partial s_{t+1}}{\partial s_t}\Big)^{\!\top} d_{t+1}
          + \Big(\frac{\partial z_t}{\partial s_t}\Big)^{\!\top} W^\top c_{t+1}.$$

    On spike-and-slab weights this is generalised back-propagation through time (gBPTT).

    Attributes:
        checkpoint: Whether to store the state at the borders of segments only and run each segment again on the way
            back: memory ∝ √T instead of T, for about a third more time [1].
        segment: Steps of a segment; chosen from the sizes if `None`.

    Raises:
        ValueError: If `segment` is not a positive whole number.

    Source:
        Werbos (1990), Proc. IEEE 78:1550. Chen et al. (2016), arXiv:1604.06174 (checkpoints).
    """

    checkpoint: bool = False
    segment: int | None = None

    def __check_init__(self):
        _check_steps("BPTT", "segment", self.segment)

    def unroll(self, network: Network, *args: Any, **options: Any) -> Trajectory:
        """Runs the network; credit flows back through everything."""
        segment = self.segment
        if self.checkpoint and segment is None:
            segment = max(1, round(args[2].shape[0] ** 0.5))
        return unroll(network, *args, credit="open", segment=segment, checkpoint=self.checkpoint, **options)


class TruncatedBPTT(AbstractRule):
    """Back-propagation through time in windows: credit stops at their borders.

    The gradient of a loss inside a window reaches back to the window's first step. A window that covers the trial
    gives BPTT.

    Attributes:
        window: Length of a window [steps].

    Raises:
        ValueError: If `window` is not a positive whole number.

    Source:
        Williams & Peng (1990), Neural Comput. 2:490; "E-BPTT" of Marschall, Cho & Savin (2020), JMLR 21.
    """

    window: int = eqx.field(default=10)

    def __check_init__(self):
        _check_steps("TruncatedBPTT", "window", self.window)

    def unroll(self, network: Network, *args: Any, **options: Any) -> Trajectory:
        """Runs the network; credit flows back to the beginning of the window."""
        return unroll(network, *args, credit="open", segment=self.window, cut=True, **options)


def _check_steps(rule: str, field: str, steps: int | None) -> None:
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"`{rule}({field}=...)` is a number of time steps, 1 or more, got {steps!r}.")
