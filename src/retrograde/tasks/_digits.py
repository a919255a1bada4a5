"""Handwritten digits, seen bit by bit."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, UInt8

from retrograde.data import load_digits, load_mnist
from retrograde.tasks._abstract import SPLITS, AbstractTask, Trials, check_integer, check_split, check_trials_exist

ORDERS = ("rows", "pixels", "permuted")
SOURCES = ("shipped", "mnist")
SIDE = 28
CLASSES = 10


class SequentialDigits(AbstractTask):
    """Handwritten digits shown row by row or pixel by pixel, to be named at the last step.

    The inputs are the grey levels divided by 255, top row first, in one of three orders:

    | `order` | steps × inputs | what comes in one step |
    | --- | --- | --- |
    | `"rows"` | 28 × 28 | one row, left to right |
    | `"pixels"` | 784 × 1 | one pixel, row after row |
    | `"permuted"` | 784 × 1 | one pixel, in an order drawn once and the same for all images |

    Attributes:
        order: See the table.
        source: `"shipped"`: the 5,000 digits that come with the package. `"mnist"`: all 70,000, see
            `retrograde.data.load_mnist`.
        permutation_seed: Seed of the order of `"permuted"` (without effect on the others).
        pool: Side of the squares of pixels that are averaged into one first [pixel]; a divisor of 28. With `pool=4`
            an image has 7 × 7 pixels and `"pixels"` 49 steps.
        validation: Number of training images kept apart as the split `"validation"`, a multiple of 10: of each class
            the last `validation / 10`. With 0 there is no such split.
        images: Grey levels of each split, 0 to 255 [1], shape `trial row column`.
        labels: The digits of each split, shape `trial`.
        permutation: The order in which pixels are shown, shape `pixel`; `None` unless `order` is `"permuted"`.

    Raises:
        ValueError: If an argument is none of the above.
        retrograde.data.DataError: If the data are missing or damaged.

    Example:
        >>> import jax
        >>> task = SequentialDigits(order="pixels", pool=4)
        >>> task.sample(jax.random.key(0), 32).inputs.shape
        (49, 32, 1)

    Source:
        Le, Jaitly and Hinton (2015), arXiv:1504.00941 (pixels and permuted pixels); by rows as Zou et al. (2023).
        Differs from both where `source="shipped"`: fewer digits. Every paper draws its own permutation.
    """

    order: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    permutation_seed: int = eqx.field(static=True)
    pool: int = eqx.field(static=True)
    validation: int = eqx.field(static=True)
    images: dict[str, UInt8[Array, "_trial row column"]]
    labels: dict[str, UInt8[Array, " _trial"]]
    permutation: Int32[Array, " pixel"] | None

    def __init__(
        self,
        order: str = "rows",
        source: str = "shipped",
        permutation_seed: int = 0,
        pool: int = 1,
        validation: int = 0,
    ):
        # Before the data are read, hence not in `__check_init__`.
        for name, value, choices in (("order", order, ORDERS), ("source", source, SOURCES)):
            if value not in choices:
                names = ", ".join(repr(choice) for choice in choices)
                raise ValueError(f"`SequentialDigits({name}=...)` must be one of {names}, got {value!r}.")
        check_integer("SequentialDigits", "permutation_seed", permutation_seed, 0)
        check_integer("SequentialDigits", "pool", pool, 1)
        if SIDE % pool:
            raise ValueError(
                f"`SequentialDigits(pool=...)` must divide {SIDE}, the side of an image: 1, 2, 4, 7, 14 or 28; got "
                f"{pool}."
            )
        check_integer("SequentialDigits", "validation", validation, 0)
        if validation % CLASSES:
            raise ValueError(
                f"`SequentialDigits(validation=...)` must be a multiple of {CLASSES}, as many of each class, got "
                f"{validation}."
            )
        digits = load_digits() if source == "shipped" else load_mnist()
        held_out = _last_of_each_class(digits.train_labels, validation)
        parts = {
            "train": (digits.train_images[~held_out], digits.train_labels[~held_out]),
            "validation": (digits.train_images[held_out], digits.train_labels[held_out]),
            "test": (digits.test_images, digits.test_labels),
        }
        parts = {split: part for split, part in parts.items() if len(part[0])}
        self.order = order
        self.source = source
        self.permutation_seed = permutation_seed
        self.pool = pool
        self.validation = validation
        self.images = {split: jnp.asarray(images) for split, (images, _) in parts.items()}
        self.labels = {split: jnp.asarray(labels) for split, (_, labels) in parts.items()}
        self.permutation = None
        if order == "permuted":
            # NumPy freezes this generator's stream for good; JAX's depends on its version and settings.
            pixels = np.random.RandomState(permutation_seed).permutation((SIDE // pool) ** 2)
            self.permutation = jnp.asarray(pixels, dtype=jnp.int32)

    @property
    def inputs(self) -> int:
        return SIDE // self.pool if self.order == "rows" else 1

    @property
    def outputs(self) -> int:
        return CLASSES

    @property
    def steps(self) -> int:
        side = SIDE // self.pool
        return side if self.order == "rows" else side**2

    @property
    def target_steps(self) -> int:
        return 1

    @property
    def loss(self) -> str:
        return "cross_entropy"

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if split in self.images)

    def size(self, split: str = "train") -> int:
        hint = " Hold some out with `SequentialDigits(validation=400)`." if split == "validation" else ""
        check_split(self, split, hint)
        return self.images[split].shape[0]

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        check_trials_exist(self, index, split)
        dtype = jnp.result_type(float)
        images = self.images[split][index].astype(dtype) / 255
        labels = self.labels[split][index].astype(jnp.int32)
        return Trials(self._sequence(images), targets=labels[None], mask=jnp.ones((1, len(labels)), dtype))

    def _sequence(self, images: Float[Array, "batch 28 28"]) -> Float[Array, "time batch input"]:
        batch, side = len(images), SIDE // self.pool
        if self.pool > 1:
            images = images.reshape(batch, side, self.pool, side, self.pool).mean((2, 4))
        if self.order == "rows":
            return images.transpose(1, 0, 2)
        pixels = images.reshape(batch, side**2)
        if self.permutation is not None:
            pixels = pixels[:, self.permutation]
        return pixels.T[:, :, None]


def _last_of_each_class(labels: UInt8[np.ndarray, " trial"], total: int) -> np.ndarray:
    """Marks the last `total / 10` trials of each class; refuses to take all of a class."""
    held_out = np.zeros(len(labels), bool)
    for digit in range(CLASSES if total else 0):
        members = np.flatnonzero(labels == digit)
        if total // CLASSES >= len(members):
            raise ValueError(
                f"`SequentialDigits(validation={total})` takes {total // CLASSES} images of each class, but of the "
                f"digit {digit} there are only {len(members)} to train on. Hold out fewer."
            )
        held_out[members[-(total // CLASSES) :]] = True
    return held_out
