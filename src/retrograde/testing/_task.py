"""Does a task keep its contract?"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from retrograde.losses import LOSSES
from retrograde.tasks import AbstractTask, Trials
from retrograde.testing._contract import ContractError, is_close, require

BATCH = 16
# A constant larger than this in a compiled `take` is a data set that should have been an argument.
LARGEST_CONSTANT = 10_000


def check_task(task: Any, *, trials: int = 500) -> None:
    """Verifies the contract of a task, your own or one of ours.

    Checked for every split: shapes, dtypes and finite values of the trials; that targets suit the loss; that a number
    always gives the same trial, alone, in any batch, compiled and mapped; that `sample` depends on its key and on
    nothing else; that data are fields and not constants of the compiled program; that splits have no trial in common
    (finite data) or are different series (endless ones); that an unknown split is refused. A task of one single trial
    may have it in every split: there is nothing to hold out.

    Args:
        task: The task, an `AbstractTask`.
        trials: How many trials of each finite split are compared with those of the others; the first ones.

    Raises:
        ContractError: If the task breaks the contract; the message says where, and what to mend.

    Example:
        >>> from retrograde.tasks import DelayedRecall
        >>> check_task(DelayedRecall(delay=3))
    """
    name = type(task).__name__
    require(isinstance(task, AbstractTask), f"`{name}` is not a task: derive it from `retrograde.tasks.AbstractTask`.")
    _check_numbers(task, name)
    for split in task.splits:
        _check_split(task, f"`{name}`, split {split!r}", split)
    _check_unknown_split(task, name)
    _check_overlap(task, name, trials)


def _check_numbers(task, name):
    for field in ("inputs", "outputs", "steps", "target_steps"):
        value = getattr(task, field)
        require(
            isinstance(value, int) and not isinstance(value, bool) and value > 0,
            f"`{name}.{field}` must be a positive integer, got {value!r}.",
        )
    require(
        task.target_steps <= task.steps,
        f"`{name}.target_steps` is {task.target_steps}, more than `{name}.steps`, {task.steps}: targets cover the last "
        "steps of a trial.",
    )
    require(
        task.loss in LOSSES,
        f"`{name}.loss` is {task.loss!r}, which is no loss; there are {', '.join(map(repr, LOSSES))}.",
    )
    splits = task.splits
    require(
        isinstance(splits, tuple) and "train" in splits and len(set(splits)) == len(splits),
        f"`{name}.splits` must be a tuple of different names, one of them 'train', got {splits!r}.",
    )


def _check_split(task, where, split):
    size = task.size(split)
    require(
        size is None or (isinstance(size, int) and size > 0),
        f"{where}: `size` must give a positive integer, or None if trials never end, got {size!r}. Leave an empty "
        "split out of `splits`.",
    )
    # One batch size throughout: every other shape would be compiled anew, which takes most of the time.
    batch = BATCH if size is None else min(BATCH, size)
    numbers = np.arange(batch, dtype=np.int32)  # as `sample` draws them
    index = jnp.asarray(numbers)
    whole = _checked(task, where, task.take(index, split), batch)
    _check_targets(task, where, whole)
    require(
        bool(eqx.tree_equal(whole, _on_host(task.take(index, split)))),
        f"{where}: `take` gives other trials when asked again. Derive all randomness from the number of the trial.",
    )
    backwards = jax.tree.map(lambda x: x[:, ::-1], _on_host(task.take(jnp.asarray(numbers[::-1]), split)))
    require(
        is_close(whole, backwards),
        f"{where}: a trial depends on its place in the batch. `take` must treat each number by itself and keep the "
        "order.",
    )
    repeated = _on_host(task.take(jnp.asarray(numbers // 2 * 2), split))
    require(
        is_close(jax.tree.map(lambda x: x[:, ::2], whole), jax.tree.map(lambda x: x[:, ::2], repeated)),
        f"{where}: a trial depends on the others in the batch. `take` must treat each number by itself.",
    )
    _check_transformations(task, where, split, index, whole)


def _checked(task, where, trials, batch):
    """Checks the trials by themselves; returns them as NumPy arrays, which need no compiling to be compared."""
    require(isinstance(trials, Trials), f"{where}: `take` must give `Trials`, got {type(trials).__name__}.")
    trials = _on_host(trials)
    dtype = jnp.result_type(float)
    shapes = {
        "inputs": ("time batch input", (task.steps, batch, task.inputs)),
        "mask": ("steps batch", (task.target_steps, batch)),
    }
    for field, (axes, shape) in shapes.items():
        actual = getattr(trials, field).shape
        require(
            actual == shape,
            f"{where}: `{field}` must have shape `{axes}` = {shape}, got {actual}.",
        )
    require(
        trials.inputs.dtype == dtype,
        f"{where}: `inputs` must have JAX's default floating type, here {dtype}, got {trials.inputs.dtype}. Convert "
        "with `.astype(jnp.result_type(float))`.",
    )
    require(bool(np.all(np.isfinite(trials.inputs))), f"{where}: `inputs` contain NaN or infinity.")
    mask = trials.mask
    require(
        mask.dtype in (dtype, jnp.bool_),
        f"{where}: `mask` must be boolean or of JAX's default floating type, here {dtype}, got {mask.dtype}.",
    )
    weight = mask.astype(dtype)
    require(
        bool(np.all(np.isfinite(weight) & (weight >= 0))),
        f"{where}: `mask` has entries that are negative or not finite. It says how much each entry counts: 0 to 1.",
    )
    has_target = np.any(weight > 0, axis=0)
    require(
        bool(np.all(has_target)),
        f"{where}: trial {int(np.argmin(has_target))} has no target: its `mask` is 0 at every step.",
    )
    return trials


def _check_targets(task, where, trials):
    targets, counts = trials.targets, trials.mask.astype(bool)
    is_float = jnp.issubdtype(targets.dtype, jnp.floating)
    is_integer = jnp.issubdtype(targets.dtype, jnp.integer)
    batch = trials.inputs.shape[1]
    numbers, classes = (task.target_steps, batch, task.outputs), (task.target_steps, batch)
    require(
        is_float or (is_integer and task.loss == "cross_entropy"),
        f"{where}: the dtype of `targets`, {targets.dtype}, does not suit `{task.loss}`: class numbers are integers "
        "(only for `cross_entropy`), probabilities and values floating point.",
    )
    axes, shape = ("steps batch output", numbers) if is_float else ("steps batch", classes)
    require(
        targets.shape == shape,
        f"{where}: `targets` of dtype {targets.dtype} must have shape `{axes}` = {shape}, got {targets.shape}.",
    )
    if is_integer:
        require(
            bool(np.all(~counts | ((targets >= 0) & (targets < task.outputs)))),
            f"{where}: `targets` has classes outside 0 … {task.outputs - 1}; `outputs` is {task.outputs}.",
        )
        return
    require(bool(np.all(~counts[:, :, None] | np.isfinite(targets))), f"{where}: `targets` contain NaN or infinity.")
    if task.loss == "cross_entropy":
        is_distribution = np.all(targets >= 0, axis=-1) & (np.abs(np.sum(targets, axis=-1) - 1) < 1e-4)
        require(
            bool(np.all(~counts | is_distribution)),
            f"{where}: `targets` are not probabilities: `cross_entropy` with floating-point targets needs entries of "
            "at least 0 that add up to 1 over the classes.",
        )


def _check_transformations(task, where, split, index, whole):
    arrays, static = eqx.partition(task, eqx.is_array)

    def take(arrays, index):
        return eqx.combine(arrays, static).take(index, split)

    def mapped(arrays, index):
        return jax.vmap(lambda number: take(arrays, number[None]))(index)

    def sample(arrays, key):
        return eqx.combine(arrays, static).sample(key, len(index), split)

    key, other_key = jr.split(jr.key(0))
    try:
        program = jax.make_jaxpr(take)(arrays, index)
    except Exception as error:
        raise ContractError(
            f"{where}: `take` cannot be compiled ({type(error).__name__}). Use `jax.numpy`, and no `if` on values that "
            "depend on the number of the trial."
        ) from error
    largest = max((np.size(constant) for constant in program.consts), default=0)
    require(
        largest <= LARGEST_CONSTANT,
        f"{where}: a constant of {largest:,} numbers would be compiled into every program that uses the task. Hold "
        "data as array fields of the task (`jax.numpy`, not NumPy).",
    )
    try:
        jax.make_jaxpr(mapped)(arrays, index)
    except Exception as error:
        raise ContractError(
            f"{where}: `take` cannot be mapped by `jax.vmap` ({type(error).__name__}). Use `jax.numpy`, and no `if` on "
            "values that depend on the number of the trial."
        ) from error
    drawn = _checked(task, f"{where}, `sample`", task.sample(key, len(index), split), len(index))
    require(
        bool(eqx.tree_equal(drawn, _on_host(task.sample(key, len(index), split)))),
        f"{where}: `sample` gives other trials when asked again with the same key.",
    )
    if task.size(split) != 1:
        require(
            not is_close(drawn, _on_host(task.sample(other_key, len(index), split))),
            f"{where}: `sample` gives the same trials for another key.",
        )
    if split != "train":  # What compiling changes, it changes in all splits, and it takes long.
        return
    compiled = jax.jit(lambda arrays, index, key: (take(arrays, index), mapped(arrays, index), sample(arrays, key)))
    whole_compiled, each, drawn_compiled = _on_host(compiled(arrays, index, key))
    each = jax.tree.map(lambda x: np.moveaxis(x[:, :, 0], 0, 1), each)
    require(is_close(whole, whole_compiled), f"{where}: `take` gives other trials when it is compiled.")
    require(is_close(whole, each), f"{where}: `take` gives other trials when it is mapped by `jax.vmap`.")
    require(is_close(drawn, drawn_compiled), f"{where}: `sample` gives other trials when it is compiled.")


def _check_unknown_split(task, name):
    unknown = "no such split"
    for method, call in (
        ("size", lambda: task.size(unknown)),
        ("take", lambda: task.take(jnp.arange(1, dtype=jnp.int32), unknown)),
    ):
        try:
            call()
        except ValueError:
            continue
        except Exception as error:
            raise ContractError(
                f"`{name}.{method}` answers an unknown split with {type(error).__name__}: raise a `ValueError` that "
                "names the splits there are."
            ) from error
        raise ContractError(f"`{name}.{method}` accepts an unknown split: raise a `ValueError`.")


def _check_overlap(task, name, trials):
    if all(task.size(split) == 1 for split in task.splits):
        return
    seen: dict[bytes, tuple[str, int]] = {}
    series: dict[bytes, str] = {}
    for split in task.splits:
        size = task.size(split)
        count = BATCH if size is None else min(size, trials)
        taken = task.take(jnp.arange(count, dtype=jnp.int32), split)
        if size is None:
            content = np.asarray(taken.inputs).tobytes() + np.asarray(taken.targets).tobytes()
            require(
                content not in series,
                f"`{name}`: the splits {series.get(content)!r} and {split!r} are the same series of trials. Derive the "
                "keys of each split from a different stream.",
            )
            series[content] = split
            continue
        inputs = np.moveaxis(np.asarray(taken.inputs), 1, 0)
        for number, trial in enumerate(inputs):
            other, other_number = seen.setdefault(trial.tobytes(), (split, number))
            require(
                other == split,
                f"`{name}`: trial {number} of {split!r} is trial {other_number} of {other!r}. Splits must have no "
                "trial in common.",
            )


def _on_host(tree):
    return jax.tree.map(np.asarray, tree)
