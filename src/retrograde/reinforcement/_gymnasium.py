"""Acting in environments of Gymnasium, which run on the host."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Key

from retrograde.losses import FiringRate
from retrograde.network import Network
from retrograde.reinforcement import _streaming as streaming
from retrograde.reinforcement import _unrolled as unrolled
from retrograde.reinforcement._actor_critic import ActorCritic
from retrograde.reinforcement._diary import Diary, Learning, Row
from retrograde.reinforcement._environment import Percept
from retrograde.reinforcement._learn import check_counts, check_form, check_readout
from retrograde.rules import AbstractRule


def learn_gymnasium(
    network: Network,
    make: Any,
    *,
    encode: Callable[[np.ndarray], np.ndarray],
    rule: AbstractRule,
    optimiser: optax.GradientTransformation,
    steps: int,
    key: Key[Array, ""],
    agent: ActorCritic | None = None,
    actors: int = 8,
    actions: Sequence[int] | None = None,
    update_every: int = 1,
    unroll: int | None = None,
    penalty: FiringRate | None = None,
    log_every: int = 1000,
    on_row: Callable[[Row], bool | None] | None = None,
    folder: str | Path | None = None,
) -> Learning:
    """Learns in an environment of Gymnasium, step by step or unroll by unroll, as `learn` does in one of ours.

    An episode that is cut off (truncated) counts as one that ended: nothing is expected after it.

    Args:
        network: The network; its readout has one unit for each action and a last one for the value.
        make: Makes an environment with discrete actions, such as `lambda: gymnasium.make("CartPole-v1")`. Or a vector
            environment, one world for each actor, that begins an episode in the step in which the last one ends.
        encode: Observations of all actors, `"actor …"`, to inputs of the network, `"actor input"`.
        rule: One that runs forward in time, or, with `unroll`, any but perturbations.
        optimiser: Any Optax transformation.
        steps: Steps of every actor; whole unrolls are made.
        key: Seeds worlds, actions and noise.
        agent: How reward teaches; `ActorCritic()` if `None`.
        actors: Number of actors, whose gradients are averaged; where there is a vector environment, as many as it has.
        actions: Which of the environment's actions there are to choose from; all if `None`.
        update_every: As for `learn`.
        unroll: As for `learn`.
        penalty: As for `learn`.
        log_every: Steps that a row of the history sums up; whole unrolls.
        on_row: Called with each row as it is made; where it answers `True`, learning ends.
        folder: As for `learn`, but that worlds, which cannot be kept, begin anew: an interruption cuts episodes off.

    Returns:
        The trained network and its history.

    Raises:
        ImportError: If Gymnasium is not installed.
        ValueError: If an argument is out of range, actions are not discrete, what `encode` makes does not fit, or the
            folder holds a learning with other settings.
        DivergedError: If a weight becomes NaN or infinite.
        RunError: If the folder cannot be read or written.
    """
    check_counts(steps=steps, log_every=log_every, actors=actors)
    check_form(update_every, unroll, penalty)
    worlds = _worlds(make, actors)
    actors = worlds.num_envs
    try:
        known = _actions(worlds, actions)
        check_readout(network, known.size)
        agent = ActorCritic() if agent is None else agent
        made_of = {"rule": rule, "optimiser": optimiser, "agent": agent, "actors": actors, "key": jr.fold_in(key, 0)}
        course: Any
        learner: Any
        if unroll is None:
            course, learner = streaming.prepare(network, update_every=update_every, **made_of)
            advance: Callable = _step_by_step
        else:
            dtype = jnp.result_type(float)
            course, learner = unrolled.prepare(network, unroll=unroll, penalty=penalty, dtype=dtype, **made_of)
            advance = _unroll_by_unroll
        settings = {
            "actors": actors,
            "update_every": update_every,
            "unroll": unroll,
            "key": key,
        }
        diary = Diary(folder, steps, settings, on_row)
        learner = diary.go_on(learner)
        host = _Host(worlds, encode, known, network.inputs, key, diary.made)
        while not diary.is_over:
            due = min(diary.made + log_every, steps)
            while host.made < due:
                learner = advance(host, course, learner)
            diary.write(host.made, *host.account(), learner.params, learner)
    finally:
        if worlds is not make:
            worlds.close()
    return diary.close(eqx.combine(learner.params, course.rest))


class _Host:
    """The worlds of all actors: what is seen, what came of it, and the episodes that ended."""

    def __init__(self, worlds: Any, encode: Callable, actions: np.ndarray, inputs: int, key: Key[Array, ""], made: int):
        self._worlds, self._encode, self._actions, self._inputs = worlds, encode, actions, inputs
        count = worlds.num_envs
        self.made = made
        self.rewards, self.dones, self._running = np.zeros(count), np.full(count, made > 0), np.zeros(count)
        self._finished: list[float] = []
        seed = int(jr.randint(jr.fold_in(jr.fold_in(key, 1), made), (), 0, 2**31 - 1, dtype=jnp.int32))
        self._see(worlds.reset(seed=seed)[0])

    def step(self, actions: Array) -> None:
        """Makes a step of all worlds."""
        seen, rewards, terminated, truncated, _ = self._worlds.step(self._actions[np.asarray(actions)])
        self.rewards, self.dones = np.asarray(rewards, float), terminated | truncated
        self._running = self._running + self.rewards
        self._finished += self._running[self.dones].tolist()
        self._running = np.where(self.dones, 0.0, self._running)
        self.made += 1
        self._see(seen)

    def account(self) -> tuple[int, float]:
        """How many episodes ended since it was last asked, and their mean reward."""
        finished, self._finished = self._finished, []
        return len(finished), float(np.mean(finished)) if finished else float("nan")

    def _see(self, seen: np.ndarray) -> None:
        inputs = np.asarray(self._encode(seen))
        if inputs.shape != (self._worlds.num_envs, self._inputs):
            raise ValueError(
                f"`encode` made inputs of shape {inputs.shape} from observations of shape {np.shape(seen)}; the "
                f"network needs {(self._worlds.num_envs, self._inputs)}: one row for each actor"
            )
        self.inputs = inputs


def _step_by_step(host: _Host, course: Any, learner: Any) -> Any:
    """Acts and learns for one step."""
    dtype = learner.actors.value.dtype
    percepts = Percept(jnp.asarray(host.inputs, dtype), jnp.ones(host.dones.shape, bool))
    learner, actions = _stream(course, learner, percepts, jnp.asarray(host.rewards, dtype), jnp.asarray(host.dones))
    host.step(actions)
    return learner


@eqx.filter_jit
def _stream(course: Any, learner: Any, percepts: Percept, rewards: Array, dones: Array) -> tuple[Any, Array]:
    return course.step(learner, percepts, rewards, dones)


def _unroll_by_unroll(host: _Host, practice: Any, apprentice: Any) -> Any:
    """Acts for an unroll, and learns from it."""
    apprentice = unrolled.begin(practice, apprentice, jnp.asarray(host.dones))
    before, dones, done = apprentice.state, np.zeros_like(host.dones), []
    for _ in range(practice.unroll):
        inputs = host.inputs
        apprentice, actions = unrolled.act(practice, apprentice, jnp.asarray(inputs), jnp.asarray(dones))
        host.step(actions)
        dones = host.dones
        done.append((inputs, np.asarray(actions), host.rewards, dones))
    recorded = tuple(jnp.asarray(np.stack(column)) for column in zip(*done, strict=True))
    return unrolled.learn_lesson(practice, apprentice, before, recorded, jnp.asarray(host.inputs))


def _worlds(make: Any, actors: int) -> Any:
    """The worlds of all actors, as one vector environment."""
    try:
        from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
    except ImportError:
        raise ImportError(
            "`learn_gymnasium` needs Gymnasium, which is not installed: `pip install retrograde[gymnasium]`."
        ) from None
    if not isinstance(make, VectorEnv):
        return SyncVectorEnv([make] * actors, autoreset_mode=AutoresetMode.SAME_STEP)
    if make.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
        raise ValueError(
            "the vector environment must begin an episode in the step in which the last one ends: make it with "
            "`autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP`"
        )
    return make


def _actions(worlds: Any, chosen: Sequence[int] | None) -> np.ndarray:
    """The environment's names of the actions."""
    from gymnasium.spaces import Discrete

    space = worlds.single_action_space
    if not isinstance(space, Discrete):
        raise ValueError(f"actions must be discrete (`gymnasium.spaces.Discrete`), not {space}")
    known = int(space.start) + np.arange(int(space.n))
    if chosen is None:
        return known
    strange = [action for action in chosen if action not in known]
    if strange or not len(chosen) or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"`actions={list(chosen)}` must be different ones of those that there are, {known[0]} to {known[-1]}"
        )
    return np.asarray(chosen)
