"""Synthetic gradients."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..network import Network
from ._online import AbstractOnlineRule, all_credit, direct
from ._synthetic import as_memory, by_trial, features, no_guess


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
        return SyntheticGradient(no_guess(network), no_guess(network))

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
        now = all_credit(network, at, credit)
        seen = features(network, at, now)
        _, currents, neurons = at.pull(as_memory(seen @ learnt.guess.T, at.after.memory), now)
        label, _, _ = at.pull(as_memory(seen @ learnt.target.T, at.after.memory), now)
        error = memory.features @ learnt.guess.T - by_trial(label)
        step = self.rate * error.T @ memory.features / error.shape[0]
        guess = learnt.guess - jnp.where(memory.is_there, step, jnp.zeros_like(step))
        is_due = (at.after.step % self.refresh) == 0
        learnt = SyntheticGradient(guess, jnp.where(is_due, guess, learnt.target))
        gradient = direct(network, moments, at, currents, neurons)
        return gradient, LastFeatures(seen, jnp.array(True)), learnt
