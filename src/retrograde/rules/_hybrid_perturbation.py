"""Hybrid perturbation: change weights, watch the loss, and blame the currents that the change has made."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Key, PyTree

from ..network import Network
from ..synapses import Moments
from ..unroll import Trajectory
from ._abstract import AbstractRule
from ._eligibility import currents, refuse_neuron_parameters, unroll_eligibly, with_eligibility
from ._node_perturbation import value_and_direct_gradient
from ._perturbation import (
    AbstractPerturbation,
    Objective,
    add,
    average,
    check_number,
    check_sigma,
    draw,
    perturbation_key,
    scale,
)


class HybridPerturbation(AbstractPerturbation):
    r"""Hybrid of weight and node perturbation: weights are perturbed, and the currents' perturbations get the credit.

    With $\xi_{ij}$ as in `WeightPerturbation` and the current $\zeta_{it} = \sum_j \xi_{ij}\, z_{j,t-d}$ that it adds,

    $$g_{ij} = \frac{L(w + \xi) - L(w)}{\sigma^2} \sum_t \zeta_{it}\, z_{j,t-d}.$$

    The noise is as low-dimensional as the activity, and weights of silent neurons stay as they are. The price is a
    biased direction: the mean is the gradient times $\sum_t z_t z_t^\top$, summed over time and trials (so its size is
    not that of a gradient either), and weak directions of the activity are learned slowly.

    Attributes:
        sigma: Standard deviation of the weights' perturbation [unit of the parameters].
        perturbations: Number of independent draws that are evaluated at once and averaged [1].
        central: Whether to evaluate $\pm\xi$ and average both estimates, which removes the error of second order.

    Raises:
        ValueError: If `sigma` is not positive, or `perturbations` is not a positive whole number.

    Source:
        "HP" of Züge, Klos & Memmesheimer (2023), Phys. Rev. X 13, 021006, known to us from their programs.
    """

    sigma: float = 1e-3
    perturbations: int = 1
    central: bool = False

    def __check_init__(self):
        check_sigma(self, self.sigma)
        check_number(self, "perturbations")

    def value_and_grad(
        self, objective: Objective, network: Network, *, rule_state: PyTree = None, key: Key[Array, ""]
    ) -> tuple[tuple[Array, Any], Network, PyTree]:
        """Evaluates the objective without perturbation, and estimates its gradient; see `AbstractRule`.

        Raises:
            ValueError: If a neuron has trainable parameters, random weights do not run in the mean field, or the
                loss has no differentiable path to the activity.
        """
        params, rest = eqx.partition(network, network.trainable())
        refuse_neuron_parameters(self, network)
        value, direct = value_and_direct_gradient(objective, params, rest, key)
        here = network.moments()

        def one_sided(xi, sigma):
            shift = add(eqx.combine(add(params, xi, sigma), rest).moments(), here, -1.0)
            (loss, _), eligibility = with_eligibility(objective, lambda a: _Shifted(a, shift), params, rest, key)
            return scale((loss - value[0]) / self.sigma**2, eligibility)

        def estimate(key_xi):
            xi = draw(key_xi, params)
            if not self.central:
                return one_sided(xi, self.sigma)
            return scale(0.5, add(one_sided(xi, self.sigma), one_sided(xi, -self.sigma)))

        return value, add(direct, average(estimate, perturbation_key(key), self.perturbations)), rule_state


class _Shifted(AbstractRule):
    """Runs the network with its virtual weights shifted; going backward, gives each current what that has added to it.

    The objective sees the network as it is: a regulariser's change is no business of the currents.
    """

    answered: Callable[[], None]
    shift: dict[str, Moments]

    def unroll(self, network: Network, moments, state, inputs, **options: Any) -> Trajectory:
        if any((self.shift[name].variance is None) != (m.variance is None) for name, m in moments.items()):
            raise ValueError(
                "`HybridPerturbation` follows random weights in the mean field only: leave "
                '`network(..., weights="mean-field")` at its default.'
            )
        shifted = add(moments, self.shift)

        def added(activity):
            after, before = (currents(network, m, state, inputs, activity, options) for m in (shifted, moments))
            return add(after, before, -1.0)

        return unroll_eligibly(self.answered, added, network, shifted, state, inputs, **options)
