"""Many optimiser steps as one compiled program."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from retrograde import losses
from retrograde.descent import descend


class TrainingState(eqx.Module):
    """All that a step changes; with several seeds everything but `step` has a first axis `seed`.

    Attributes:
        params: The trainable leaves of the network.
        optimiser_state: What the optimiser remembers.
        rule_state: What the rule remembers, or `None`.
        order: Trial numbers of the running epoch; `None` for a task without end.
        step: Updates made so far, the same for all seeds.
    """

    params: PyTree
    optimiser_state: PyTree
    rule_state: PyTree
    order: Int[Array, "*seed trial"] | None
    step: Int[Array, ""]


class Problem(eqx.Module):
    """All that stays as it is; its arrays are arguments of the program, never constants inside it."""

    rest: PyTree  # the network without what is trained
    trainable: PyTree  # which leaves those are: `network.project()` gives whole networks
    task: PyTree
    rule: PyTree
    optimiser: optax.GradientTransformation
    loss: Callable
    regulariser: Callable | None
    penalty: Any  # on the activity, or None
    data_keys: Key[Array, "*seed"]
    noise_keys: Key[Array, "*seed"]
    batch: int = eqx.field(static=True)
    every: int | None = eqx.field(static=True)  # time steps between two updates inside a trial; None: one at its end
    buffer: int = eqx.field(static=True)  # most steps of one dispatch


METRICS = 3  # loss, accuracy, gradient norm: the first of `_history.METRICS`


@eqx.filter_jit(donate="all-except-first")
def dispatch(
    problem_and_stop: tuple[Problem, Int[Array, ""]], state: TrainingState
) -> tuple[TrainingState, Float[Array, "buffer seed metric"], Bool[Array, "seed flag"]]:
    """Makes updates until step `stop`, the buffer is full, or something is not finite.

    The number of steps is data, not shape, so one compiled program serves every dispatch of a run, and no number
    depends on where one dispatch ends and the next begins.

    Returns:
        The state, the metrics of each step, and what went wrong: loss, then each leaf of `params`. The step that
        went wrong is not applied.
    """
    problem, stop = problem_and_stop
    first = state.step
    arrays, static = eqx.partition(state, eqx.is_array)
    leaves = jax.tree.leaves(state.params)
    seeds = problem.noise_keys.size
    buffer = jnp.zeros((problem.buffer, seeds, METRICS), leaves[0].dtype)
    flags = jnp.zeros((seeds, 1 + len(leaves)), bool)

    def unfinished(carry):
        arrays, _, flags = carry
        return (arrays.step < stop) & (arrays.step - first < problem.buffer) & ~flags.any()

    def step(carry):
        arrays, buffer, _ = carry
        state = eqx.combine(arrays, static)
        new, metrics, flags = _update_all(problem, state)
        buffer = buffer.at[state.step - first].set(metrics.astype(buffer.dtype))
        good = ~flags.any()
        new = jax.tree.map(lambda new, old: jnp.where(good, _as(new, old), old), eqx.filter(new, eqx.is_array), arrays)
        return new, buffer, flags

    arrays, buffer, flags = jax.lax.while_loop(unfinished, step, (arrays, buffer, flags))
    return eqx.combine(arrays, static), buffer, flags


def _as(new: Array, old: Array) -> Array:
    """`new` in the exact type of `old`, weak types included, so that the loop's types close."""
    return new if new.dtype == old.dtype and not new.weak_type else jax.lax.convert_element_type(new, old.dtype)


def _update_all(problem: Problem, state: TrainingState):
    """One step of every seed: `"seed metric"`, `"seed flag"`."""
    if problem.noise_keys.ndim == 0:
        new, metrics, flags = _update(state, problem)
        return new, metrics[None], flags[None]

    # `step`, task and the rest are not mapped: so the `cond` that shuffles remains a `cond`
    def one_seed(params, optimiser_state, rule_state, order, rest, data_key, noise_key):
        here = dataclasses.replace(problem, rest=rest, data_keys=data_key, noise_keys=noise_key)
        new, metrics, flags = _update(TrainingState(params, optimiser_state, rule_state, order, state.step), here)
        return (new.params, new.optimiser_state, new.rule_state, new.order), metrics, flags

    changing = (state.params, state.optimiser_state, state.rule_state, state.order)
    fixed = (problem.rest, problem.data_keys, problem.noise_keys)
    arrays, static = eqx.partition((*changing, *fixed), eqx.is_array)

    def seed_by_seed(arrays):
        return one_seed(*eqx.combine(arrays, static))

    # A CPU is busy with one network, and several at once fall out of its cache: one after another is twice as fast.
    at_once = None if jax.default_backend() == "cpu" else problem.noise_keys.size
    changed, metrics, flags = jax.lax.map(seed_by_seed, arrays, batch_size=at_once)
    params, optimiser_state, rule_state, order = changed
    return TrainingState(params, optimiser_state, rule_state, order, state.step + 1), metrics, flags


def _update(state: TrainingState, problem: Problem):
    """One step of one seed. All that is random in step k comes from `fold_in(key, k)`, in epoch e from `e`."""
    order, trials = _next_batch(state, problem)
    key = jr.fold_in(problem.noise_keys, state.step)
    learn = _learn_from_trial if problem.every is None else _learn_within_trial
    learnt, (loss, extra, outputs), gradients, raw = learn(state, problem, trials, key)
    is_classification = problem.task.loss == "cross_entropy"
    accuracy = losses.accuracy(outputs, trials) if is_classification else jnp.full_like(loss, jnp.nan)
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients)))
    metrics = jnp.stack([x.astype(loss.dtype) for x in (loss, accuracy, norm)])
    # the parameters as the optimiser left them: clipping to a range would hide that one is infinite
    bad = [_not_finite(g) | _not_finite(p) for g, p in zip(*map(jax.tree.leaves, (gradients, raw)), strict=True)]
    flags = jnp.stack([_not_finite(loss + extra), *bad])
    params, optimiser_state, rule_state = learnt
    return TrainingState(params, optimiser_state, rule_state, order, state.step + 1), metrics, flags


def _learn_from_trial(state: TrainingState, problem: Problem, trials, key: Key[Array, ""]):
    """One update from the gradient of the whole trial."""

    def objective(network, rule, key):
        run = network(
            trials.inputs,
            rule=rule,
            key=key,
            readout_steps=problem.task.target_steps,
            record=() if problem.penalty is None else problem.penalty.populations,
        )
        loss = problem.loss(run.outputs, trials)
        extra = 0.0 if problem.regulariser is None else problem.regulariser(network)
        if problem.penalty is not None:
            extra = extra + problem.penalty(run.activity)
        return loss + extra, (loss, extra, run.outputs)

    network = eqx.combine(state.params, problem.rest)
    (_, measured), gradients, rule_state = problem.rule.value_and_grad(
        objective, network, rule_state=state.rule_state, key=key
    )
    gradients = eqx.filter(gradients, problem.trainable)
    params, optimiser_state, raw = _descend(problem, state.params, state.optimiser_state, gradients)
    return (params, optimiser_state, rule_state), measured, gradients, raw


def _learn_within_trial(state: TrainingState, problem: Problem, trials, key: Key[Array, ""]):
    """An update every few time steps, by a rule that runs forward; the network and its traces run on."""
    rule, time = problem.rule, trials.inputs.shape[0]
    counted = problem.task.target_steps or time
    network = eqx.combine(state.params, problem.rest)
    _, noise_key = jr.split(key)  # as a call of the network does
    stream = rule.start(network, trials.inputs.shape[1], key=noise_key, dtype=trials.inputs.dtype)
    stream = dataclasses.replace(stream, learnt=state.rule_state)
    shape = (counted, trials.inputs.shape[1], network.populations[network.readout].size)
    zero = jax.tree.map(jnp.zeros_like, state.params)

    def advance(carry, now):
        params, optimiser_state, stream, outputs, recent, total = carry
        number, inputs = now
        network = eqx.combine(params, problem.rest)
        stream, out = rule.step(network, stream, inputs)
        place = number - (time - counted)
        is_counted = place >= 0
        outputs = jnp.where(is_counted, outputs.at[jnp.maximum(place, 0)].set(out), outputs)
        # A sum over steps: the derivative by this step's outputs does not depend on those to come.
        credit = jax.grad(problem.loss)(outputs, trials)[jnp.maximum(place, 0)]
        stream, found = rule.gradient(network, stream, jnp.where(is_counted, credit, jnp.zeros_like(credit)))
        if problem.regulariser is not None:
            share = eqx.filter_grad(lambda p: problem.regulariser(eqx.combine(p, problem.rest)) / time)(params)
            found = jax.tree.map(jnp.add, found, share)
        recent, total = jax.tree.map(jnp.add, (recent, total), (found, found))
        is_due = ((number + 1) % problem.every == 0) | (number + 1 == time)

        def update(params, optimiser_state, recent):
            params, optimiser_state, _ = _descend(problem, params, optimiser_state, recent)
            return params, optimiser_state, zero

        old = params, optimiser_state, recent
        new = jax.lax.cond(is_due, update, lambda *old: old, *old)
        return (*new[:2], stream, outputs, new[2], total), None

    start = (state.params, state.optimiser_state, stream, jnp.zeros(shape, trials.inputs.dtype), zero, zero)
    steps = jnp.arange(time, dtype=state.step.dtype)
    (params, optimiser_state, stream, outputs, _, total), _ = jax.lax.scan(advance, start, (steps, trials.inputs))
    extra = 0.0 if problem.regulariser is None else problem.regulariser(eqx.combine(params, problem.rest))
    return (params, optimiser_state, stream.learnt), (problem.loss(outputs, trials), extra, outputs), total, params


def _descend(problem: Problem, params: PyTree, optimiser_state: PyTree, gradients: PyTree):
    return descend(
        problem.optimiser, params, optimiser_state, gradients, rest=problem.rest, trainable=problem.trainable
    )


def _not_finite(array: Array) -> Bool[Array, ""]:
    return ~jnp.isfinite(array).all()


def _next_batch(state: TrainingState, problem: Problem) -> tuple[Any, Any]:
    task, batch, key = problem.task, problem.batch, problem.data_keys
    if state.order is None:
        return None, task.sample(jr.fold_in(key, state.step), batch, split="train")
    (size,) = state.order.shape
    per_epoch = size // batch  # the last, partial batch is left out
    epoch, position = state.step // per_epoch, state.step % per_epoch
    order = jax.lax.cond(position == 0, lambda order: shuffled(key, epoch, size), lambda order: order, state.order)
    return order, task.take(jax.lax.dynamic_slice(order, (position * batch,), (batch,)), "train")


def shuffled(key: Key[Array, ""], epoch: Int[Array, ""], size: int) -> Int[Array, " trial"]:
    """The order of the trials in an epoch."""
    return jr.permutation(jr.fold_in(key, epoch), jnp.arange(size, dtype=jnp.int32))
