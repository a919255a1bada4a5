"""Sparse n-step approximation of RTRL."""

from typing import ClassVar

import equinox as eqx

from ..network import Network
from ..unroll import Credit, Trajectory, unroll
from . import _influence, _traces
from ._online import AbstractOnlineRule


class SnAp(AbstractOnlineRule):
    r"""Sparse n-step approximation (SnAp-n): RTRL with only the influences that arise within n steps.

    The influence of a neuron's weights on another neuron is kept if the other can be reached by fewer than `n`
    recurrent connections between different neurons (connections that lie in no loop do not count). `n=1` keeps
    a neuron's influence on itself, through its own state and its self-connection, and on what lies downstream; with
    dense recurrent weights `n=2` is RTRL.

    `n=1` is also a transposition (BPTT with only the self-connections open), and `form="backward"` runs it so, in the
    time of BPTT. Its forward form carries traces as e-prop does, where those of single neurons hold all the credit.

    Attributes:
        n: Steps within which an influence must arise [1].
        form: `"backward"` (only `n=1`) or `"forward"`; by default backward where that exists.
        limit_gib: Largest influence that is accepted by the forward form [GiB], where traces would not do. It is
            stored whole, with zeros.

    Raises:
        ValueError: If `n` is not positive, `form` does not exist for it, or the influence is too large.

    Source:
        Menick et al. (2021), ICLR, arXiv:2006.07232. Differs: connections outside loops are never cut, so that every
        layer of a stack keeps its credit.
    """

    apart: ClassVar[bool] = True

    n: int = eqx.field(static=True, default=1)
    form: str | None = eqx.field(static=True, default=None)
    limit_gib: float = eqx.field(static=True, default=8.0)

    def __check_init__(self):
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise ValueError(f"`SnAp(n=...)` must be a whole number of steps, 1 or more, got {self.n!r}.")
        if self.form not in (None, "forward", "backward"):
            raise ValueError(f"`SnAp(form={self.form!r})` must be 'forward' or 'backward'.")
        if self.form == "backward" and self.n > 1:
            raise ValueError(f"`SnAp(n={self.n}, form='backward')`: only n=1 has a backward form.")

    @property
    def paths(self) -> Credit:
        """Self-connections only for n = 1."""
        return "diagonal" if self.n == 1 else "open"

    def check(self, network: Network, batch: int, itemsize: int) -> None:
        """Refuses an influence that does not fit into memory."""
        if not self._is_local(network):
            _influence.check_size(self, network, batch, itemsize, self.limit_gib)

    def _is_local(self, network: Network) -> bool:
        return self.n == 1 and _traces.why_not_local(network, diagonal=True) is None

    def begin(self, network, moments, now):
        """No influence."""
        if self._is_local(network):
            return _traces.begin(network, moments, now, diagonal=True)
        return _influence.begin(network, moments, now)

    def push(self, network, moments, at, memory, learnt, key):
        """Carries the influence on by one step, and drops what is not kept."""
        if self._is_local(network):
            return _traces.push(network, moments, at, memory, diagonal=True), learnt
        after = _influence.push(network, moments, at, memory)
        if self.n > 1:
            after = _influence.masked(network, after, _influence.reachable(network, self.n - 1))
        return after, learnt

    def contract(self, network, moments, at, memory, credit, learnt):
        """Credit through what is kept."""
        engine = _traces if self._is_local(network) else _influence
        return engine.contract(network, moments, at, memory, credit), memory, learnt

    def unroll(self, network: Network, *args, **options) -> Trajectory:
        """Runs the network; credit follows the kept influences."""
        if self.n == 1 and self.form != "forward":
            return unroll(network, *args, credit="diagonal", **options)
        return super().unroll(network, *args, **options)
