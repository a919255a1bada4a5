"""What an update takes: time, memory, multiply–accumulates."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import optax
from jaxtyping import Array, Key

from retrograde.analysis import Operations, count_operations
from retrograde.descent import descend
from retrograde.network import Network
from retrograde.rules import AbstractRule
from retrograde.tasks import AbstractTask
from retrograde.training._evaluate import task_loss

_UNTYPICAL = 10  # the first updates have large gradients, whose clipping takes longer


@dataclasses.dataclass
class Update:
    """One update of one network, compiled by itself so that it can be measured; `fit` does the same many times.

    Attributes:
        compile_seconds: Time to compile it [s].
        memory_bytes: Memory of arguments, results and all between, from the compiler; `None` if it does not say [byte].
        between_bytes: Memory of what lies between arguments and results alone: what a rule stores; likewise [byte].
        operations: Multiply–accumulates of the rule's gradient, the forward pass included, without the optimiser.
    """

    compile_seconds: float
    memory_bytes: int | None
    between_bytes: int | None
    operations: Operations
    _program: Callable
    _state: tuple
    _trials: Any
    _key: Key[Array, ""]
    _made: int = 0

    def time(self) -> float:
        """Makes one more update; gives the time that it took [s]."""
        key = jax.block_until_ready(jr.fold_in(self._key, self._made))
        started = time.perf_counter()
        self._state = jax.block_until_ready(self._program(self._state, self._trials, key))
        self._made += 1
        return time.perf_counter() - started

    @property
    def network(self) -> Network:
        """The network after the updates made so far."""
        return self._state[0]


def compile_update(
    network: Network,
    task: AbstractTask,
    *,
    rule: AbstractRule,
    optimiser: optax.GradientTransformation,
    key: Key[Array, ""],
    batch: int = 128,
    loss: Callable | None = None,
) -> Update:
    """Compiles one update.

    Args:
        network: The network.
        task: Where the trials come from.
        rule: How credit flows back.
        optimiser: As for `fit`.
        key: Seeds trials and noise.
        batch: Trials per update.
        loss: `(outputs, trials) -> scalar`; by default the one that the task names.

    Returns:
        The update, with what is known about it before it has run.
    """
    chosen = task_loss(task) if loss is None else loss
    trials_key, noise_key = jr.split(key)
    trainable = network.trainable()

    def gradient(network, rule_state, trials, key):
        def objective(network, rule, key):
            outputs = network(trials.inputs, rule=rule, key=key, readout_steps=task.target_steps).outputs
            return chosen(outputs, trials), None

        _, gradients, rule_state = rule.value_and_grad(objective, network, rule_state=rule_state, key=key)
        return eqx.filter(gradients, trainable), rule_state

    def update(state, trials, key):
        network, optimiser_state, rule_state = state
        gradients, rule_state = gradient(network, rule_state, trials, key)
        params, rest = eqx.partition(network, trainable)
        params, optimiser_state, _ = descend(
            optimiser, params, optimiser_state, gradients, rest=rest, trainable=trainable
        )
        return eqx.combine(params, rest), optimiser_state, rule_state

    trials = eqx.filter_jit(task.sample)(trials_key, batch)
    state = (network, optimiser.init(eqx.filter(network, trainable)), rule.init(network))
    started = time.perf_counter()
    program: Any = eqx.filter_jit(update)
    compiled = program.lower(state, trials, noise_key).compile()
    seconds = time.perf_counter() - started
    sizes = compiled.compiled.memory_analysis()
    between = getattr(sizes, "temp_size_in_bytes", None)
    memory = None if between is None else between + sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    operations = count_operations(gradient, network, state[2], trials, noise_key)
    return Update(seconds, memory, between, operations, compiled, state, trials, noise_key)


def time_updates(updates: Mapping[str, Update], repeats: int = 15) -> dict[str, float]:
    """Times updates in turn, so that what else the machine does meets all of them alike.

    Args:
        updates: What to time, by name.
        repeats: Number of times that each is timed, after ten that are not.

    Returns:
        The median of each [s].
    """
    times: dict[str, list[float]] = {name: [] for name in updates}
    for _ in range(_UNTYPICAL + repeats):
        for name, update in updates.items():
            times[name].append(update.time())
    return {name: statistics.median(values[_UNTYPICAL:]) for name, values in times.items()}
