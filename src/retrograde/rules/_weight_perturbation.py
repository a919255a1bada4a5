"""Weight perturbation: change weights, and watch the loss."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key, PyTree

from ..network import Network
from ..unroll import Trajectory
from ._abstract import AbstractRule
from ._eligibility import unroll_eligibly, white_noise, with_eligibility
from ._perturbation import (
    AbstractPerturbation,
    Objective,
    add,
    average,
    check_choice,
    check_number,
    check_sigma,
    draw,
    free,
    only,
    perturbation_key,
    reached,
    scale,
)


class WeightPerturbation(AbstractPerturbation):
    r"""Weight perturbation: the loss is measured with perturbed weights, and no derivative is ever taken.

    With independent $\xi_{ij}$ of variance $\sigma^2$, constant through all time steps and trials of a batch,

    $$g_{ij} = \frac{L(w + \xi) - L(w)}{\sigma^2}\, \xi_{ij},$$

    whose mean over Gaussian draws is the gradient of the smoothed loss $\mathbb E_\xi L(w + \xi)$. All trainable
    parameters are perturbed, those of distributions over weights and of neurons too, by the same $\sigma$; entries
    that a mask holds fixed are not. A parameter may leave its range for the length of a run.

    Attributes:
        sigma: Standard deviation of the perturbation, or its size [unit of the parameters].
        perturbations: Number of independent draws that are evaluated at once and averaged [1].
        distribution: `"gaussian"`; `"sign"`, all weights at once by $\pm\sigma$ (stochastic error descent, SPSA); or
            `"one_at_a_time"`, each weight in turn by $\sigma$: finite differences, one evaluation for each parameter.
        central: Whether to evaluate $\pm\xi$ and take half their difference, which removes the error of second order.
        active_only: Whether to leave those weights alone whose presynaptic neurons are silent in all time steps of all
            trials (WP0); costs the memory of the activity.

    Raises:
        ValueError: If `sigma` is not positive, `perturbations` is not a positive whole number, or `distribution` is
            unknown or does not go with the others.

    Example:
        >>> import equinox as eqx, jax, retrograde as rg
        >>> task = rg.tasks.DelayedRecall(symbols=2, delay=3)
        >>> network = rg.Network.single_layer(task, rg.neurons.LeakyRate(5), key=jax.random.key(0))
        >>> trials = task.sample(jax.random.key(1), 4)
        >>> def objective(network, rule, key):
        ...     outputs = network(trials.inputs, rule=rule, key=key, readout_steps=task.target_steps).outputs
        ...     return rg.losses.cross_entropy(outputs, trials), None
        >>> rule = rg.rules.WeightPerturbation(1e-2, perturbations=10)
        >>> (loss, _), gradient, _ = rule.value_and_grad(objective, network, key=jax.random.key(2))
        >>> gradient.projections["input->hidden"].synapse.weight.shape
        (5, 4)

    Source:
        Gaussian and `active_only`: Züge, Klos & Memmesheimer (2023), Phys. Rev. X 13, 021006. One at a time: Jabri &
        Flower (1991), Neural Comput. 3:546. Signs: Cauwenberghs (1993), NIPS 5:244; Spall (1992), IEEE Trans. Autom.
        Control 37:332. Differs from them: the estimate is left to any optimiser, and central differences
        step by `sigma` to either side.
    """

    sigma: float = 1e-3
    perturbations: int = 1
    distribution: Literal["gaussian", "sign", "one_at_a_time"] = "gaussian"
    central: bool = False
    active_only: bool = False

    def __check_init__(self):
        check_sigma(self, self.sigma)
        check_number(self, "perturbations")
        check_choice(self, "distribution", ("gaussian", "sign", "one_at_a_time"))
        if self.distribution == "one_at_a_time" and (self.perturbations != 1 or self.active_only):
            raise ValueError(
                '`WeightPerturbation(distribution="one_at_a_time")` tries every weight once, so it takes neither '
                "`perturbations` nor `active_only`."
            )

    def value_and_grad(
        self, objective: Objective, network: Network, *, rule_state: PyTree = None, key: Key[Array, ""]
    ) -> tuple[tuple[Array, Any], Network, PyTree]:
        """Evaluates the objective without perturbation, and estimates its gradient; see `AbstractRule`."""
        params, rest = eqx.partition(network, network.trainable())
        own_key = perturbation_key(key)
        if self.active_only:
            value, answer = with_eligibility(objective, lambda a: _Probe(a, own_key), params, rest, key)
            mask = reached(params, answer)
        else:
            value = objective(eqx.combine(params, rest), self, key)
            mask = free(params, rest)

        def loss(params):
            return objective(eqx.combine(params, rest), self, key)[0]

        if self.distribution == "one_at_a_time":
            return value, only(mask, self._differences(loss, value[0], params)), rule_state
        distribution = self.distribution

        def estimate(key):
            xi = only(mask, draw(key, params, distribution))
            change = loss(add(params, xi, self.sigma)) - value[0]
            if self.central:
                change = 0.5 * (change - (loss(add(params, xi, -self.sigma)) - value[0]))
            return scale(change / self.sigma, xi)

        return value, average(estimate, own_key, self.perturbations), rule_state

    def _differences(self, loss, here, params):
        weights, rebuild = ravel_pytree(params)

        def slope(index):
            up = weights.at[index].add(self.sigma)
            down = weights.at[index].add(-self.sigma) if self.central else weights
            rise = loss(rebuild(up)) - (loss(rebuild(down)) if self.central else here)
            return rise / (up[index] - down[index])  # not `sigma`: that is rounded when it is added

        return rebuild(jax.lax.map(slope, jnp.arange(weights.size)))


class _Probe(AbstractRule):
    """Runs the network as it is; going backward, gives random credit to all currents."""

    answered: Callable[[], None]
    key: Key[Array, ""]

    def unroll(self, network: Network, moments, state, inputs, **options: Any) -> Trajectory:
        credit = white_noise(network, tuple(network.populations), self.key, options["key"], state, inputs)
        return unroll_eligibly(self.answered, lambda activity: credit, network, moments, state, inputs, **options)
