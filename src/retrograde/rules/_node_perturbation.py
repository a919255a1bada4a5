"""Node perturbation: add noise to currents, and watch the loss."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from ..network import Network
from ..unroll import State, Trajectory, unroll
from ._abstract import AbstractRule
from ._eligibility import (
    Currents,
    refuse_neuron_parameters,
    trained_targets,
    unroll_eligibly,
    white_noise,
    with_eligibility,
)
from ._perturbation import (
    AbstractPerturbation,
    Objective,
    add,
    average,
    check_number,
    check_sigma,
    perturbation_key,
    scale,
)


class NodePerturbation(AbstractPerturbation):
    r"""Node perturbation: the loss is measured with noise on the currents, which weights share out by their activity.

    With independent $\xi_{it}$ of variance $\sigma^2$ added to the current of every neuron $i$ that trained weights
    reach, in every step,

    $$g_{ij} = \frac{L_\xi - L}{\sigma^2} \sum_t \xi_{it}\, z_{j,t-d},$$

    with the presynaptic activity $z$ of the perturbed run. Of several trials it is the sum, each trial's noise rated by
    what it alone does to the loss; else the noise of all would drown that of each. The mean is the gradient as
    $\sigma\to0$ (for a linear readout, at every $\sigma$). Weights that fluctuate get their share by the mean and by
    the variance of the current.
    A direct dependence of the loss on the parameters, such as a regulariser, is differentiated.

    Noise that no output can show is not added: that on a memoryless readout in steps that are not read out.

    Attributes:
        sigma: Standard deviation of the noise [unit of the current].
        perturbations: Number of independent draws that are evaluated at once and averaged [1].
        central: Whether to evaluate $\pm\xi$ and average both estimates, which removes the error of second order.
        correlation: Time constant $\tau$ of the noise [steps]; 0 for white noise. With $\rho = e^{-1/\tau}$ the noise
            is $\xi_t = \rho\,\xi_{t-1} + \sigma\sqrt{1-\rho^2}\,n_t$, and the estimate is divided by
            $(1+\rho)/(1-\rho)$, the sum of its correlations: its mean is the gradient's with the presynaptic activity
            filtered over about $2\tau$ steps.
        per_trial: Whether each trial's noise is rated by itself; if not, all are rated by the change of the loss that
            they make together, as by one reward for the whole batch. By itself costs a second run without noise, a
            second one with it, and outputs for each pair of trials.

    Raises:
        ValueError: If `sigma` is not positive, `perturbations` is not a positive whole number, or `correlation` is
            negative.

    Source:
        Züge, Klos & Memmesheimer (2023), Phys. Rev. X 13, 021006, after Fiete & Seung (2006), Phys. Rev. Lett. 97,
        048104. Differs from it: `correlation` is our choice of coloured noise, theirs is not known to us. An objective
        that runs the network more than once has to give each run a key of its own, or to go on from the last
        state, else all runs share one noise.
    """

    sigma: float = 1e-3
    perturbations: int = 1
    central: bool = False
    correlation: float = 0.0
    per_trial: bool = True

    def __check_init__(self):
        check_sigma(self, self.sigma)
        check_number(self, "perturbations")
        if not 0 <= self.correlation < math.inf:
            raise ValueError(
                f"`NodePerturbation(correlation=...)` is a time constant in steps, 0 for white noise; got "
                f"{self.correlation}."
            )

    def value_and_grad(
        self, objective: Objective, network: Network, *, rule_state: PyTree = None, key: Key[Array, ""]
    ) -> tuple[tuple[Array, Any], Network, PyTree]:
        """Evaluates the objective without perturbation, and estimates its gradient; see `AbstractRule`.

        Raises:
            ValueError: If a neuron has trainable parameters, weights are annealed, or the loss has no differentiable
                path to the activity.
        """
        params, rest = eqx.partition(network, network.trainable())
        refuse_neuron_parameters(self, network)
        targets = trained_targets(network, params)
        batches: list[int] = []
        value, direct = value_and_direct_gradient(objective, params, rest, key, seen=batches.append)
        trials = jnp.arange(max(batches, default=1))
        rho = math.exp(-1 / self.correlation) if self.correlation else 0.0

        def one_sided(key_xi, sigma):
            noise = _Noise(key_xi, targets, sigma, rho)
            if not self.per_trial or trials.size == 1:
                (loss, _), eligibility = with_eligibility(objective, lambda a: _Noisy(a, noise), params, rest, key)
                return scale((loss - value[0]) / self.sigma**2, eligibility)

            def with_noise_in(trial):  # both runs are the same for all trials, so they are made once
                return objective(eqx.combine(params, rest), _NoisyTrial(noise, trial), key)[0]

            rating = (jax.vmap(with_noise_in)(trials) - value[0]) / self.sigma**2
            _, eligibility = with_eligibility(objective, lambda a: _Noisy(a, noise, rating), params, rest, key)
            return eligibility

        def estimate(key_xi):
            if not self.central:
                return one_sided(key_xi, self.sigma)
            return scale(0.5, add(one_sided(key_xi, self.sigma), one_sided(key_xi, -self.sigma)))

        mean = average(estimate, perturbation_key(key), self.perturbations)
        return value, add(direct, mean, (1 - rho) / (1 + rho)), rule_state


class _Noise(eqx.Module):
    """The noise of a run, for every current of some populations."""

    key: Key[Array, ""]
    targets: tuple[str, ...] = eqx.field(static=True)
    sigma: float
    rho: float

    def draw(self, network: Network, state, inputs, options: dict[str, Any]) -> Currents:
        white = white_noise(network, self.targets, self.key, options["key"], state, inputs)
        xi = {name: self.sigma * _coloured(noise, self.rho) for name, noise in white.items()}
        return _heard(network, xi, options["readout_steps"], options["record"])


def _driven(drive: Currents, noise: Currents) -> Currents:
    return drive | {name: xi + drive[name] if name in drive else xi for name, xi in noise.items()}


class _Noisy(AbstractRule):
    """Adds noise to currents; going backward, gives each current the credit of its noise, as its trial is rated."""

    answered: Callable[[], None]
    noise: _Noise
    rating: Float[Array, " trial"] | None = None

    def unroll(self, network: Network, moments, state, inputs, *, drive, **options: Any) -> Trajectory:
        xi = credit = self.noise.draw(network, state, inputs, options)
        if self.rating is not None:
            rating = self.rating[: inputs.shape[1], None]
            credit = {name: rating[None] * noise for name, noise in xi.items()}
        return unroll_eligibly(
            self.answered, lambda activity: credit, network, moments, state, inputs, drive=_driven(drive, xi), **options
        )


class _NoisyTrial(AbstractRule):
    """Adds noise to the currents of one trial only."""

    noise: _Noise
    trial: Int[Array, ""]

    def unroll(self, network: Network, moments, state, inputs, *, drive, **options: Any) -> Trajectory:
        noisy = _driven(drive, self.noise.draw(network, state, inputs, options))
        quiet, loud = (unroll(network, moments, state, inputs, drive=given, **options) for given in (drive, noisy))
        is_this = (jnp.arange(inputs.shape[1]) == self.trial)[:, None]

        def mix(loud, quiet):
            return jax.tree.map(lambda a, b: jnp.where(is_this if a.ndim == 2 else is_this[None], a, b), loud, quiet)

        return Trajectory(
            mix(loud.outputs, quiet.outputs),
            mix(loud.activity, quiet.activity),
            State(
                mix(loud.state.neurons, quiet.state.neurons),
                mix(loud.state.history, quiet.state.history),
                quiet.state.step,
            ),
        )


def _coloured(white: Float[Array, "time batch channel"], rho: float) -> Float[Array, "time batch channel"]:
    if not rho:
        return white

    def step(last, fresh):
        now = rho * last + math.sqrt(1 - rho**2) * fresh
        return now, now

    _, later = jax.lax.scan(step, white[0], white[1:])
    return jnp.concatenate([white[:1], later])


def _heard(network: Network, noise: Currents, readout_steps: int | None, record: tuple[str, ...]) -> Currents:
    """Leaves out the noise on a memoryless readout before the steps that are read out."""
    name = network.readout
    is_read = name in record or any(projection.source == name for projection in network.projections.values())
    if readout_steps is None or is_read or name not in noise or not network.populations[name].stateless:
        return noise
    steps = noise[name].shape[0]
    heard = (jnp.arange(steps) >= steps - readout_steps)[:, None, None]
    return noise | {name: jnp.where(heard, noise[name], jnp.zeros_like(noise[name]))}


class _Direct(AbstractRule):
    """Runs the network; going backward, gives no credit at all."""

    seen: Callable[[int], None]

    def unroll(self, network: Network, moments, state, inputs, **options: Any) -> Trajectory:
        self.seen(inputs.shape[1])
        return jax.lax.stop_gradient(unroll(network, moments, state, inputs, **options))


def value_and_direct_gradient(
    objective: Objective,
    params: Network,
    rest: Network,
    key: Key[Array, ""],
    seen: Callable[[int], None] = lambda batch: None,
) -> tuple[tuple[Array, Any], Network]:
    """The value of an objective, and its gradient by all paths but the network's activity (a regulariser's).

    `seen` is called with the number of trials of every run.
    """
    return eqx.filter_value_and_grad(lambda p: objective(eqx.combine(p, rest), _Direct(seen), key), has_aux=True)(
        params
    )
