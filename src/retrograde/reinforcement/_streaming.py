"""Learning from reward step by step, while acting."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Key, PyTree

from retrograde.descent import descend
from retrograde.network import Network
from retrograde.reinforcement._actor_critic import Actor, ActorCritic
from retrograde.reinforcement._environment import AbstractEnvironment, Percept, go_on
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
            params, state, _ = descend(
                self.optimiser, params, state, gradient, rest=self.rest, trainable=self.trainable
            )
            return params, state, jax.tree.map(jnp.zeros_like, gradient)

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
    key: Key[Array, ""],
) -> tuple[Course, Learner]:
    """Makes what is needed to learn step by step.

    Raises:
        ValueError: If the rule does not run forward in time.
    """
    if not isinstance(rule, AbstractOnlineRule):
        raise ValueError(
            f"`{type(rule).__name__}` knows its gradient at the end only; rewards need one now: `EProp()`, or learn "
            "unroll by unroll: `unroll=20`."
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


@eqx.filter_jit
def run_steps(course: Course, environment: AbstractEnvironment, learner: Learner, world: Any, key, count: int):
    """Acts and learns for `count` steps in a world of ours: learner, world, and episodes ended with their reward."""

    def step(carry, _):
        learner, (states, percepts, rewards, dones, running), (ended, total) = carry
        keys = jr.split(jr.fold_in(key, learner.step), rewards.size)
        learner, actions = course.step(learner, percepts, rewards, dones)
        states, percepts, rewards, dones = jax.vmap(functools.partial(go_on, environment))(states, actions, keys)
        rewards = rewards.astype(running.dtype)
        running = running + rewards
        ended, total = ended + dones.sum().astype(ended.dtype), total + jnp.sum(jnp.where(dones, running, 0.0))
        running = jnp.where(dones, 0.0, running)
        return (learner, (states, percepts, rewards, dones, running), (ended, total)), None

    nothing = jnp.zeros((), world[2].dtype)
    carry, _ = jax.lax.scan(step, (learner, world, (nothing, nothing)), length=count)
    return carry
