import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax.random as jr
import optax
from jaxtyping import Array, Key

from retrograde.losses import FiringRate
from retrograde.network import Network, Projection, currents
from retrograde.recipes._schema import Recipe
from retrograde.training import EarlyStop, optimiser

HIDDEN, READOUT = 101, 102  # what the network's key is folded with for the parameters of neurons


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts that a recipe describes.

    Attributes:
        recipe: The recipe.
        task: What is to be learnt.
        rule: How credit is assigned.
    """

    recipe: Recipe
    task: Any
    rule: Any

    def network(self, key: Key[Array, ""]) -> Network:
        """Makes an untrained network: input → `hidden` → `readout`, with `hidden` projecting to itself one step later.

        Args:
            key: Seeds the weights. The same key gives the same means whatever the synapse: `m` of a spike-and-slab
                projection and `weight` of a dense one are equal.
        """
        return self._made(key)

    @functools.cached_property
    def _made(self) -> Any:
        """`_make` as one program: compiling every random draw by itself takes three times as long."""
        return eqx.filter_jit(self._make)

    def _make(self, key: Key[Array, ""]) -> Network:
        recipe, task = self.recipe, self.task
        hidden = recipe.neuron.build(size=recipe.neuron.size, key=jr.fold_in(key, HIDDEN))
        readout = recipe.readout.build(size=task.outputs, key=jr.fold_in(key, READOUT))
        populations = {"hidden": hidden, "readout": readout}
        wiring = {
            "input": ("input", "hidden", task.inputs, hidden.input_ports, 0),
            "recurrent": ("hidden", "hidden", hidden.size, hidden.recurrent_ports, 1),
            "output": ("hidden", "readout", hidden.size, readout.input_ports, 0),
            "bias": ("bias", "hidden", 1, None, 0),
            "output_bias": ("bias", "readout", 1, None, 0),
        }
        projections = []
        for number, (name, (source, target, columns, ports, delay)) in enumerate(wiring.items()):
            section = getattr(recipe.synapses, name)
            if section is not None:
                shape = (currents(populations[target], ports), columns)
                synapse = section.build(key=jr.fold_in(key, number), shape=shape)
                projections.append(Projection(source, target, synapse, delay=delay, ports=ports))
        network = Network(populations, projections, inputs=task.inputs, readout="readout")
        return self.rule.prepare(network, key=jr.fold_in(key, len(wiring)))

    @functools.cached_property
    def optimiser(self) -> optax.GradientTransformation:
        """The optimiser, its groups matched with the network's parameters."""
        section = self.recipe.optimiser
        return optimiser(
            self.network,
            section.name,
            section.learning_rate,
            decay=section.decay,
            halve_every=section.halve_every or None,
            halve_first=section.halve_first or None,
            clip_spectral=section.clip_spectral or None,
            groups={name: group.model_dump(exclude_none=True) for name, group in section.groups.items()},
        )

    def early_stop(self) -> EarlyStop | None:
        """Makes the criterion for stopping before the last update, if the recipe has one."""
        section = self.recipe.training.early_stop
        return None if section is None else EarlyStop(**section.model_dump())

    def penalty(self) -> FiringRate | None:
        """Makes the penalty on firing rates, if the recipe has one."""
        section = self.recipe.training.firing_rate
        return None if section is None else FiringRate(section.target, section.strength)


def build(recipe: Recipe) -> Experiment:
    """Makes the parts that a recipe describes.

    Args:
        recipe: A checked recipe.

    Returns:
        The task, the rule, the optimiser, and a function that makes networks.

    Raises:
        ValueError: If the parts do not fit together.
        retrograde.data.DataError: If the task's data are missing or damaged.

    Example:
        >>> import jax, retrograde as rg
        >>> experiment = rg.recipes.build(rg.recipes.read("digits"))
        >>> experiment.network(jax.random.key(0)).inputs
        28
    """
    experiment = Experiment(recipe, recipe.task.build(), recipe.rule.build())
    splits, training = experiment.task.splits, recipe.training
    if training.validate_every and training.validation_split not in splits:
        raise ValueError(
            f"`validation_split = {training.validation_split!r}` in [training]: {recipe.task.name} has no such trials; "
            f"pick one of {', '.join(splits)}"
        )
    _ = experiment.optimiser  # so that groups that match nothing are refused here
    return experiment
