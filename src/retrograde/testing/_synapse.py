"""Does a synapse keep its contract?"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..synapses import AbstractSynapse, Moments, Tied
from ._contract import attempt, cast, check_fields, dtypes, is_close, is_finite, leaves, require

BATCH = 3
# A weight that changed in fewer draws than this says too little about its variance.
LEAST_EVENTS = 100


def check_synapse(synapse: Any, *, draws: int = 4000, smooth: bool = True, seed: int = 0) -> None:
    """Verifies the contract of a synapse, your own or one of ours.

    Checked: `shape`; shapes, types and range of the moments in float32 (and float64 where that is switched on);
    that `current` is linear, in `pre` its mean and in `pre²` its variance, and agrees with the moments; that samples
    have these moments, weight by weight and in the sum of each row, within 5 standard errors; that `project` is
    idempotent, changes neither structure nor shapes, and leads parameters back to variances that are not negative;
    derivatives with respect to the parameters, against finite differences where float64 is switched on; that
    compiling changes nothing; that `constants` exist. Of `Tied`, which has no weights of its own, only the shape.

    Args:
        synapse: The synapse.
        draws: Number of samples [1].
        smooth: Whether derivatives should agree with finite differences; `False` for stand-ins.
        seed: Seeds samples and activities.

    Raises:
        ContractError: If the synapse breaks the contract; the message says where, and what to mend.

    Example:
        >>> import jax.numpy as jnp, retrograde as rg
        >>> rg.testing.check_synapse(rg.synapses.Dense(jnp.ones((2, 3))))
    """
    name = type(synapse).__name__
    require(
        isinstance(synapse, AbstractSynapse),
        f"`{name}` is not a synapse: derive it from `retrograde.synapses.AbstractSynapse`.",
    )
    shape = attempt(f"`{name}.shape`", lambda: synapse.shape)
    require(
        isinstance(shape, tuple)
        and len(shape) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape),
        f"`{name}.shape` must be two positive whole numbers, (post, pre), got {shape!r}.",
    )
    if isinstance(synapse, Tied):
        return
    check_fields(synapse, name)
    for field in synapse.constants:
        require(hasattr(synapse, field), f"`{name}.constants` names {field!r}, but `{name}` has no such field.")
    for dtype in dtypes():
        typed = cast(synapse, dtype)
        moments = _check_moments(typed, name, dtype)
        _check_current(typed, name, moments, dtype, seed)
    _check_compiled(typed, name)
    _check_project(typed, name, seed)
    _check_gradient(typed, name, smooth and dtype == jnp.float64, seed)
    _check_sample(typed, name, moments, draws, seed)


def _check_moments(synapse, name, dtype):
    where = f"`{name}.moments`"
    moments = attempt(where, synapse.moments)
    require(isinstance(moments, Moments), f"{where} must return `Moments(mean, variance)`, got {moments!r}.")
    post, pre = synapse.shape
    allowed = [(post, pre), (post,)] if post == pre else [(post, pre)]
    require(
        moments.mean.shape in allowed,
        f"{where}: `mean` has shape {moments.mean.shape}, but `shape` says (post, pre) = {synapse.shape}.",
    )
    own = [leaf for leaf in jax.tree.leaves(synapse) if eqx.is_inexact_array(leaf)]
    for field, value in (("mean", moments.mean), ("variance", moments.variance)):
        if value is None:
            continue
        require(
            value.shape == moments.mean.shape,
            f"{where}: `{field}` has shape {value.shape}, `mean` has {moments.mean.shape}.",
        )
        require(
            value.dtype == dtype or not own,
            f"{where}: `{field}` has type {value.dtype}, the parameters have {dtype}. Make constants Python floats.",
        )
        require(is_finite(value), f"{where}: `{field}` contains NaN or infinity.")
    if moments.variance is not None:
        least = float(moments.variance.min())
        require(least >= 0, f"{where}: a variance is negative, {least:.2g}. Write it as a sum of what is positive.")
    return moments


def _check_current(synapse, name, moments, dtype, seed):
    where = f"`{name}.current`"
    x, y = jr.normal(jr.key(seed), (2, BATCH, synapse.shape[1]), dtype)
    results = [attempt(where, synapse.current, pre) for pre in (x, y, x + y, x - y, x[None])]
    variable = moments.variance is not None
    for (mean, variance), batch in zip(results, [(BATCH,)] * 4 + [(1, BATCH)], strict=True):
        require(
            (variance is not None) == variable,
            f"{where} gives {'no' if variable else 'a'} variance, `moments` {'one' if variable else 'none'}.",
        )
        for field, value in (("mean", mean), ("variance", variance)):
            if value is None:
                continue
            expected = (*batch, synapse.shape[0])
            require(
                value.shape == expected,
                f"{where}: `{field}` has shape {value.shape} where activity of shape {(*batch, synapse.shape[1])} "
                f"must give {expected}.",
            )
            require(
                value.dtype == dtype,
                f"{where}: `{field}` has type {value.dtype} where activity and parameters have {dtype}. Make constants "
                "Python floats.",
            )
    (mean_x, variance_x), (mean_y, variance_y), (mean_sum, variance_sum), (_, variance_less) = results[:4]
    close = 1e-4 if dtype == jnp.float32 else 1e-9
    require(
        _near(mean_sum, mean_x + mean_y, close),
        f"{where}: `mean` is not linear in `pre`: the current of a sum is not the sum of the currents, off by "
        f"{_off(mean_sum, mean_x + mean_y)}. A non-linearity belongs into the neuron.",
    )
    matrix = jnp.diag(moments.mean) if moments.mean.ndim == 1 else moments.mean
    require(
        _near(mean_x, x @ matrix.T, close),
        f"{where}: `mean` is not `moments().mean · pre`, off by {_off(mean_x, x @ matrix.T)}. The rules act on the "
        "moments: both must say the same.",
    )
    if not variable:
        return
    # Twice the sum of squares is the square of the sum plus that of the difference.
    both = 2 * (variance_x + variance_y)
    require(
        _near(variance_sum + variance_less, both, close),
        f"{where}: `variance` is not linear in `pre²`, off by {_off(variance_sum + variance_less, both)}. Variances of "
        "independent weights add, each times its squared activity.",
    )
    matrix = jnp.diag(moments.variance) if moments.mean.ndim == 1 else moments.variance
    require(
        _near(variance_x, x**2 @ matrix.T, close),
        f"{where}: `variance` is not `moments().variance · pre²`, off by {_off(variance_x, x**2 @ matrix.T)}. The "
        "rules act on the moments: both must say the same.",
    )


def _off(value, expected):
    return f"{float(jnp.abs(value - expected).max()):.2g}"


def _near(value, expected, tolerance):
    return bool(jnp.all(jnp.abs(value - expected) <= tolerance * (1 + jnp.abs(expected).max())))


def _check_compiled(synapse, name):
    def run(synapse, key):
        return synapse.moments(), synapse.sample(key)

    key = jr.key(0)
    plain = attempt(f"`{name}.sample`", run, synapse, key)
    drawn = plain[1]
    require(
        isinstance(drawn, Moments) and drawn.variance is None and drawn.mean.shape == plain[0].mean.shape,
        f"`{name}.sample` must return `Moments(weights)` with the shape of `moments().mean` and no variance: a drawn "
        f"weight is a number. It returns {drawn!r}.",
    )
    require(
        drawn.mean.dtype == plain[0].mean.dtype,
        f"`{name}.sample` draws weights of type {drawn.mean.dtype} where the moments have {plain[0].mean.dtype}.",
    )
    require(
        bool(eqx.tree_equal(plain, run(synapse, key))),
        f"`{name}.sample` or `moments` gives another result when asked again with the same key.",
    )
    compiled = attempt(
        f"`{name}.moments` or `{name}.sample` under `jax.jit`",
        jax.jit(run),
        synapse,
        key,
    )
    require(is_close(plain, compiled), f"`{name}.moments` or `sample` gives another result when it is compiled.")


def _parameters(synapse):
    """Splits what an optimiser may change from the rest."""
    fixed = {f".{field}" for field in synapse.constants}
    is_free = jax.tree_util.tree_map_with_path(
        lambda path, leaf: eqx.is_inexact_array(leaf) and jax.tree_util.keystr(path) not in fixed, synapse
    )
    return eqx.partition(synapse, is_free)


def _directions(key, parameters):
    found, structure = jax.tree.flatten(parameters)
    keys = jr.split(key, max(len(found), 1))
    return jax.tree.unflatten(structure, [jr.normal(k, x.shape, x.dtype) for k, x in zip(keys, found, strict=False)])


def _check_project(synapse, name, seed):
    where = f"`{name}.project`"
    parameters, rest = _parameters(synapse)
    direction = _directions(jr.key(seed), parameters)
    moved = [jax.tree.map(operation, parameters, direction) for operation in (jnp.add, jnp.subtract)]
    for start in (synapse, *(eqx.combine(there, rest) for there in moved)):
        once = attempt(where, start.project)
        require(
            jax.tree.structure(once) == jax.tree.structure(start)  # type: ignore[operator]
            and all(
                jnp.shape(a) == jnp.shape(b) and jnp.result_type(a) == jnp.result_type(b)
                for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(start), strict=True)
            ),
            f"{where} changes the structure, a shape or a type of the synapse. It may change values only.",
        )
        require(
            is_close(once, once.project()),
            f"{where} is not idempotent: applied twice it gives another synapse than applied once. Inside the allowed "
            "range it must change nothing.",
        )
        moments = once.moments()
        require(
            is_finite(moments) and (moments.variance is None or float(moments.variance.min()) >= 0),
            f"{where} leaves parameters whose variance is negative or not finite, as an optimiser may make them. "
            "Clip them to their range.",
        )


def _check_gradient(synapse, name, compare, seed):
    parameters, rest = _parameters(synapse)
    if not jax.tree.leaves(parameters):
        return
    moments = synapse.moments()
    weight_key, direction_key = jr.split(jr.key(seed))
    weights, direction = _directions(weight_key, moments), _directions(direction_key, parameters)

    def total(parameters):
        found = eqx.combine(parameters, rest).moments()
        return sum(jnp.sum(w * m) for w, m in zip(jax.tree.leaves(weights), jax.tree.leaves(found), strict=True))

    gradient = attempt(f"Differentiating `{name}.moments`", jax.jit(jax.grad(total)), parameters)
    for path, leaf in leaves(gradient).items():
        require(
            is_finite(leaf),
            f"The derivative of `{name}.moments` with respect to `{path[1:]}` is NaN or infinite. Guard roots, "
            "logarithms and divisions with `jnp.where` on their argument.",
        )
    if not compare:
        return
    evaluate, step = jax.jit(total), 1e-6
    for path, leaf in leaves(direction).items():
        ahead, behind = (
            jax.tree_util.tree_map_with_path(
                lambda p, x, d, h=h, path=path: x + h * d if jax.tree_util.keystr(p) == path else x,
                parameters,
                direction,
            )
            for h in (step, -step)
        )
        numerical = float((evaluate(ahead) - evaluate(behind)) / (2 * step))
        exact = float(jnp.sum(leaves(gradient)[path] * leaf))
        require(
            abs(numerical - exact) <= 1e-5 * (1 + abs(numerical) + float(jnp.abs(leaves(gradient)[path] * leaf).sum())),
            f"The derivative of `{name}.moments` with respect to `{path[1:]}` is {exact:.6g} along a random direction "
            f"where finite differences give {numerical:.6g}. If it is a stand-in on purpose, pass `smooth=False`.",
        )


def _check_sample(synapse, name, moments, draws, seed):
    """Compares means and variances over many draws, of each weight and of the sum of each row."""
    mean, variance = moments.mean, moments.variance
    variance = jnp.zeros_like(mean) if variance is None else variance
    signs = jnp.where(jr.bernoulli(jr.key(seed), 0.5, mean.shape), 1, -1).astype(mean.dtype)
    rows = mean.ndim == 2

    def add(totals, key):
        off = synapse.sample(key).mean - mean
        parts = {"weight": off, "row": (off * signs).sum(axis=1)} if rows else {"weight": off}
        new = jax.tree.map(lambda x: jnp.stack([x, x**2, x**4, (jnp.abs(x) > 1e-9).astype(x.dtype)]), parts)
        return jax.tree.map(jnp.add, totals, new), off

    zero = {"weight": jnp.zeros((4, *mean.shape), mean.dtype)}
    zero |= {"row": jnp.zeros((4, mean.shape[0]), mean.dtype)} if rows else {}

    @jax.jit
    def run(keys):
        totals, _ = jax.lax.scan(lambda t, k: (add(t, k)[0], None), zero, keys)
        first, second = (synapse.sample(key).mean for key in (keys[0], keys[1]))
        return totals, jnp.array_equal(first, second)

    totals, same = attempt(f"`{name}.sample`", run, jr.split(jr.fold_in(jr.key(seed), 1), draws))
    require(
        not (bool(same) and float(variance.max()) > 0),
        f"`{name}.sample` gives the same weights for another key, but `moments` says that they vary.",
    )
    expected = {"weight": variance, "row": variance.sum(axis=1) if rows else None}
    slack = 1e-4 if mean.dtype == jnp.float32 else 1e-9
    for part in ("weight", "row") if rows else ("weight",):
        total, claimed = np.asarray(totals[part], float) / draws, np.asarray(expected[part], float)
        total[3] *= draws
        certain, frequent = claimed == 0, total[3] >= LEAST_EVENTS
        worst = _worst(np.where(certain, np.sqrt(total[1]), 0) / (1 + np.abs(np.asarray(mean)).max()))
        require(
            worst[1] <= slack,
            f"`{name}.sample` draws a {part} {list(worst[0])} that differs from its mean by {worst[1]:.2g} though "
            "`moments` gives it no variance.",
        )
        checked = frequent & ~certain
        of_mean = np.sqrt(total[1] / draws)
        of_variance = np.sqrt(np.maximum(total[2] - total[1] ** 2, 0) / draws)
        for what, value, aim, error in (
            ("mean", total[0], 0.0, of_mean),
            ("variance", total[1], claimed, of_variance),
        ):
            distance = np.abs(value - aim)
            excess = np.where(
                checked & (distance > slack * (1 + np.abs(claimed).max())), distance / (error + 1e-300), 0
            )
            place, size = _worst(excess)
            shift = np.asarray(value)[place]
            found = f"is off by {shift:.3g}" if what == "mean" else f"is {shift:.3g}, not {claimed[place]:.3g}"
            independent = " Are the weights of a row drawn independently?" if part == "row" else ""
            require(
                size <= 5,
                f"`{name}.sample`: over {draws} draws the {what} of {part} {list(place)} {found}, which is "
                f"{size:.3g} standard errors from `moments`. Both must describe one distribution.{independent}",
            )


def _worst(values):
    place = np.unravel_index(values.argmax(), values.shape)
    return tuple(map(int, place)), float(values[place])
