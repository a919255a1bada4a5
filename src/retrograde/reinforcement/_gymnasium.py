"""Acting in environments of Gymnasium, which run on the host, step by step."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Key

from retrograde.network import Network
from retrograde.reinforcement._actor_critic import ActorCritic
from retrograde.reinforcement._environment import Percept
from retrograde.reinforcement._learn import Course, Learner, Learning, check_counts, check_finite, prepare
from retrograde.rules import AbstractRule


def learn_gymnasium(
    network: Network,
    make: Callable[[], Any],
    *,
    encode: Callable[[np.ndarray], np.ndarray],
    rule: AbstractRule,
    optimiser: optax.GradientTransformation,
    steps: int,
    key: Key[Array, ""],
    agent: ActorCritic | None = None,
    actors: int = 8,
    update_every: int = 1,
    log_every: int = 1000,
    on_row: Callable[[int, float], None] | None = None,
) -> Learning:
    """Learns in an environment of Gymnasium, as `learn` does in one of ours.

    An episode that is cut off (truncated) counts as one that ended: nothing is expected after it.

    Args:
        network: The network; its readout has one unit for each action and a last one for the value.
        make: Makes an environment with discrete actions, such as `lambda: gymnasium.make("CartPole-v1")`.
        encode: Observations of all actors, `"actor …"`, to inputs of the network, `"actor input"`.
        rule: Any rule that runs forward in time.
        optimiser: Any Optax transformation.
        steps: Steps of every actor.
        key: Seeds worlds, actions and noise.
        agent: How reward teaches; `ActorCritic()` if `None`.
        actors: Number of actors, whose gradients are averaged.
        update_every: Steps between two changes of the weights.
        log_every: Steps that a row of the history sums up.
        on_row: Called with the steps made and the mean reward of the episodes that ended, after each row.

    Returns:
        The trained network and its history.

    Raises:
        ImportError: If Gymnasium is not installed.
        ValueError: If an argument is out of range, actions are not discrete, or what `encode` makes does not fit.
        FloatingPointError: If a weight becomes NaN or infinite.
    """
    try:
        import gymnasium
        from gymnasium.vector import AutoresetMode, SyncVectorEnv
    except ImportError:
        raise ImportError(
            "`learn_gymnasium` needs Gymnasium, which is not installed: `pip install retrograde[gymnasium]`."
        ) from None
    check_counts(steps=steps, log_every=log_every, actors=actors)
    worlds = SyncVectorEnv([make] * actors, autoreset_mode=AutoresetMode.SAME_STEP)
    try:
        if not isinstance(worlds.single_action_space, gymnasium.spaces.Discrete):
            raise ValueError(
                f"actions must be discrete (`gymnasium.spaces.Discrete`), not {worlds.single_action_space}"
            )
        course, learner = prepare(
            network,
            rule=rule,
            optimiser=optimiser,
            agent=ActorCritic() if agent is None else agent,
            actors=actors,
            update_every=update_every,
            actions=int(worlds.single_action_space.n),
            key=jr.fold_in(key, 0),
        )
        first = int(worlds.single_action_space.start)
        seed = int(jr.randint(jr.fold_in(key, 1), (), 0, 2**31 - 1, dtype=jnp.int32))
        seen, _ = worlds.reset(seed=seed)
        rewards, dones, running = np.zeros(actors), np.zeros(actors, bool), np.zeros(actors)
        rows: list[tuple[int, int, float]] = []
        finished: list[float] = []
        for made in range(1, steps + 1):
            inputs = _encoded(encode, seen, actors, network.inputs)
            learner, actions = _step(course, learner, inputs, rewards, dones)
            seen, rewards, terminated, truncated, _ = worlds.step(np.asarray(actions) + first)
            dones, running = terminated | truncated, running + rewards
            finished += running[dones].tolist()
            running = np.where(dones, 0.0, running)
            if made % log_every == 0 or made == steps:
                check_finite(learner.params, made)
                rows.append((made, len(finished), float(np.mean(finished)) if finished else float("nan")))
                finished = []
                if on_row is not None:
                    on_row(made, rows[-1][2])
    finally:
        worlds.close()
    return Learning(eqx.combine(learner.params, course.rest), *(np.array(column) for column in zip(*rows, strict=True)))


def _encoded(encode, seen, actors: int, inputs: int) -> np.ndarray:
    encoded = np.asarray(encode(seen))
    if encoded.shape != (actors, inputs):
        raise ValueError(
            f"`encode` made inputs of shape {encoded.shape} from observations of shape {np.shape(seen)}; the network "
            f"needs {(actors, inputs)}: one row for each actor"
        )
    return encoded


@eqx.filter_jit
def _run(course: Course, learner: Learner, inputs: Array, rewards: Array, dones: Array) -> tuple[Learner, Array]:
    return course.step(learner, Percept(inputs, jnp.ones(dones.shape, bool)), rewards, dones)


def _step(course: Course, learner: Learner, inputs, rewards, dones) -> tuple[Learner, Array]:
    dtype = learner.actors.value.dtype
    return _run(course, learner, jnp.asarray(inputs, dtype), jnp.asarray(rewards, dtype), jnp.asarray(dones))
