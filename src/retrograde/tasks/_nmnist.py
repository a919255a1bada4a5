"""Digits before an event camera."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from retrograde.data import Events, load_nmnist
from retrograde.encoders import bin_events
from retrograde.tasks._abstract import AbstractTask, Trials, check_integer, check_split, check_trials_exist

ANSWERS = ("last", "every")
SIDE = 34
CLASSES = 10


class NMNIST(AbstractTask):
    """Handwritten digits pass before an event camera, and are to be named at the end, or at every step.

    A pixel sends an event when it becomes brighter (polarity 1) or darker (0). In a step of `dt` an input is 1 if its
    pixels sent at least one event of its polarity, else 0: first all pixels of polarity 0, row after row, then those
    of polarity 1. Bin `i` holds the events from `i · dt` on, to before `(i + 1) · dt`.

    There are 1,000 digits to train on and 100 to test on, a part of N-MNIST: enough for an example, not for a
    benchmark, as the standard error on the test part is three points at 90 %. For all 70,000 see
    `Recorded.from_tonic`.

    Attributes:
        dt: Length of a step [ms].
        steps: Length of a trial [step]; later events are dropped. Recordings last 300 to 336 ms.
        pool: Side of the squares of pixels that are taken together [pixel]: 1 (34 × 34) or 2 (17 × 17).
        answer: `"last"`: the digit is to be named at the last step. `"every"`: at every step.
        spikes: 0 or 1, of each split, shape `trial time input`.
        digits: The digit, of each split, shape `trial`.

    Raises:
        ValueError: If an argument is none of the above.
        retrograde.data.DataError: If the data are missing or damaged.

    Source:
        Orchard, Jayawant, Cohen and Thakor (2015), Front. Neurosci. 9:437; the data are those of
        `retrograde.data.load_nmnist`. Steps and pooling are ours.
    """

    dt: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    pool: int = eqx.field(static=True)
    answer: str = eqx.field(static=True)
    spikes: dict[str, UInt8[Array, "_trial time input"]]
    digits: dict[str, UInt8[Array, " _trial"]]

    def __init__(self, dt: float = 10.0, steps: int = 32, pool: int = 2, answer: str = "last"):
        # Before the data are read, hence not in `__check_init__`.
        if not dt > 0:
            raise ValueError(f"`NMNIST(dt=...)` must be positive, got {dt}. It is in milliseconds.")
        check_integer("NMNIST", "steps", steps, 1)
        if pool not in (1, 2):
            raise ValueError(f"`NMNIST(pool=...)` must be 1 or 2, got {pool!r}.")
        if answer not in ANSWERS:
            raise ValueError(f"`NMNIST(answer=...)` must be 'last' or 'every', got {answer!r}.")
        data = load_nmnist()
        self.dt = dt
        self.steps = steps
        self.pool = pool
        self.answer = answer
        self.spikes = {split: jnp.asarray(_binned(events, dt, steps, pool)) for split, events in data.items()}
        self.digits = {split: jnp.asarray(events.label) for split, events in data.items()}

    @property
    def inputs(self) -> int:
        return 2 * (SIDE // self.pool) ** 2

    @property
    def outputs(self) -> int:
        return CLASSES

    @property
    def target_steps(self) -> int:
        return 1 if self.answer == "last" else self.steps

    @property
    def loss(self) -> str:
        return "cross_entropy"

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test")

    def size(self, split: str = "train") -> int:
        check_split(self, split)
        return self.digits[split].shape[0]

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        check_trials_exist(self, index, split)
        dtype = jnp.result_type(float)
        digit = self.digits[split][index].astype(jnp.int32)
        return Trials(
            inputs=self.spikes[split][index].transpose(1, 0, 2).astype(dtype),
            targets=jnp.broadcast_to(digit[None], (self.target_steps, len(index))),
            mask=jnp.ones((self.target_steps, len(index)), dtype),
        )


def _binned(events: Events, dt: float, steps: int, pool: int) -> UInt8[np.ndarray, "trial time input"]:
    side = SIDE // pool
    pixel = events.y.astype(np.int32) // pool * side + events.x // pool
    channel = events.p.astype(np.int32) * side**2 + pixel
    size, count = 2 * side**2, len(events.label)
    spikes = np.empty((count, steps, size), np.uint8)
    for number, (begin, end) in enumerate(zip(events.offsets[:-1], events.offsets[1:], strict=True)):
        part = slice(begin, end)
        spikes[number] = bin_events(events.t[part] / 1000, channel[part], steps=steps, size=size, dt=dt, closed="left")
    return spikes
