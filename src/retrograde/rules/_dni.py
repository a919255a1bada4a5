"""Synthetic gradients."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..network import Network
from ..stepping import from_state
from ._online import AbstractOnlineRule, all_credit, direct


class SyntheticGradient(eqx.Module):
    """A linear guess of the credit that the future will send to the memory.

    Attributes:
        guess: The map that is learnt, `"memory feature"`.
        target: An older copy, which makes the labels.
    """

    guess: Float[Array, "memory feature"]
    target: Float[Array, "memory feature"]


class LastFeatures(eqx.Module):
    """What the guess was made from in the step before.

    Attributes:
        features: The features, `"batch feature"`.
        is_there: Whether there was a step before.
    """

    features: Float[Array, "batch feature"]
    is_there: Bool[Array, ""]


class DNI(AbstractOnlineRule):
    r"""Decoupled neural interface: the future's credit is guessed by a linear map, which learns by bootstrapping.

    With features $\tilde a_t = [s_t, \partial L_t/\partial y_t, 1]$ the credit of the memory after step $t$ is taken to
    be $\lambda_t = A\,\tilde a_t$. One step back in time gives the label for the guess of the step before,

    $$\lambda^*_{t-1} = q_t + J_t^\top A^-\tilde a_t, \qquad
      A \leftarrow A - \eta\,\langle(A\tilde a_{t-1} - \lambda^*_{t-1})\,\tilde a_{t-1}^\top\rangle,$$

    with $A^-$ a copy of $A$ that is renewed every `refresh` steps, and the mean over the trials.

    Attributes:
        rate: Learning rate $\eta$ of the map [1].
        refresh: Steps between two copies [1].
        learnt: The map; from `init` if `None`.

    Raises:
        ValueError: If `rate` or `refresh` is not positive.

    Source:
        Jaderberg et al. (2017), ICML; linear form of Marschall, Cho & Savin (2020), JMLR 21. Differs: a rule does not
        see targets, so the features hold the derivative of the loss in their place, and the guess is of what comes
        after the present step, which itself is exact. Starts from A = 0.
    """

    rate: float = eqx.field(static=True, default=1e-3)
    refresh: int = eqx.field(static=True, default=5)
    learnt: Any = None

    def __check_init__(self):
        if not self.rate > 0 or self.refresh < 1:
            raise ValueError(f"`DNI(rate={self.rate}, refresh={self.refresh})`: both must be positive.")

    def init(self, network: Network) -> SyntheticGradient:
        """No guess."""
        now = jax.eval_shape(lambda: from_state(network, network.initial_state(1)))
        leaves = jax.tree.leaves(now.memory)
        memory = sum(math.prod(leaf.shape) for leaf in leaves)
        features = memory + network.populations[network.readout].size + 1
        dtype = jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))[0].dtype
        return SyntheticGradient(jnp.zeros((memory, features), dtype), jnp.zeros((memory, features), dtype))

    def begin(self, network, moments, now):
        """No step has been made."""
        batch = jax.tree.leaves(now.memory)[0].shape[-2]
        shape = jax.eval_shape(lambda: self.init(network)).guess
        return LastFeatures(jnp.zeros((batch, shape.shape[1]), shape.dtype), jnp.array(False))

    def push(self, network, moments, at, memory, learnt, key):
        """Nothing is carried forward but the features, which `contract` keeps."""
        return memory, learnt

    def contract(self, network, moments, at, memory, credit, learnt):
        """Credit of this step and the guess of all later, through the parameters' use in this step."""
        leaves, structure = jax.tree.flatten(at.after.memory)
        flat = jnp.concatenate([_by_trial(leaf) for leaf in leaves], axis=1)
        now = all_credit(network, at, credit)
        features = jnp.concatenate([flat, now[network.readout], jnp.ones_like(flat[:, :1])], axis=1)

        def as_memory(credit):
            ends = [math.prod(leaf.shape) // leaf.shape[-2] for leaf in leaves]
            parts = jnp.split(credit, [sum(ends[: i + 1]) for i in range(len(ends) - 1)], axis=1)
            shaped = [
                jnp.moveaxis(part.reshape(leaf.shape[-2], *leaf.shape[:-2], leaf.shape[-1]), 0, -2)
                for part, leaf in zip(parts, leaves, strict=True)
            ]
            return jax.tree.unflatten(structure, shaped)

        _, currents, neurons = at.pull(as_memory(features @ learnt.guess.T), now)
        label, _, _ = at.pull(as_memory(features @ learnt.target.T), now)
        label = jnp.concatenate([_by_trial(leaf) for leaf in jax.tree.leaves(label)], axis=1)
        error = memory.features @ learnt.guess.T - label
        step = self.rate * error.T @ memory.features / flat.shape[0]
        guess = learnt.guess - jnp.where(memory.is_there, step, jnp.zeros_like(step))
        is_due = (at.after.step % self.refresh) == 0
        learnt = SyntheticGradient(guess, jnp.where(is_due, guess, learnt.target))
        gradient = direct(network, moments, at, currents, neurons)
        return gradient, LastFeatures(features, jnp.array(True)), learnt


def _by_trial(leaf: Array) -> Float[Array, "batch memory"]:
    return jnp.moveaxis(leaf, -2, 0).reshape(leaf.shape[-2], -1)
