"""Arrays of one's own, checked and kept small."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt8
from numpy.typing import ArrayLike

from retrograde.tasks._abstract import check_integer

LOSSES = ("cross_entropy", "mean_squared_error", "half_squared_error")
NAMES = ("inputs", "targets", "mask")
LAYOUT = (
    "It must hold `inputs` and `targets`, and may hold `mask`; those of a test part are called `test_inputs`, "
    "`test_targets` and `test_mask`, and of a validation part likewise."
)


class Recording(eqx.Module):
    """The trials of one part of a `Recorded` task.

    Attributes:
        inputs: What comes in, shape `trial time input`.
        targets: Class numbers, shape `trial steps`, or values, shape `trial steps output`, of the last steps.
        mask: How much each counts, shape `trial steps`.
    """

    inputs: UInt8[Array, "trial time input"] | Float[Array, "trial time input"]
    targets: Int32[Array, "trial steps"] | Float[Array, "trial steps output"]
    mask: Float[Array, "trial steps"]


class _Names:
    """What the arrays of a part are called in messages."""

    def __init__(self, split: str):
        prefix = "" if split == "train" else f"{split}_"
        self.inputs, self.targets, self.mask = (f"`{prefix}{name}`" for name in NAMES)


def make_recording(split: str, inputs: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None) -> Recording:
    """Checks the arrays of one part, and keeps them as small as they may be."""
    names = _Names(split)
    x, y = _plain(names.inputs, inputs), _plain(names.targets, targets)
    if x.ndim != 3:
        raise ValueError(f"{names.inputs} must have shape `trial time input`, got shape {x.shape}.")
    if x.size == 0:
        raise ValueError(f"{names.inputs} is empty: its shape, `trial time input`, is {x.shape}.")
    _check_finite(names.inputs, x)
    is_class = y.dtype.kind in "iu"
    if is_class and y.ndim == 1:
        y = y[:, None]
    if not (is_class and y.ndim == 2) and not (y.dtype.kind == "f" and y.ndim == 3):
        raise ValueError(
            f"{names.targets} must be class numbers (integers), shape `trial` or `trial steps`, or values (floating "
            f"point), shape `trial steps output`; got dtype {y.dtype}, shape {y.shape}."
        )
    if len(y) != len(x) or not 1 <= y.shape[1] <= x.shape[1] or y.size == 0:
        raise ValueError(
            f"{names.targets} must be there for each of the {len(x)} trials and for 1 to {x.shape[1]} steps, the last "
            f"ones of {names.inputs}; got shape {y.shape}. Trials come first, then time."
        )
    w = np.ones(y.shape[:2]) if mask is None else _plain(names.mask, mask)
    if w.shape != y.shape[:2]:
        raise ValueError(f"{names.mask} must have shape `trial steps` = {y.shape[:2]}, got {w.shape}.")
    _check_finite(names.mask, w)
    if np.any(w < 0):
        raise ValueError(f"{names.mask} has negative entries, such as {w.min():g}. It says how much each step counts.")
    if not np.all(np.any(w > 0, axis=1)):
        trial = int(np.argmin(np.any(w > 0, axis=1)))
        raise ValueError(f"{names.mask} is 0 at every step of trial {trial}, which so has no target. Leave it out.")
    counts = w > 0
    if is_class:
        if np.any(y[counts] < 0):
            raise ValueError(
                f"{names.targets} has the class {y[counts].min()}; classes are numbered from 0. Steps without a target "
                "are left out by a mask of 0."
            )
        y = np.where(counts, y, 0).astype(np.int64)
        if y.max() > np.iinfo(np.int32).max:
            raise ValueError(f"{names.targets} has the class {y.max()}; that is no class number.")
    else:
        _check_finite(f"{names.targets}, where the mask counts it,", y[counts])
    default = jnp.result_type(float)
    return Recording(
        inputs=jnp.asarray(x, jnp.uint8 if x.dtype in (np.bool_, np.uint8) else default),
        targets=jnp.asarray(y, jnp.int32 if is_class else default),
        mask=jnp.asarray(w, default),
    )


def _plain(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} is no array: {error}. Trials of different length are filled up, and masked."
        ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numbers, got dtype {array.dtype}.")
    return array


def _check_finite(name: str, values: np.ndarray) -> None:
    if values.dtype.kind != "f":
        return
    wrong = ~np.isfinite(values)
    if np.any(wrong):
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name} contains NaN or infinity, first at {list(place)}. Fill such entries, or leave them out."
        )


def outputs_and_loss(parts: Mapping[str, Recording], loss: str | None, classes: int | None) -> tuple[int, str]:
    """Checks that parts fit together; returns the number of outputs and the loss."""
    if "train" not in parts:
        raise ValueError("`Recorded(parts=...)` has no trials to train on, 'train'.")
    first = parts["train"]
    kinds = {
        "time steps and inputs": lambda part: part.inputs.shape[1:],
        "steps with targets (and outputs)": lambda part: part.targets.shape[1:],
    }
    for split, part in parts.items():
        for what, shape in kinds.items():
            if shape(part) != shape(first):
                raise ValueError(f"The part {split!r} has {shape(part)} {what}, the training part {shape(first)}.")
    is_class = jnp.issubdtype(first.targets.dtype, jnp.integer)
    usual = "cross_entropy" if is_class else "mean_squared_error"
    loss = usual if loss is None else loss
    if loss not in LOSSES or (is_class and loss != "cross_entropy"):
        kind = "class numbers" if is_class else "values"
        raise ValueError(
            f"`Recorded(loss={loss!r})` does not suit targets that are {kind}; leave it out, or take {usual!r}."
        )
    if not is_class:
        if classes is not None:
            raise ValueError(f"`Recorded(classes={classes})` is for class numbers, but the targets are values.")
        return first.targets.shape[2], loss
    known = 1 + int(jnp.max(first.targets)) if classes is None else classes
    check_integer("Recorded", "classes", known, 1)
    for split, part in parts.items():
        if (largest := int(jnp.max(part.targets))) >= known:
            told = f"`classes` is {known}" if classes is not None else f"the training part has only 0 to {known - 1}"
            raise ValueError(f"The part {split!r} has the class {largest}, but {told}. Give `classes={largest + 1}`.")
    return known, loss
