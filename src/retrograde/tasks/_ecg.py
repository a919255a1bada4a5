"""Heart beats as spikes, to be told wave by wave."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt8

from retrograde.data import ECG_WAVES, load_ecg
from retrograde.tasks._abstract import AbstractTask, Trials, check_integer, check_split, check_trials_exist

UNLABELLED = ("P", "masked")
NO_LABEL = 255


class ECG(AbstractTask):
    """An electrocardiogram is seen as spikes, and at every step the wave of the heart beat is to be named.

    The inputs are four channels of 0 and 1: lead 0 rising, lead 0 falling, lead 1 rising, lead 1 falling; 250 steps are
    a second. The classes are P, PQ, QR, RS, ST and TP. Labels lag the signal by 18 steps (72 ms), which gives a causal
    network that much to look ahead. To name always the most frequent class is right in 33 % of the steps of the
    training part (TP) and 30 % of the test part (ST). No patient is in both.

    Attributes:
        unlabelled: What becomes of steps without a label, 8 % of the training part and 10 % of the test part. `"P"`:
            they count as class P, as in the source, whose largest entry of a row of zeros is the first. `"masked"`:
            they do not count.
        skip: Number of first steps that have no target.
        spikes: 0 or 1, of each split, shape `trial time channel`.
        waves: The class, 255 where there is no label, of each split, shape `trial time`.

    Raises:
        ValueError: If `unlabelled` is neither of the two, or `skip` leaves no step.
        retrograde.data.DataError: If the data are missing or damaged.

    Source:
        Yin, Corradi and Bohte (2021), Nat. Mach. Intell. 3:905-913, and its code's `ECG`; the data are those of
        `retrograde.data.load_ecg`. There the loss is the *sum* over steps, 1,291 times this mean.
    """

    unlabelled: str = eqx.field(static=True)
    skip: int = eqx.field(static=True)
    spikes: dict[str, UInt8[Array, "_trial time channel"]]
    waves: dict[str, UInt8[Array, "_trial time"]]

    def __init__(self, unlabelled: str = "P", skip: int = 10):
        # Before the data are read, hence not in `__check_init__`.
        if unlabelled not in UNLABELLED:
            raise ValueError(f"`ECG(unlabelled=...)` must be 'P' or 'masked', got {unlabelled!r}.")
        check_integer("ECG", "skip", skip, 0)
        data = load_ecg()
        if skip >= data.train_waves.shape[1]:
            raise ValueError(
                f"`ECG(skip={skip})` leaves no step with a target: a trial has {data.train_waves.shape[1]} steps."
            )
        self.unlabelled = unlabelled
        self.skip = skip
        self.spikes = {"train": jnp.asarray(data.train_spikes), "test": jnp.asarray(data.test_spikes)}
        self.waves = {"train": jnp.asarray(data.train_waves), "test": jnp.asarray(data.test_waves)}

    @property
    def inputs(self) -> int:
        return self.spikes["train"].shape[2]

    @property
    def outputs(self) -> int:
        return len(ECG_WAVES)

    @property
    def steps(self) -> int:
        return self.spikes["train"].shape[1]

    @property
    def target_steps(self) -> int:
        return self.steps - self.skip

    @property
    def loss(self) -> str:
        return "cross_entropy"

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test")

    def size(self, split: str = "train") -> int:
        check_split(self, split)
        return self.spikes[split].shape[0]

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        check_trials_exist(self, index, split)
        dtype = jnp.result_type(float)
        waves = self.waves[split][index, self.skip :].T.astype(jnp.int32)
        has_label = waves != NO_LABEL
        return Trials(
            inputs=self.spikes[split][index].transpose(1, 0, 2).astype(dtype),
            targets=jnp.where(has_label, waves, ECG_WAVES.index("P")),
            mask=has_label.astype(dtype) if self.unlabelled == "masked" else jnp.ones(waves.shape, dtype),
        )
