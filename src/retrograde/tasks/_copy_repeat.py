"""Say a sequence again, as many times as asked."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int

from retrograde.tasks._abstract import Trials, check_integer
from retrograde.tasks._endless import AbstractEndlessTask


class CopyRepeat(AbstractEndlessTask):
    r"""A sequence of symbols is shown, then how often; it is to be said that many times, and that this is the end.

    A trial with a sequence of $L$ symbols and $R$ repeats:

    | phase | steps | channels `0 … symbols-1` | channel `symbols` (“start”) | channel `symbols + r` | wanted |
    | --- | --- | --- | --- | --- | --- |
    | start | 1 | 0 | 1 | 0 | |
    | sequence | $L$ | the symbols, one-hot | 0 | 0 | |
    | end, and how often | 1 | 0 | 0 | 1 for $r = R$ | |
    | answer | $R L$ | 0 | 0 | 0 | the symbols, $R$ times: classes `0 … symbols-1` |
    | end marker | 1 | 0 | 0 | 0 | class `symbols` |

    $L$ is uniform on `shortest … longest`, $R$ on `1 … repeats`, the symbols are independent and uniform. Shorter
    trials end by the mask. An answer at chance costs `log(symbols + 1)` nats.

    Attributes:
        symbols: Number of different symbols; 2 makes it a sequence of bits.
        shortest: Least length of a sequence.
        longest: Greatest length of a sequence.
        repeats: Greatest number of repeats.
        seed: Which endless series of trials.

    Raises:
        ValueError: If a number is too small, or `shortest` exceeds `longest`.

    Example:
        >>> task = CopyRepeat(longest=3, repeats=2)
        >>> task.steps, task.target_steps, task.inputs, task.outputs
        (12, 9, 5, 3)

    Source:
        In the spirit of Graves, Wayne and Danihelka (2014), arXiv:1410.5401, section 4.2, which Bellec et al. (2019),
        arXiv:1901.09049, train by e-prop 3. They show vectors of bits and the number of repeats as one analogue value;
        here it is one symbol at a time, and the number of repeats is one-hot. Their results do not carry over.
    """

    symbols: int = eqx.field(static=True, default=2)
    shortest: int = eqx.field(static=True, default=1)
    longest: int = eqx.field(static=True, default=5)
    repeats: int = eqx.field(static=True, default=3)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        for name, least in {"symbols": 2, "shortest": 1, "longest": 1, "repeats": 1, "seed": 0}.items():
            check_integer("CopyRepeat", name, getattr(self, name), least)
        if self.shortest > self.longest:
            raise ValueError(
                f"`CopyRepeat(shortest=...)` must not exceed `longest`, got shortest={self.shortest} with "
                f"longest={self.longest}."
            )

    @property
    def inputs(self) -> int:
        return self.symbols + 1 + self.repeats

    @property
    def outputs(self) -> int:
        return self.symbols + 1

    @property
    def steps(self) -> int:
        return 1 + self.longest + 1 + self.repeats * self.longest + 1

    @property
    def target_steps(self) -> int:
        return self.steps - (1 + self.shortest + 1)

    @property
    def loss(self) -> str:
        return "cross_entropy"

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        dtype = jnp.result_type(float)
        symbols, length, repeats = jax.vmap(self._draw, out_axes=(1, 0, 0))(self.keys(index, split))
        length, repeats = length[None], repeats[None]

        time = jnp.asarray(np.arange(self.steps)[:, None], jnp.int32)
        is_start = jnp.broadcast_to(time == 0, (self.steps, len(index)))
        is_shown = (time >= 1) & (time < 1 + length)
        is_end = time == 1 + length
        shown = jnp.take_along_axis(symbols, jnp.clip(time - 1, 0, self.longest - 1), axis=0)
        inputs = [
            jax.nn.one_hot(shown, self.symbols, dtype=dtype) * is_shown[:, :, None].astype(dtype),
            is_start[:, :, None].astype(dtype),
            jax.nn.one_hot(repeats - 1, self.repeats, dtype=dtype) * is_end[:, :, None].astype(dtype),
        ]

        since = time - (2 + length)  # Steps since the answer began.
        said = jnp.take_along_axis(symbols, since % length, axis=0)
        wanted = jnp.where(since < repeats * length, said, self.symbols)
        counts = (since >= 0) & (since <= repeats * length)
        return Trials(
            inputs=jnp.concatenate(inputs, axis=-1),
            targets=wanted[-self.target_steps :],
            mask=counts[-self.target_steps :].astype(dtype),
        )

    def _draw(self, key):
        # One call of the generator and integers only: quick to compile, and the same trials in float32 and float64.
        bits = jr.bits(key, (2 + self.longest,), jnp.uint32)
        length = self.shortest + (bits[0] % (self.longest - self.shortest + 1)).astype(jnp.int32)
        repeats = 1 + (bits[1] % self.repeats).astype(jnp.int32)
        return (bits[2:] % self.symbols).astype(jnp.int32), length, repeats
