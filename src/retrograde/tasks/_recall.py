"""Remember one symbol for a while."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int

from retrograde.tasks._abstract import Trials, check_integer
from retrograde.tasks._endless import AbstractEndlessTask


class DelayedRecall(AbstractEndlessTask):
    """One symbol is shown, a delay passes, and at a go signal the symbol is to be named.

    A trial of `cue_steps + delay + report_steps` steps:

    | phase | steps | channels `0 … symbols-1` | channel `symbols` (“store”) | channel `symbols + 1` (“go”) |
    | --- | --- | --- | --- | --- |
    | cue | `cue_steps` | the symbol, one-hot | 1 | 0 |
    | delay | `delay`, or fewer | 0, or other symbols | 0 | 0 |
    | report | `report_steps` | 0 | 0 | 1 |

    With `jitter > 0` the delay of each trial is drawn uniformly from `delay - jitter … delay`; after the report the
    inputs are 0 and the mask ends the trial. An answer at chance costs `log(symbols)` nats.

    Attributes:
        symbols: Number of symbols.
        delay: Longest delay between cue and report [step].
        jitter: How much shorter a delay may be [step].
        cue_steps: How long the symbol is shown [step].
        report_steps: How long the go signal lasts and the answer counts [step].
        distractors: Whether in each step of the delay a random symbol is shown, not to be stored.
        seed: Which endless series of trials.

    Raises:
        ValueError: If a number is too small, or `jitter` exceeds `delay`.

    Example:
        >>> task = DelayedRecall(symbols=4, delay=10)
        >>> task.take(jnp.arange(3)).inputs.shape
        (12, 3, 6)

    Source:
        In the spirit of Hochreiter and Schmidhuber (1997), Neural Computation 9(8):1735-1780,
        doi:10.1162/neco.1997.9.8.1735, section 5. Differs from it: the store and go channels, which say
        when, so that only the symbol must be kept.
    """

    symbols: int = eqx.field(static=True, default=8)
    delay: int = eqx.field(static=True, default=20)
    jitter: int = eqx.field(static=True, default=0)
    cue_steps: int = eqx.field(static=True, default=1)
    report_steps: int = eqx.field(static=True, default=1)
    distractors: bool = eqx.field(static=True, default=False)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        least = {"symbols": 2, "delay": 0, "jitter": 0, "cue_steps": 1, "report_steps": 1, "seed": 0}
        for name, value in least.items():
            check_integer("DelayedRecall", name, getattr(self, name), value)
        if self.jitter > self.delay:
            raise ValueError(
                f"`DelayedRecall(jitter=...)` must not exceed the delay, got jitter={self.jitter} with "
                f"delay={self.delay}: the shortest delay is their difference."
            )

    @property
    def inputs(self) -> int:
        return self.symbols + 2

    @property
    def outputs(self) -> int:
        return self.symbols

    @property
    def steps(self) -> int:
        return self.cue_steps + self.delay + self.report_steps

    @property
    def target_steps(self) -> int:
        return self.jitter + self.report_steps

    @property
    def loss(self) -> str:
        return "cross_entropy"

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        dtype = jnp.result_type(float)
        symbol, delay, distractor = jax.vmap(self._draw, out_axes=(0, 0, 1))(self.keys(index, split))

        time = jnp.arange(self.steps, dtype=jnp.int32)[:, None]
        go_on = self.cue_steps + delay[None]
        cue = jnp.broadcast_to(time < self.cue_steps, (self.steps, len(index)))
        waiting = (time >= self.cue_steps) & (time < go_on)
        go = (time >= go_on) & (time < go_on + self.report_steps)

        shown = jnp.where(cue, symbol[None], distractor)
        visible = cue | waiting if self.distractors else cue
        channels = jax.nn.one_hot(shown, self.symbols, dtype=dtype) * visible[:, :, None].astype(dtype)
        signals = jnp.stack([cue, go], axis=-1).astype(dtype)
        return Trials(
            inputs=jnp.concatenate([channels, signals], axis=-1),
            targets=jnp.broadcast_to(symbol[None], (self.target_steps, len(index))),
            mask=go[-self.target_steps :].astype(dtype),
        )

    def _draw(self, key):
        # One call of the generator and integers only: quick to compile, and the same trials in float32 and float64.
        bits = jr.bits(key, (2 + self.steps,), jnp.uint32)
        symbols = (bits % self.symbols).astype(jnp.int32)
        delay = self.delay - (bits[1] % (self.jitter + 1)).astype(jnp.int32)
        return symbols[0], delay, symbols[2:]
