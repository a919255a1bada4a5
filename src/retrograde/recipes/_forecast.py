import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from retrograde.analysis import Coverage, coverage
from retrograde.recipes._build import build
from retrograde.recipes._schema import Recipe
from retrograde.training import compile_update, time_updates


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a recipe would do, found out without doing it.

    Attributes:
        task: Steps, inputs, outputs and number of trials.
        parameters: Shape of each trained array, by its label.
        coverage: Whether the rule's credit reaches each parameter, and how well, by its label.
        memory_bytes: Memory of one update, from the compiler: arguments, results and what lies between; `None` if it
            does not say [byte].
        compile_seconds: Time to compile it [s].
        seconds_per_update: Median of a few updates on this machine, times the number of seeds [s].
        seconds: Time for the whole training: compilation and all updates, without validation [s].
        timed_updates: How many updates were timed.
    """

    task: dict[str, Any]
    parameters: dict[str, tuple[int, ...]]
    coverage: dict[str, Coverage]
    memory_bytes: int | None
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
    task, one = experiment.task, experiment.network(jr.key(training.seed))
    update = compile_update(
        one,
        task,
        rule=experiment.rule,
        optimiser=experiment.optimiser,
        key=jr.key(training.seed),
        batch=training.batch,
    )
    per_update = time_updates({"": update}, updates)[""] * training.seeds
    labels = jax.tree.map(lambda is_trained, label: label if is_trained else None, one.trainable(), one.labels())
    shapes = [value.shape for value in jax.tree.leaves(eqx.filter(one, one.trainable()))]
    return Forecast(
        {"steps": task.steps, "inputs": task.inputs, "outputs": task.outputs, "trials": task.size("train")},
        dict(zip(jax.tree.leaves(labels), shapes, strict=True)),
        coverage(one, experiment.rule, key=jr.key(training.seed)),
        update.memory_bytes,
        update.compile_seconds,
        per_update,
        update.compile_seconds + per_update * training.steps,
        updates,
    )


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
