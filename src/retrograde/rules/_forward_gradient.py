"""Forward gradient: the slope of the loss along random directions."""

from typing import Any

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Key, PyTree

from ..network import Network
from ..unroll import Trajectory, unroll
from ._abstract import AbstractRule
from ._perturbation import (
    AbstractPerturbation,
    Distribution,
    Objective,
    check_choice,
    check_number,
    draw,
    free,
    only,
    perturbation_key,
    scale,
)


class ForwardGradient(AbstractPerturbation):
    r"""Forward gradient: the slope of the loss along a random direction, times that direction.

    $$g = (\nabla L \cdot v)\, v, \qquad \mathbb E\, v v^\top = 1,$$

    by one pass in forward mode (`jax.jvp`): no backward pass, and memory independent of the number of steps. It is
    unbiased, and the limit $\sigma\to0$ of `WeightPerturbation` without its rounding errors; unlike that it needs
    derivatives, those of a spike being the surrogate's. Feedback matrices play no part: no credit runs back.

    Attributes:
        directions: Number of independent directions that are evaluated at once and averaged [1].
        distribution: Of the entries of $v$: `"gaussian"` or `"sign"` ($\pm1$), both of variance 1.

    Raises:
        ValueError: If `directions` is not a positive whole number, or `distribution` is unknown.

    Source:
        Baydin et al. (2022), arXiv:2202.08587.
    """

    directions: int = 1
    distribution: Distribution = "gaussian"

    def __check_init__(self):
        check_number(self, "directions")
        check_choice(self, "distribution", ("gaussian", "sign"))

    def value_and_grad(
        self, objective: Objective, network: Network, *, rule_state: PyTree = None, key: Key[Array, ""]
    ) -> tuple[tuple[Array, Any], Network, PyTree]:
        """Evaluates the objective and estimates its gradient; see `AbstractRule`."""
        params, rest = eqx.partition(network, network.trainable())
        mask = free(params, rest)

        def loss(params):
            return objective(eqx.combine(params, rest), _Forward(), key)

        def along(key):
            direction = only(mask, draw(key, params, self.distribution))
            value, slope, aux = jax.jvp(loss, (params,), (direction,), has_aux=True)
            return (value, aux), scale(slope, direction)

        if self.directions == 1:
            return *along(perturbation_key(key)), rule_state
        # The loss itself does not depend on the direction, so it is evaluated only once.
        keys = jr.split(perturbation_key(key), self.directions)
        value, gradients = jax.vmap(along, out_axes=(None, 0))(keys)
        return value, jax.tree.map(lambda gradient: gradient.mean(axis=0), gradients), rule_state


class _Forward(AbstractRule):
    """Runs the network so that forward mode can follow."""

    def unroll(self, network: Network, *args: Any, **options: Any) -> Trajectory:
        names = [name for name, projection in network.projections.items() if projection.feedback is not None]
        # A feedback matrix is a custom transposition, which JAX does not let forward mode pass through.
        plain = eqx.tree_at(lambda n: [n.projections[name].feedback for name in names], network, [None] * len(names))
        return unroll(plain, *args, **options)
