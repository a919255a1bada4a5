"""Learning from reward unroll by unroll: acting for a while, then the rule's gradient of what was done."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from retrograde.descent import descend
from retrograde.network import Network
from retrograde.reinforcement._actor_critic import ActorCritic
from retrograde.reinforcement._environment import AbstractEnvironment, go_on
from retrograde.rules import AbstractRule
from retrograde.rules._perturbation import AbstractPerturbation
from retrograde.unroll import State

_ACT, _BEGIN = 0, 1  # streams of randomness: choices, and networks that begin an episode


class Lesson(eqx.Module):
    """What actors saw, did and got in one unroll.

    Attributes:
        inputs: Inputs of their networks.
        is_choice: Whether the action mattered.
        actions: What they did.
        rewards: What they got for it.
        dones: Whether that ended an episode.
        state: The networks before the first step.
        value: What is expected after the last step [reward].
    """

    inputs: Float[Array, "time actor input"]
    is_choice: Bool[Array, "time actor"]
    actions: Int[Array, "time actor"]
    rewards: Float[Array, "time actor"]
    dones: Bool[Array, "time actor"]
    state: State
    value: Float[Array, " actor"]


class Apprentice(eqx.Module):
    """What changes in the course of learning, but for the world.

    Attributes:
        params: The trainable leaves of the network.
        optimiser_state: What the optimiser remembers.
        rule_state: What the rule does.
        state: The networks of the actors.
        step: Steps made.
    """

    params: PyTree
    optimiser_state: PyTree
    rule_state: PyTree
    state: State
    step: Int[Array, ""]


class Practice(eqx.Module):
    """What does not change.

    Attributes:
        rest: The network without what is trained.
        trainable: Which leaves those are.
        rule: The rule.
        optimiser: The optimiser.
        agent: How reward teaches.
        penalty: On the activity, or `None`.
        key: Seeds actions and noise.
        unroll: Length of an unroll [steps].
    """

    rest: PyTree
    trainable: PyTree
    rule: AbstractRule
    optimiser: optax.GradientTransformation
    agent: ActorCritic
    penalty: Any
    key: Key[Array, ""]
    unroll: int = eqx.field(static=True)

    def run(self, params: PyTree, state: State, inputs: Float[Array, "actor input"]) -> tuple[State, Array]:
        """Runs the networks of all actors for one step of the world: their states, their readouts."""
        network = eqx.combine(params, self.rest)
        seen = jnp.broadcast_to(inputs, (self.agent.substeps, *inputs.shape))
        trajectory = network(seen, state=state, key=self.key, readout_steps=1)
        return trajectory.state, trajectory.outputs[-1]

    def act(self, apprentice: Apprentice, inputs: Float[Array, "actor input"]) -> tuple[Apprentice, Array]:
        """Makes a step of the networks, and chooses the actions."""
        state, outputs = self.run(apprentice.params, apprentice.state, inputs)
        key = jr.fold_in(jr.fold_in(self.key, _ACT), apprentice.step)
        moved = Apprentice(
            apprentice.params, apprentice.optimiser_state, apprentice.rule_state, state, apprentice.step + 1
        )
        return moved, jr.categorical(key, outputs[:, :-1])

    def begin(self, apprentice: Apprentice, dones: Bool[Array, " actor"]) -> State:
        """The networks, anew where an episode is over. The count of steps, which the noise follows, goes on."""
        network = eqx.combine(apprentice.params, self.rest)
        key = jr.fold_in(jr.fold_in(self.key, _BEGIN), apprentice.step)
        fresh = network.initial_state(dones.size, _dtype(apprentice), key)

        def choose(new, old):
            return jnp.where(dones[:, None], new, old)

        neurons = jax.tree.map(choose, fresh.neurons, apprentice.state.neurons)
        history = jax.tree.map(choose, fresh.history, apprentice.state.history)
        return State(neurons, history, apprentice.state.step)

    def learn(self, apprentice: Apprentice, lesson: Lesson) -> Apprentice:
        """Changes the weights by the rule's gradient of the lesson; steps after the end of an episode do not count."""
        agent = self.agent
        ended = lesson.dones.astype(jnp.int32)
        counts = jnp.cumsum(ended, axis=0, dtype=ended.dtype) == ended  # none before this step

        def objective(network, rule, key):
            populations = () if self.penalty is None else self.penalty.populations
            seen = jnp.repeat(lesson.inputs, agent.substeps, axis=0)
            run = network(seen, rule=rule, state=lesson.state, key=key, record=populations)
            loss = actor_critic_loss(agent, run.outputs[agent.substeps - 1 :: agent.substeps], lesson, counts)
            if self.penalty is not None:
                loss = loss + self.penalty(run.activity)
            return loss, None

        network = eqx.combine(apprentice.params, self.rest)
        _, gradient, rule_state = self.rule.value_and_grad(
            objective, network, rule_state=apprentice.rule_state, key=self.key
        )
        gradient = eqx.filter(gradient, self.trainable)
        params, optimiser_state, _ = descend(
            self.optimiser,
            apprentice.params,
            apprentice.optimiser_state,
            gradient,
            rest=self.rest,
            trainable=self.trainable,
        )
        return Apprentice(params, optimiser_state, rule_state, apprentice.state, apprentice.step)


def actor_critic_loss(
    agent: ActorCritic,
    outputs: Float[Array, "time actor unit"],
    lesson: Lesson,
    counts: Bool[Array, "time actor"],
) -> Float[Array, ""]:
    r"""A loss whose gradient is that of `ActorCritic`, summed over time and averaged over actors.

    $$E = \sum_t -A_t \log\pi_t(a_t) - c_V A_t V_t - \beta H(\pi_t), \qquad A_t = \delta_t + \gamma\lambda A_{t+1},$$

    where the advantages $A_t$ are held constant; the first and the last term only where there is a choice.

    Args:
        agent: How reward teaches.
        outputs: Readouts in every step: one for each action, and the value.
        lesson: What was done, and what came of it.
        counts: Which steps are learnt from.
    """
    log_policy, value = jax.nn.log_softmax(outputs[..., :-1]), outputs[..., -1]
    going_on = 1.0 - lesson.dones.astype(value.dtype)
    held = jax.lax.stop_gradient(value)
    following = jnp.concatenate([held[1:], lesson.value[None]])
    errors = lesson.rewards + agent.discount * going_on * following - held

    def back(later, now):
        error, going_on = now
        advantage = error + agent.discount * agent.trace * going_on * later
        return advantage, advantage

    _, advantage = jax.lax.scan(back, jnp.zeros_like(held[0]), (errors, going_on), reverse=True)
    taken = jnp.take_along_axis(log_policy, lesson.actions[..., None], axis=-1)[..., 0]
    entropy = -jnp.sum(jnp.exp(log_policy) * log_policy, axis=-1)
    of_choice = jnp.where(lesson.is_choice, taken * advantage + agent.entropy * entropy, 0.0)
    each = -of_choice - agent.value_weight * advantage * value
    return jnp.sum(jnp.where(counts, each, 0.0)) / counts.shape[1]


def prepare(
    network: Network,
    *,
    rule: AbstractRule,
    optimiser: optax.GradientTransformation,
    agent: ActorCritic,
    actors: int,
    unroll: int,
    penalty: Any,
    key: Key[Array, ""],
    dtype: Any,
) -> tuple[Practice, Apprentice]:
    """Makes what is needed to learn unroll by unroll.

    Raises:
        ValueError: If the rule compares losses.
    """
    if isinstance(rule, AbstractPerturbation):
        raise ValueError(
            f"`{type(rule).__name__}` compares losses, and that of an actor and a critic only has the right gradient, "
            "not the right value: take a rule that passes credit back, such as `EProp()` or `BPTT()`"
        )
    prepare_key, start_key, key = jr.split(key, 3)
    network = rule.prepare(network, key=prepare_key)
    trainable = network.trainable()
    params, rest = eqx.partition(network, trainable)
    params = jax.tree.map(lambda x: jnp.array(x, dtype=x.dtype), params)
    practice = Practice(rest, trainable, rule, optimiser, agent, penalty, key, unroll)
    state = network.initial_state(actors, dtype, start_key)
    learner = Apprentice(params, optimiser.init(params), rule.init(network), state, jnp.zeros((), jnp.int32))
    return practice, learner


@eqx.filter_jit
def run_unrolls(practice: Practice, environment: AbstractEnvironment, apprentice: Apprentice, world, key, count: int):
    """Acts and learns for `count` unrolls in a world of ours: apprentice, world, and episodes ended with their reward.

    The world is states, percepts, and rewards since each episode began.
    """

    def step(carry, _):
        apprentice, (states, percepts, running), (ended, total) = carry
        keys = jr.split(jr.fold_in(key, apprentice.step), running.size)
        apprentice, actions = practice.act(apprentice, percepts.inputs)
        states, seen, rewards, dones = jax.vmap(functools.partial(go_on, environment))(states, actions, keys)
        rewards = rewards.astype(running.dtype)
        apprentice = eqx.tree_at(lambda a: a.state, apprentice, practice.begin(apprentice, dones))
        running = running + rewards
        ended, total = ended + dones.sum(dtype=ended.dtype), total + jnp.sum(jnp.where(dones, running, 0.0))
        done = percepts.inputs, percepts.is_choice, actions, rewards, dones
        return (apprentice, (states, seen, jnp.where(dones, 0.0, running)), (ended, total)), done

    def unroll(carry, _):
        before = carry[0].state
        carry, done = jax.lax.scan(step, carry, length=practice.unroll)
        apprentice, world, sums = carry
        _, outputs = practice.run(apprentice.params, apprentice.state, world[1].inputs)
        lesson = Lesson(*done, state=before, value=outputs[:, -1])
        apprentice = practice.learn(apprentice, lesson)
        return (apprentice, world, sums), None

    nothing = jnp.zeros((), jnp.int32), jnp.zeros((), world[2].dtype)
    carry, _ = jax.lax.scan(unroll, (apprentice, world, nothing), length=count)
    return carry


@eqx.filter_jit
def begin(practice: Practice, apprentice: Apprentice, dones: Array) -> Apprentice:
    """Begins anew where an episode ended."""
    return eqx.tree_at(lambda a: a.state, apprentice, practice.begin(apprentice, dones))


@eqx.filter_jit
def act(practice: Practice, apprentice: Apprentice, inputs: Array, dones: Array) -> tuple[Apprentice, Array]:
    """Begins anew where an episode ended, makes a step, and gives the actions."""
    return practice.act(begin(practice, apprentice, dones), inputs.astype(_dtype(apprentice)))


@eqx.filter_jit
def learn_lesson(practice: Practice, apprentice: Apprentice, state: State, done: tuple, seen: Array) -> Apprentice:
    """Learns from what was recorded in a world on the host: inputs, actions, rewards and ends; and is seen after it."""
    inputs, actions, rewards, dones = done
    dtype = _dtype(apprentice)
    _, outputs = practice.run(apprentice.params, apprentice.state, seen.astype(dtype))
    is_choice = jnp.ones(actions.shape, bool)
    lesson = Lesson(inputs.astype(dtype), is_choice, actions, rewards.astype(dtype), dones, state, outputs[:, -1])
    return practice.learn(apprentice, lesson)


def _dtype(apprentice: Apprentice):
    return jax.tree.leaves(apprentice.state.neurons)[0].dtype
