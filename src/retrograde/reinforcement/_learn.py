"""Many actors at once, one network, and a loop over time in one compiled program."""

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

from retrograde.network import Network
from retrograde.reinforcement._actor_critic import Actor, ActorCritic
from retrograde.reinforcement._environment import AbstractEnvironment, Percept
from retrograde.rules import AbstractOnlineRule, AbstractRule


class Learner(eqx.Module):
    """Actors that share a network, between two steps.

    Attributes:
        params: The trainable leaves of the network.
        optimiser_state: What the optimiser remembers.
        actors: The actors, `"actor …"`.
        gradient: Sum of the gradients since the last update.
        step: Steps made.
    """

    params: PyTree
    optimiser_state: PyTree
    actors: Actor
    gradient: PyTree
    step: Array


class Course(eqx.Module):
    """What does not change in the course of learning.

    Attributes:
        rest: The network without what is trained.
        trainable: Which leaves those are.
        rule: The rule.
        optimiser: The optimiser.
        agent: How reward teaches.
        update_every: Steps between two updates.
        key: Seeds actions and noise.
    """

    rest: PyTree
    trainable: PyTree
    rule: AbstractOnlineRule
    optimiser: optax.GradientTransformation
    agent: ActorCritic
    update_every: int = eqx.field(static=True)
    key: Key[Array, ""]

    def step(self, learner: Learner, percepts: Percept, rewards: Array, dones: Array) -> tuple[Learner, Array]:
        """Makes one step of all actors, and an update where one is due; gives their actions."""
        network = eqx.combine(learner.params, self.rest)
        count = rewards.shape[0]
        keys = jr.split(jr.fold_in(self.key, learner.step), count)

        def one(actor, percept, reward, done, key):
            return self.agent.act(network, self.rule, actor, percept, reward, done, key=key)

        actors, actions, gradients = jax.vmap(one)(learner.actors, percepts, rewards, dones, keys)
        summed = jax.tree.map(lambda old, new: old + new.mean(axis=0), learner.gradient, gradients)
        is_due = (learner.step + 1) % self.update_every == 0

        def update(params, state, gradient):
            with jax.numpy_dtype_promotion("standard"):
                updates, state = self.optimiser.update(gradient, state, params)
            raw = eqx.combine(eqx.apply_updates(params, updates), self.rest)
            return eqx.filter(raw.project(), self.trainable), state, jax.tree.map(jnp.zeros_like, gradient)

        old = learner.params, learner.optimiser_state, summed
        params, state, summed = jax.lax.cond(is_due, update, lambda *old: old, *old)
        return Learner(params, state, actors, summed, learner.step + 1), actions


def prepare(
    network: Network,
    *,
    rule: AbstractRule,
    optimiser: optax.GradientTransformation,
    agent: ActorCritic,
    actors: int,
    update_every: int,
    actions: int,
    key: Key[Array, ""],
) -> tuple[Course, Learner]:
    """Makes what is needed to learn step by step, in a loop of one's own.

    Raises:
        ValueError: If a number is out of range, the rule does not run forward in time, or the readout does not have one
            unit for each action and one for the value.
    """
    check_counts(actors=actors, update_every=update_every)
    if not isinstance(rule, AbstractOnlineRule):
        raise ValueError(
            f"`{type(rule).__name__}` knows its gradient at the end only; rewards need one now: `EProp()`."
        )
    size = network.populations[network.readout].size
    if size != actions + 1:
        raise ValueError(
            f"the readout needs {actions + 1} units, one for each of {actions} actions and one for the value; "
            f"{network.readout!r} has {size}"
        )
    prepare_key, start_key, key = jr.split(key, 3)
    network = rule.prepare(network, key=prepare_key)
    rule.check(network, actors, 4)
    trainable = network.trainable()
    params, rest = eqx.partition(network, trainable)
    params = jax.tree.map(lambda x: jnp.array(x, dtype=x.dtype), params)
    started = jax.vmap(lambda key: agent.start(network, rule, key=key))(jr.split(start_key, actors))
    course = Course(rest, trainable, rule, optimiser, agent, update_every, key)
    nothing = jax.tree.map(jnp.zeros_like, params)
    return course, Learner(params, optimiser.init(params), started, nothing, jnp.zeros((), jnp.int32))


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
    log_every: int = 1000,
    on_row: Callable[[int, float], None] | None = None,
) -> Learning:
    """Learns from reward, step by step, while acting.

    Args:
        network: The network; its readout has one unit for each action and a last one for the value.
        environment: The world of every actor.
        rule: How credit at the readout becomes a gradient now: any rule that runs forward in time.
        optimiser: Any Optax transformation.
        steps: Steps of every actor.
        key: Seeds worlds, actions and noise.
        agent: How reward teaches; `ActorCritic()` if `None`.
        actors: Number of actors, whose gradients are averaged.
        update_every: Steps between two changes of the weights. Traces run on across them.
        log_every: Steps that a row of the history sums up, and that run as one compiled program.
        on_row: Called with the steps made and the mean reward of the episodes that ended, after each row.

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
    course, learner = prepare(
        network,
        rule=rule,
        optimiser=optimiser,
        agent=agent,
        actors=actors,
        update_every=update_every,
        actions=environment.actions,
        key=jr.fold_in(key, 0),
    )
    if network.inputs != environment.inputs:
        raise ValueError(f"the network has {network.inputs} inputs, the environment gives {environment.inputs}")
    check_counts(steps=steps, log_every=log_every)
    first_key, world_key = jr.fold_in(key, 1), jr.fold_in(key, 2)
    states, percepts = jax.vmap(environment.reset)(jr.split(first_key, actors))
    dtype = percepts.inputs.dtype
    world = (states, percepts, jnp.zeros(actors, dtype), jnp.zeros(actors, bool), jnp.zeros(actors, dtype))
    rows: list[tuple[int, int, float]] = []
    made = 0
    while made < steps:
        count = min(log_every, steps - made)
        learner, world, sums = _run(course, environment, learner, world, world_key, count)
        check_finite(learner.params, made + count)
        made += count
        ended, reward = (float(x) for x in sums)
        rows.append((made, round(ended), reward / ended if ended else float("nan")))
        if on_row is not None:
            on_row(made, rows[-1][2])
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Learning(eqx.combine(learner.params, course.rest), *columns)


@eqx.filter_jit
def _run(course: Course, environment: AbstractEnvironment, learner: Learner, world: Any, key, count: int):
    def step(carry, _):
        learner, (states, percepts, rewards, dones, running), (ended, total) = carry
        number = learner.step
        learner, actions = course.step(learner, percepts, rewards, dones)
        keys = jr.split(jr.fold_in(key, number), rewards.shape[0])

        def go_on(state, action, key):
            step_key, reset_key = jr.split(key)
            gone_on, seen, reward, done = environment.step(state, action, step_key)
            anew = environment.reset(reset_key)
            state, percept = jax.tree.map(lambda new, old: jnp.where(done, new, old), anew, (gone_on, seen))
            return state, percept, reward, done

        states, percepts, rewards, dones = jax.vmap(go_on)(states, actions, keys)
        rewards = rewards.astype(running.dtype)
        running = running + rewards
        ended, total = ended + dones.sum().astype(ended.dtype), total + jnp.sum(jnp.where(dones, running, 0.0))
        running = jnp.where(dones, 0.0, running)
        return (learner, (states, percepts, rewards, dones, running), (ended, total)), None

    nothing = jnp.zeros((), world[2].dtype)
    carry, _ = jax.lax.scan(step, (learner, world, (nothing, nothing)), length=count)
    return carry


def check_counts(**numbers: int) -> None:
    """Refuses what is no positive whole number."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {number!r}")


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
