"""Add two coins of the past."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int

from retrograde.tasks._abstract import Trials, check_integer
from retrograde.tasks._endless import AbstractEndlessTask


class Add(AbstractEndlessTask):
    r"""Coins are shown, and the chance of a coin that depends on two earlier ones is to be told.

    $$x_n \sim \mathrm{Bernoulli}(1/2), \qquad y_n = \tfrac12 + \tfrac12 x_{n-t_1} - \tfrac14 x_{n-t_2}.$$

    Input and target have two channels, the number and its complement: $[x, 1-x]$ and $[y, 1-y]$. Every coin stays for
    `repeat` steps, so the lags last `repeat` times `t1` and `t2` steps. The first `max(t1, t2)` coins have no target,
    because the coins they depend on were not shown: `target_steps` leaves these steps out. `loss_levels` says
    which loss means what.

    Attributes:
        t1: Lag of the coin that counts ½ [coin].
        t2: Lag of the coin that counts -¼ [coin].
        steps: Length of a trial [step].
        repeat: How long each coin is shown [step] (`tau_task` in the source).
        deterministic: If true, targets are the probabilities $[y, 1-y]$, shape `steps batch 2`. If false, targets are
            drawn with them, as class numbers, shape `steps batch`: 0 with probability $y$, else 1.
        seed: Which endless series of trials.

    Raises:
        ValueError: If a number is too small, the lags are equal, or no step is left with a target.

    Example:
        >>> task = Add(t1=6, t2=10, steps=50)
        >>> task.take(jnp.arange(3)).targets.shape
        (40, 3, 2)

    Source:
        Marschall, Cho and Savin (2020), J. Mach. Learn. Res. 21(135):1-34, section 4, and its code's `Add_Task`.
        Differs from it: trials of finite length instead of one endless stream, and no targets that wrap around its end.
    """

    t1: int = eqx.field(static=True, default=6)
    t2: int = eqx.field(static=True, default=10)
    steps: int = eqx.field(static=True, default=100)
    repeat: int = eqx.field(static=True, default=1)
    deterministic: bool = eqx.field(static=True, default=True)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        for name, least in {"t1": 0, "t2": 0, "steps": 1, "repeat": 1, "seed": 0}.items():
            check_integer("Add", name, getattr(self, name), least)
        if self.t1 == self.t2:
            raise ValueError(
                f"`Add(t1=..., t2=...)` must differ, got {self.t1} twice: the target would depend on one coin only."
            )
        if self.target_steps < 1:
            raise ValueError(
                f"`Add(steps={self.steps})` leaves no step with a target: the first max(t1, t2) · repeat = "
                f"{self.steps - self.target_steps} steps have none. Make `steps` longer."
            )

    @property
    def inputs(self) -> int:
        return 2

    @property
    def outputs(self) -> int:
        return 2

    @property
    def target_steps(self) -> int:
        return self.steps - max(self.t1, self.t2) * self.repeat

    @property
    def loss(self) -> str:
        return "cross_entropy"

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        dtype = jnp.result_type(float)
        coins = -(-self.steps // self.repeat)
        first = max(self.t1, self.t2)
        x, chance = jax.vmap(lambda key: self._draw(key, coins), out_axes=1)(self.keys(index, split))
        # The probability of each target, in quarters; `chance` is one of 0, 1, 2, 3.
        quarters = 2 + 2 * x[first - self.t1 : coins - self.t1] - x[first - self.t2 : coins - self.t2]

        x = jnp.repeat(x, self.repeat, axis=0)[: self.steps].astype(dtype)
        if self.deterministic:
            y = jnp.repeat(quarters, self.repeat, axis=0)[: self.target_steps].astype(dtype) / 4
            targets = jnp.stack([y, 1 - y], axis=-1)
        else:
            other = (chance[first:] >= quarters).astype(jnp.int32)
            targets = jnp.repeat(other, self.repeat, axis=0)[: self.target_steps]
        mask = jnp.ones((self.target_steps, len(index)), dtype)
        return Trials(inputs=jnp.stack([x, 1 - x], axis=-1), targets=targets, mask=mask)

    def _draw(self, key, coins: int):
        # One call of the generator and integers only: quick to compile, and the same trials in float32 and float64.
        bits = jr.bits(key, (coins,), jnp.uint32)
        return (bits & 1).astype(jnp.int32), (bits >> 1 & 3).astype(jnp.int32)

    @staticmethod
    def loss_levels() -> dict[str, float]:
        """Computes the lowest mean cross-entropy for a network that knows neither coin, one of them, or both.

        They do not depend on the lags, nor on whether the targets are deterministic.

        Returns:
            The loss [nat] of `"nothing"`, `"only_t2"`, `"only_t1"` and `"both"`.

        Example:
            >>> {name: round(loss, 4) for name, loss in Add.loss_levels().items()}
            {'nothing': 0.6616, 'only_t2': 0.6277, 'only_t1': 0.5192, 'both': 0.4545}

        Source:
            Derived: the best answer is the mean of the target given the coins known, and costs that mean's entropy.
        """
        x1, x2 = np.array([[0, 0], [1, 1]]), np.array([[0, 1], [0, 1]])  # All four pairs are equally likely.
        y = 1 / 2 + x1 / 2 - x2 / 4
        best = {"nothing": y.mean(), "only_t2": y.mean(axis=0), "only_t1": y.mean(axis=1), "both": y}
        return {known: float(np.mean(_entropy(answer))) for known, answer in best.items()}


def _entropy(p):
    """Returns the entropy of a coin that shows heads with probability `p` [nat]."""
    terms = [np.where(q > 0, q * np.log(np.where(q > 0, q, 1.0)), 0.0) for q in (p, 1 - p)]
    return -(terms[0] + terms[1])
