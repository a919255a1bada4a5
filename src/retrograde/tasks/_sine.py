"""Draw a periodic curve from memory."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from retrograde.tasks._abstract import AbstractTask, Trials, check_integer, check_split, check_trials_exist


class Sine(AbstractTask):
    r"""A sum of sine waves is to be produced, without input or at a constant one.

    $$y_k(t) = \sum_i A_i \sin\!\Big(2\pi h_i \Big(\frac{t}{T} + \frac{k}{2K}\Big)\Big), \qquad
      t = 1 \ldots T, \quad k = 0 \ldots K-1,$$

    with the period $T$, the harmonics $h_i$ and their amplitudes $A_i$. Each of $K$ outputs is ahead of the one before
    by a $2K$-th of the period: of a single wave two outputs are sine and cosine. To answer 0 costs
    $\tfrac K4 \sum_i A_i^2$, with the default amplitudes 0.328 for one output.

    The task is one trial, in `"train"` and in `"test"` the same: there is nothing to hold out. Train with `batch=1`.
    A network that is silent at first stays so: give it an initial state that is not 0 (`LeakyRate(initial=0.1)`), a
    bias or a cue.

    Attributes:
        period: $T$, the length of the trial [step].
        harmonics: Frequency $h_i$ of each wave [1/period].
        amplitudes: Amplitude $A_i$ of each wave [1].
        outputs: $K$, number of outputs.
        cue: What the one input channel shows throughout [1].

    Raises:
        ValueError: If a number is too small, harmonics and amplitudes differ in number, or a wave is too fast for the
            period: it needs more than two steps.

    Example:
        >>> task = Sine(period=8, harmonics=(1,), amplitudes=(2.0,))
        >>> [round(y, 3) for y in task.take(jnp.array([0])).targets[:3, 0, 0].tolist()]
        [1.414, 2.0, 1.414]

    Source:
        Murray (2019), eLife 8:e43299, doi:10.7554/eLife.43299, figure 2, with periods of 200, 400, 800 and 1,600 steps.
        Differs from it: several outputs and the cue are ours.
    """

    period: int = eqx.field(static=True, default=200)
    harmonics: tuple[int, ...] = eqx.field(static=True, default=(1, 2, 4))
    amplitudes: tuple[float, ...] = eqx.field(static=True, default=(1.0, 0.5, 0.25))
    outputs: int = eqx.field(static=True, default=1)
    cue: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        check_integer("Sine", "period", self.period, 1)
        check_integer("Sine", "outputs", self.outputs, 1)
        for harmonic in self.harmonics:
            check_integer("Sine", "harmonics", harmonic, 1)
        if len(self.harmonics) != len(self.amplitudes) or not self.harmonics:
            raise ValueError(
                f"`Sine(harmonics=..., amplitudes=...)` must have as many entries, at least one, got {self.harmonics} "
                f"and {self.amplitudes}."
            )
        if 2 * max(self.harmonics) >= self.period:
            raise ValueError(
                f"`Sine(harmonics=...)` has a wave that repeats {max(self.harmonics)} times in a period of "
                f"{self.period} steps; it needs more than two steps each time. Make `period` longer."
            )

    @property
    def inputs(self) -> int:
        return 1

    @property
    def steps(self) -> int:
        return self.period

    @property
    def target_steps(self) -> int:
        return self.period

    @property
    def loss(self) -> str:
        return "half_squared_error"

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test")

    def size(self, split: str = "train") -> int:
        check_split(self, split)
        return 1

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        check_trials_exist(self, index, split)
        batch, dtype = len(index), jnp.result_type(float)
        return Trials(
            inputs=jnp.full((self.steps, batch, 1), self.cue, dtype),
            targets=jnp.broadcast_to(self._wave(dtype)[:, None], (self.steps, batch, self.outputs)),
            mask=jnp.ones((self.steps, batch), dtype),
        )

    def _wave(self, dtype) -> Float[Array, "time output"]:
        t = jnp.arange(1, self.period + 1, dtype=jnp.int32)[:, None]
        k = jnp.arange(self.outputs, dtype=jnp.int32)[None]
        whole = 2 * self.outputs * self.period  # Phases as whole numbers, this many to a turn: exact at any length.
        phase = 2 * self.outputs * t + self.period * k
        waves = [
            amplitude * jnp.sin(2 * math.pi / whole * (harmonic * phase % whole).astype(dtype))
            for harmonic, amplitude in zip(self.harmonics, self.amplitudes, strict=True)
        ]
        return sum(waves[1:], waves[0])
