import dataclasses
import time
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from retrograde.losses import LOSSES
from retrograde.recipes._build import build
from retrograde.recipes._schema import Recipe

_UNTYPICAL = 10  # the first updates have large gradients, whose clipping takes longer


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a recipe would do, found out without doing it.

    Attributes:
        task: Steps, inputs, outputs and number of trials.
        parameters: Shape of each trained array, by its label.
        memory_bytes: Memory of one update, from the compiler: arguments, results and what lies between [byte].
        compile_seconds: Time to compile it [s].
        seconds_per_update: Median of a few updates on this machine, times the number of seeds [s].
        seconds: Time for the whole training: compilation and all updates, without validation [s].
        timed_updates: How many updates were timed.
    """

    task: dict[str, Any]
    parameters: dict[str, tuple[int, ...]]
    memory_bytes: int
    compile_seconds: float
    seconds_per_update: float
    seconds: float
    timed_updates: int

    @property
    def size(self) -> int:
        """Number of trained numbers of one network."""
        return sum(_product(shape) for shape in self.parameters.values())


def forecast(recipe: Recipe, *, updates: int = 5) -> Forecast:
    """Compiles one update of a recipe and times a few.

    Args:
        recipe: The recipe.
        updates: How many to time.

    Returns:
        Shapes, and the memory and time to expect.
    """
    experiment, training = build(recipe), recipe.training
    task, rule, optimiser = experiment.task, experiment.rule, experiment.optimiser
    loss = LOSSES[task.loss]
    network_key, trials_key, noise_key = jr.split(jr.key(training.seed), 3)

    def update(network, optimiser_state, trials, key):
        def objective(network, rule, key):
            outputs = network(trials.inputs, rule=rule, key=key, readout_steps=task.target_steps).outputs
            return loss(outputs, trials), None

        _, gradients, _ = rule.value_and_grad(objective, network, rule_state=rule.init(network), key=key)
        trained = eqx.filter(network, network.trainable())
        with jax.numpy_dtype_promotion("standard"):  # as in `fit`: Optax raises floats to the power of an integer
            changes, optimiser_state = optimiser.update(
                eqx.filter(gradients, network.trainable()), optimiser_state, trained
            )
        return eqx.apply_updates(network, changes).project(), optimiser_state

    network = one = experiment.network(network_key)
    state = optimiser.init(eqx.filter(network, network.trainable()))
    trials = task.sample(trials_key, training.batch)
    started = time.perf_counter()
    program: Any = eqx.filter_jit(update)
    compiled = program.lower(network, state, trials, noise_key).compile()
    compile_seconds = time.perf_counter() - started
    times = []
    for number in range(_UNTYPICAL + updates):
        started = time.perf_counter()
        network, state = jax.block_until_ready(compiled(network, state, trials, jr.fold_in(noise_key, number)))
        times.append(time.perf_counter() - started)
    per_update = sorted(times[_UNTYPICAL:])[updates // 2] * training.seeds
    labels = jax.tree.map(lambda is_trained, label: label if is_trained else None, one.trainable(), one.labels())
    shapes = [value.shape for value in jax.tree.leaves(eqx.filter(one, one.trainable()))]
    return Forecast(
        {"steps": task.steps, "inputs": task.inputs, "outputs": task.outputs, "trials": task.size("train")},
        dict(zip(jax.tree.leaves(labels), shapes, strict=True)),
        _memory(compiled.compiled),
        compile_seconds,
        per_update,
        compile_seconds + per_update * training.steps,
        updates,
    )


def _memory(compiled: Any) -> int:
    sizes = compiled.memory_analysis()
    parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    return sum(getattr(sizes, part, 0) for part in parts)


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
