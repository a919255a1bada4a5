"""Eligibility propagation with synthetic gradients."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..network import Network
from ..stepping import Now, draw_noise, linearise, step
from ..synapses import Moments
from ..unroll import Trajectory
from ._abstract import AbstractRule
from ._bptt import check_steps
from ._online import Given, Gradient, all_credit, direct, no_gradient, unroll_replayed
from ._synthetic import as_memory, by_trial, features, no_guess


class EProp3(AbstractRule):
    r"""e-prop 3: traces are never cut; learning signals are exact inside a window of time, and guessed beyond it.

    Time is cut into windows. The learning signal $L_t$ of a spike is the derivative of its window's loss $E$ through
    all paths inside, plus what a linear map $G = A\,\tilde a$ guesses for the time from the next window's first step
    $b$ on, $\tilde a_b = [s_b, \partial E_b/\partial y_b, 1]$. Eligibility vectors are never cut,

    $$\frac{dE}{dW} \approx \sum_t L_t\, e_t, \qquad
      L_t = \frac{d}{dz_t}\Big(\sum_{t' < b} E_{t'} + G_b^\top s_b\Big), \qquad
      \epsilon_t = D_t\,\epsilon_{t-1} + \frac{\partial s_t}{\partial W}.$$

    Their adjoint is what is computed, back through the stored trial. With a step's derivative $J_t = D_t + R_t$ through
    a neuron's own state and through recurrent connections, and $q_t$ the credit of the state from its own step's loss,

    $$m_{t-1} = D_t^\top(q_t + m_t) + R_t^\top x_t, \qquad \mu_{t-1} = J_t^\top x_t, \qquad
      x_t = \begin{cases} G_t & t \text{ begins a window} \\ q_t + \mu_t & \text{else.} \end{cases}$$

    The weights' gradient is made of $m$. The map learns after each trial from where it was used,
    $A \leftarrow A - \eta\,\langle(G_b - q_b - \mu_b)\,\tilde a_b^\top\rangle$, the mean over trials and windows.

    A window over the whole trial gives BPTT; one of a single step, with $A = 0$, e-prop.

    Attributes:
        window: Length of a window [steps].
        rate: Learning rate $\eta$ of the map [1]; 0 freezes it.
        learnt: The map $A$, `"memory feature"`; from `init` if `None`.

    Raises:
        ValueError: If `window` is not a positive whole number, or `rate` is negative.

    Source:
        Bellec et al. (2019), arXiv:1901.09049, by name and idea: its formulas are not known to us, and those above are
        our own. Jaderberg et al. (2017), ICML (synthetic gradients). Differs: the map is linear and starts from 0.
    """

    window: int = eqx.field(static=True, default=10)
    rate: float = eqx.field(static=True, default=1e-2)
    learnt: Any = None

    def __check_init__(self):
        check_steps("EProp3", "window", self.window)
        if not self.rate >= 0:
            raise ValueError(f"`EProp3(rate={self.rate})` must not be negative.")

    def init(self, network: Network) -> Float[Array, "memory feature"]:
        """No guess."""
        return no_guess(network)

    def unroll(self, network: Network, *args: Any, **options: Any) -> Trajectory:
        """Runs the network; differentiating gives the gradient of e-prop 3.

        Raises:
            ValueError: If weights are drawn anew in each step, or credit is asked for inputs, drive, or an initial
                state that learns.
        """
        return unroll_replayed(self, network, *args, **options)

    def replay(
        self, network: Network, moments: dict[str, Moments], now: Now, given: Given, key: Key[Array, ""] | None
    ) -> tuple[Gradient, Array]:
        """The gradient of a trial, and the map after it; see `unroll_replayed`."""
        time, batch, _ = given.inputs.shape

        def drawn(now, noise):
            return draw_noise(network, moments, now.step, batch, given.inputs.dtype, key, noise)

        def advance(now, given):
            noise = drawn(now, given.noise)
            return step(network, moments, now, given.inputs, noise, drive=given.drive)[0], now

        def back(carry, at_step):
            credit, inside, total, change = carry
            now, given, begins = at_step
            noise = drawn(now, given.noise)
            whole, own = (
                linearise(network, moments, now, given.inputs, noise, credit=paths, drive=given.drive)
                for paths in ("open", "blocked")
            )
            arriving = all_credit(network, whole, given.credit)

            # What the guess should have been; what it is; and what passes on through recurrent connections.
            label = jax.tree.map(jnp.add, inside, (whole.pull_activity(arriving), no_older(whole)))
            seen = features(network, whole, arriving)
            guess = seen @ self.learnt.T
            error = guess - by_trial(label)
            change += jnp.where(begins, error.T @ seen / batch, jnp.zeros_like(change))

            def either(guessed, known):
                return jax.tree.map(lambda g, k: jnp.where(begins, g, k), guessed, known)

            after = either(as_memory(guess, inside), inside)
            now_credit = either(jax.tree.map(jnp.zeros_like, arriving), arriving)
            inside, _, _ = whole.pull(after, now_credit)
            through_own, _, _ = own.pull(after, now_credit)
            carried, currents, neurons = own.pull(credit, arriving)
            credit = jax.tree.map(lambda c, i, o: c + i - o, carried, inside, through_own)
            total = jax.tree.map(jnp.add, total, direct(network, moments, own, currents, neurons))
            return (credit, inside, total, change), None

        _, before = jax.lax.scan(advance, now, given)
        number = jnp.arange(time)
        begins = (number > 0) & (number % self.window == 0)
        none = jax.tree.map(jnp.zeros_like, now.memory)
        start = (none, none, no_gradient(network, moments), jnp.zeros_like(self.learnt))
        (_, _, total, change), _ = jax.lax.scan(back, start, (before, given, begins), reverse=True)
        borders = max((time - 1) // self.window, 1)
        return total, self.learnt - self.rate / borders * change


def no_older(at) -> dict[str, Array]:
    """No credit of older activity."""
    return jax.tree.map(jnp.zeros_like, at.after.older)
