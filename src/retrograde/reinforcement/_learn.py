"""Learning from reward in a world of ours: many actors, one network, loops over time in one compiled program."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from retrograde.losses import FiringRate
from retrograde.network import Network
from retrograde.reinforcement import _streaming as streaming
from retrograde.reinforcement import _unrolled as unrolled
from retrograde.reinforcement._actor_critic import ActorCritic
from retrograde.reinforcement._environment import AbstractEnvironment
from retrograde.rules import AbstractRule


@dataclasses.dataclass(frozen=True)
class Learning:
    """What came of it.

    Attributes:
        network: The network, trained.
        step: Steps made by each actor at the end of each row.
        episodes: Episodes that ended in each row.
        reward: Mean reward of an episode in each row; NaN where none ended.
    """

    network: Network
    step: np.ndarray
    episodes: np.ndarray
    reward: np.ndarray


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
    on_row: Callable[[int, float], bool | None] | None = None,
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
        on_row: Called with the steps made and the mean reward of the episodes that ended, after each row; where it
            answers `True`, learning ends.

    Returns:
        The trained network and its history.

    Raises:
        ValueError: If an argument is out of range or the network does not fit the environment.
        FloatingPointError: If a weight becomes NaN or infinite.

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
    rows: list[tuple[int, int, float]] = []
    made = 0
    while made < steps:
        count = -(-min(log_every, steps - made) // length)
        learner, world, sums = run(course, environment, learner, world, world_key, count)
        made += count * length
        check_finite(learner.params, made)
        ended, reward = (float(x) for x in sums)
        rows.append((made, round(ended), reward / ended if ended else float("nan")))
        if on_row is not None and on_row(made, rows[-1][2]):
            break
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Learning(eqx.combine(learner.params, course.rest), *columns)


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


def check_finite(params: PyTree, step: int) -> None:
    """Refuses to go on with weights that are NaN or infinite."""
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params)):
        raise FloatingPointError(f"learning diverged before step {step}: a weight became NaN or infinite; learn slower")


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
