"""Store a bit when told to, and recall it when told to."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, Key

from retrograde.encoders import poisson
from retrograde.tasks._abstract import Trials, check_durations, check_integer, check_rates
from retrograde.tasks._endless import AbstractEndlessTask

MOST_ATTEMPTS = 3500


class StoreRecall(AbstractEndlessTask):
    r"""Of a stream of bits the one that comes with "store" is to be kept, and named at "recall".

    A trial is `symbols` symbols long, each shown for `symbol` ms: a bit, "recall", or "store", and with "store" the bit
    to be kept. Input neurons, in groups of `group`: bit 0, bit 1, store, recall; those of what is shown fire at `rate`,
    the others not at all.

    How a trial is drawn: all positions are fair bits. From the first on, each becomes "store" with the probability
    `1 / (1 + expected_delay)`; after a "store", each becomes "recall" with the same probability; then "store" again,
    and so on. A trial without "recall", or with a "store" that is not followed by a bit, is drawn anew. The bit to be
    kept is the one that *follows* "store", but it is shown with "store" already; what is shown in its own place is
    inverted with probability ½, so that it must be read at "store".

    The mask leaves what counts: the steps of all "recall" symbols. An answer at chance costs `log(2)` nats.

    Attributes:
        symbols: Number of symbols in a trial, three or more.
        symbol: How long each is shown [ms].
        expected_delay: Sets how often "store" and "recall" come [symbol].
        group: Number of neurons in each of the four groups.
        rate: Rate of the neurons of what is shown [Hz].
        dt: Length of a step [ms].
        seed: Which endless series of trials.

    Raises:
        ValueError: If a number is too small, `symbol` is no whole number of steps, or the rate exceeds one spike in a
            step.

    Example:
        >>> task = StoreRecall()
        >>> task.take(jnp.arange(2)).inputs.shape, task.target_steps
        ((2400, 2, 100), 2000)

    Source:
        Bellec et al. (2019), arXiv:1901.09049, and the code that went with it, with these defaults. The text leaves
        open where a bit comes from after "recall" and whether the last "store" needs a "recall"; here: as everywhere,
        and no.
    """

    symbols: int = eqx.field(static=True, default=12)
    symbol: float = eqx.field(static=True, default=200.0)
    expected_delay: float = eqx.field(static=True, default=6.0)
    group: int = eqx.field(static=True, default=25)
    rate: float = eqx.field(static=True, default=50.0)
    dt: float = eqx.field(static=True, default=1.0)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        for name, least in {"symbols": 3, "group": 1, "seed": 0}.items():
            check_integer("StoreRecall", name, getattr(self, name), least)
        if not self.expected_delay > 0 or self._attempts > MOST_ATTEMPTS:
            raise ValueError(
                f"`StoreRecall(expected_delay={self.expected_delay})` makes hardly one trial in a hundred, of "
                f"`symbols={self.symbols}`, have both signals in their places. Bring the two closer together."
            )
        if not self.dt > 0:
            raise ValueError(f"`StoreRecall(dt=...)` must be positive, got {self.dt}.")
        check_durations(self, {"symbol": 1})
        check_rates(self, ("rate",))

    @property
    def inputs(self) -> int:
        return 4 * self.group

    @property
    def outputs(self) -> int:
        return 2

    @property
    def steps(self) -> int:
        return self.symbols * self._repeat

    @property
    def target_steps(self) -> int:
        return (self.symbols - 2) * self._repeat  # "store" and a bit come first.

    @property
    def loss(self) -> str:
        return "cross_entropy"

    @property
    def _repeat(self) -> int:
        return round(self.symbol / self.dt)

    @property
    def _attempts(self) -> int:
        """How many draws have at least one valid trial among them, but with a probability of 1e-15."""
        p = 1 / (1 + self.expected_delay)
        # Chances of: waiting, just stored, holding; first without a "recall" so far, then with one.
        waiting, stored, holding = np.array([1.0, 0.0]), np.zeros(2), np.zeros(2)
        for _ in range(self.symbols):
            recalled = np.array([0.0, p * holding.sum()])
            waiting, stored, holding = (1 - p) * waiting + recalled, p * waiting, (1 - p) * (stored + holding)
        valid = min(float(waiting[1] + holding[1]), 1 - 1e-9)
        return MOST_ATTEMPTS + 1 if valid < 0.01 else math.ceil(math.log(1e-15) / math.log(1 - valid))

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        dtype = jnp.result_type(float)
        spikes, wanted, counts = jax.vmap(self._draw, out_axes=1)(self.keys(index, split))
        wanted, counts = (jnp.repeat(x, self._repeat, axis=0)[-self.target_steps :] for x in (wanted, counts))
        return Trials(inputs=spikes.astype(dtype), targets=wanted, mask=counts.astype(dtype))

    def _draw(self, key):
        symbol_key, spike_key = jr.split(key)
        shown, wanted, is_recall = self._sequence(symbol_key)
        rates = self.rate * jnp.repeat(jnp.repeat(shown, self._repeat, axis=0), self.group, axis=1).astype(jnp.float32)
        return poisson(spike_key, rates, dt=self.dt), wanted, is_recall

    def _sequence(
        self, key: Key[Array, ""]
    ) -> tuple[Bool[Array, "symbol 4"], Int32[Array, " symbol"], Bool[Array, " symbol"]]:
        """What is shown in each position, the bit that is kept, and where it is asked for."""
        position = jnp.asarray(np.arange(self.symbols), jnp.int32)
        attempt_key, bit_key = jr.split(key)
        chance = jr.uniform(attempt_key, (self._attempts, self.symbols), jnp.float32)
        is_signal = chance < 1 / (1 + self.expected_delay)
        # Sums over what came before, written out: quicker to compile than `cumsum` and `cummax`.
        until_now = jnp.asarray(np.tri(self.symbols), bool)
        number = jnp.sum(is_signal[:, None] & until_now[None], axis=2, dtype=jnp.int32)
        # Signals alternate: 1 store, 2 recall, 3 store, …
        is_store, is_recall = is_signal & (number % 2 == 1), is_signal & (number % 2 == 0)
        is_last = (position == self.symbols - 1)[None]
        is_valid = jnp.any(is_recall, axis=1) & ~jnp.any(is_store & (jnp.roll(is_signal, -1, axis=1) | is_last), axis=1)
        first = jnp.argmax(is_valid)
        is_store, is_recall = is_store[first], is_recall[first]

        bits = jr.bits(bit_key, (2, self.symbols), jnp.uint32) & 1
        bit, is_inverted = bits[0].astype(bool), bits[1].astype(bool)

        was_store = jnp.roll(is_store, 1)  # The last position is no "store".
        shown_bit = jnp.where(is_store, jnp.roll(bit, -1), bit ^ (was_store & is_inverted))
        stored_at = jnp.max(jnp.where(was_store[None] & until_now, position[None], 0), axis=1)
        wanted = bit[stored_at].astype(jnp.int32)
        shown = jnp.stack([~shown_bit & ~is_recall, shown_bit & ~is_recall, is_store, is_recall], axis=1)
        return shown, wanted, is_recall
