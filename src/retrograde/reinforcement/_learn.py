"""Learning from reward in a world of ours: many actors, one network, loops over time in one compiled program."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Key

from retrograde.losses import FiringRate
from retrograde.network import Network
from retrograde.reinforcement import _streaming as streaming
from retrograde.reinforcement import _unrolled as unrolled
from retrograde.reinforcement._actor_critic import ActorCritic
from retrograde.reinforcement._diary import Diary, Learning, Row
from retrograde.reinforcement._environment import AbstractEnvironment
from retrograde.rules import AbstractRule


def learn(
    network: Network,
    environment: AbstractEnvironment,
    *,
    rule: AbstractRule,
    optimiser: optax.GradientTransformation,
    steps: int,
    key: Key[Array, ""],
    agent: ActorCritic | None = None,
    actors: int = 16,
    update_every: int = 1,
    unroll: int | None = None,
    penalty: FiringRate | None = None,
    log_every: int = 1000,
    on_row: Callable[[Row], bool | None] | None = None,
    folder: str | Path | None = None,
) -> Learning:
    """Learns from reward while acting: step by step, or unroll by unroll.

    Step by step, eligibility and reward meet as they come, and nothing is kept of the past but traces. Unroll by
    unroll, all actors act for `unroll` steps; then what they did is gone through again with the rule, and the weights
    change once. Over whole episodes both sum to the same gradient. What follows the end of an episode inside an unroll
    is not learnt from, so let an unroll be as long as an episode, or much shorter.

    Args:
        network: The network; its readout has one unit for each action and a last one for the value.
        environment: The world of every actor.
        rule: How credit at the readout becomes a gradient: one that runs forward in time, or, with `unroll`, any
            but perturbations.
        optimiser: Any Optax transformation.
        steps: Steps of every actor; whole unrolls are made.
        key: Seeds worlds, actions and noise.
        agent: How reward teaches; `ActorCritic()` if `None`.
        actors: Number of actors, whose gradients are averaged.
        update_every: Steps between two changes of the weights, step by step. Traces run on across them.
        unroll: Steps between two changes of the weights, unroll by unroll; step by step if `None`.
        penalty: On the activity of an unroll; needs `unroll`.
        log_every: Steps that a row of the history sums up, and that run as one compiled program; whole unrolls.
        on_row: Called with each row as it is made; where it answers `True`, learning ends.
        folder: Where what is learnt is kept, about every minute and in the end. If something is there, the same call
            goes on from it, to the same bits; with more `steps`, further.

    Returns:
        The trained network and its history.

    Raises:
        ValueError: If an argument is out of range, the network does not fit the environment, or the folder holds a
            learning with other settings.
        DivergedError: If a weight becomes NaN or infinite.
        RunError: If the folder cannot be read or written.

    Example:
        >>> import jax, optax, retrograde as rg
        >>> world = rg.reinforcement.CuedChoice(cue=2, delay=0, signal=2)
        >>> network = rg.Network.single_layer(
        ...     rg.reinforcement.Interface(world), rg.neurons.LIF(8, threshold=0.5), key=jax.random.key(0)
        ... )
        >>> found = rg.reinforcement.learn(
        ...     network, world, rule=rg.rules.EProp(form="forward"), optimiser=optax.adam(1e-3), steps=8, actors=2,
        ...     log_every=8, key=jax.random.key(1)
        ... )
        >>> found.episodes.tolist()  # of 4 steps each, by two actors
        [4]
    """
    agent = ActorCritic() if agent is None else agent
    settings = {"actors": actors, "update_every": update_every, "unroll": unroll, "key": key}
    check_counts(steps=steps, log_every=log_every, actors=actors)
    check_form(update_every, unroll, penalty)
    check_readout(network, environment.actions)
    if network.inputs != environment.inputs:
        raise ValueError(f"the network has {network.inputs} inputs, the environment gives {environment.inputs}")
    made_of = {"rule": rule, "optimiser": optimiser, "agent": agent, "actors": actors, "key": jr.fold_in(key, 0)}
    first_key, world_key = jr.fold_in(key, 1), jr.fold_in(key, 2)
    states, percepts = jax.vmap(environment.reset)(jr.split(first_key, actors))
    dtype = percepts.inputs.dtype
    nothing = jnp.zeros(actors, dtype)
    course: Any
    learner: Any
    world: Any
    run: Any
    if unroll is None:
        course, learner = streaming.prepare(network, update_every=update_every, **made_of)
        world, run, length = (states, percepts, nothing, jnp.zeros(actors, bool), nothing), streaming.run_steps, 1
    else:
        course, learner = unrolled.prepare(network, unroll=unroll, penalty=penalty, dtype=dtype, **made_of)
        world, run, length = (states, percepts, nothing), unrolled.run_unrolls, unroll
    diary = Diary(folder, steps, settings, on_row)
    learner, world = diary.go_on((learner, world))
    while not diary.is_over:
        count = -(-min(log_every, steps - diary.made) // length)
        learner, world, sums = run(course, environment, learner, world, world_key, count)
        ended, reward = (float(x) for x in sums)
        mean = reward / ended if ended else math.nan
        diary.write(diary.made + count * length, round(ended), mean, learner.params, (learner, world))
    return diary.close(eqx.combine(learner.params, course.rest))


def check_counts(**numbers: int) -> None:
    """Refuses what is no positive whole number."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {number!r}")


def check_form(update_every: int, unroll: int | None, penalty: FiringRate | None) -> None:
    """Refuses what belongs to the other way of learning."""
    check_counts(update_every=update_every)
    if unroll is None:
        if penalty is not None:
            raise ValueError("`penalty` is known when an unroll ends: give its length, `unroll=20`")
        return
    check_counts(unroll=unroll)
    if update_every != 1:
        raise ValueError(f"with `unroll` weights change once in an unroll: leave `update_every={update_every}` out")


def check_readout(network: Network, actions: int) -> None:
    """Refuses a readout that does not have one unit for each action and one for the value."""
    size = network.populations[network.readout].size
    if size != actions + 1:
        raise ValueError(
            f"the readout needs {actions + 1} units, one for each of {actions} actions and one for the value; "
            f"{network.readout!r} has {size}"
        )


@dataclasses.dataclass(frozen=True)
class Interface:
    """What a network must fit, as `Network.single_layer` asks for it.

    Attributes:
        environment: The environment, or anything with numbers of `inputs` and `actions`.
    """

    environment: Any

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return self.environment.inputs

    @property
    def outputs(self) -> int:
        """One unit for each action, and one for the value."""
        return self.environment.actions + 1
