"""What every environment is, and what it shows."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Key

State = Any


class Percept(eqx.Module):
    """What an actor sees in one step.

    Attributes:
        inputs: What its network receives, shape `input`; of several actors, `actor input`.
        is_choice: Whether the action of this step matters; where not, no credit is given for it.
    """

    inputs: Float[Array, "*actor input"]
    is_choice: Bool[Array, "*actor"]


class AbstractEnvironment(eqx.Module):
    """A world in which one actor acts, as pure functions of its state and a key.

    Episodes follow one another: after one that is `done`, `reset` is called.

    Attributes:
        inputs: Number of input channels.
        actions: Number of actions.
    """

    inputs: eqx.AbstractVar[int]
    actions: eqx.AbstractVar[int]

    @abc.abstractmethod
    def reset(self, key: Key[Array, ""]) -> tuple[State, Percept]:
        """Begins an episode.

        Returns:
            The state, and what is seen first.
        """

    @abc.abstractmethod
    def step(
        self, state: State, action: Array, key: Key[Array, ""]
    ) -> tuple[State, Percept, Float[Array, ""], Bool[Array, ""]]:
        """Goes on by one step.

        Args:
            state: The state.
            action: The action, 0 to `actions - 1`.
            key: Seeds what is random.

        Returns:
            The state, what is seen next, the reward of the action, and whether the episode is over (what is seen is
            of no account then).
        """


def go_on(
    environment: AbstractEnvironment, state: State, action: Array, key: Key[Array, ""]
) -> tuple[State, Percept, Float[Array, ""], Bool[Array, ""]]:
    """One step of a world; where it ends an episode, the next one has begun."""
    step_key, reset_key = jr.split(key)
    gone_on, seen, reward, done = environment.step(state, action, step_key)
    anew = environment.reset(reset_key)
    state, percept = jax.tree.map(lambda new, old: jnp.where(done, new, old), anew, (gone_on, seen))
    return state, percept, reward, done
