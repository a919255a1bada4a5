"""The kernel of infinitely wide ensembles against published values, finite networks, and itself."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import retrograde as rg
from retrograde.theory import (
    WideEnsemble,
    finite_ensemble,
    finite_kernel,
    finite_training,
    linearised_training,
    relu_integrals,
    tangent_kernel,
)


def pair(steps, angle):
    """The two inputs of the paper's first task."""
    first, second = [1.0, -1.0, 1.0], [math.cos(angle), math.sin(angle), -math.cos(angle)]
    return jnp.array([first[:steps], second[:steps]]).T[:, :, None]


GOLDEN = [  # alpha, steps, angle / π; Θ(1, 1), Θ(1, 2), Θ(2, 2) of the authors' programs
    (0.5, 2, 0.3, 0.43575, 0.06719, 0.62653),
    (0.5, 3, 0.3, 0.43035, 0.11833, 0.39305),
    (1.0, 2, 0.3, 3.03125, 0.29047, 1.94944),
    (0.5, 2, 1.0, 0.43575, 0.14422, 0.43575),
]


@pytest.mark.parametrize(("alpha", "steps", "angle", "one", "both", "two"), GOLDEN)
def test_values_of_the_authors_programs(alpha, steps, angle, one, both, two):
    kernel = tangent_kernel(WideEnsemble(alpha=alpha), pair(steps, angle * math.pi)).total
    assert np.allclose(kernel, [[one, both], [both, two]], rtol=0, atol=1e-5)


def test_parts_of_the_kernel():
    inputs = pair(2, 0.3 * math.pi)
    kernel = tangent_kernel(WideEnsemble(alpha=0.5), inputs)
    parts = [kernel.m_in, kernel.m_rec, kernel.m_out, kernel.pi_rec]
    assert np.allclose([part[0, 0] for part in parts], [0.04688, 0.10163, 0.18561, 0.10163], rtol=0, atol=1e-5)
    assert np.allclose([part[0, 1] for part in parts], [-0.02907, 0.01846, 0.05933, 0.01846], rtol=0, atol=1e-5)
    by_ensemble = tangent_kernel(WideEnsemble(alpha=0.5, ensemble_readout=True), inputs).total
    assert np.allclose(by_ensemble, [[0.62136, 0.12652], [0.12652, 0.91600]], rtol=0, atol=1e-5)
    with_absent = tangent_kernel(WideEnsemble(alpha=0.5, pi=0.3), inputs).total
    assert np.allclose(with_absent, [[0.3157, 0.0307], [0.0307, 0.5231]], rtol=0, atol=1e-4)


def test_without_leak_equal_times_are_enough():
    """The short way for α = 1 is the limit of the general one."""
    inputs = jr.normal(jr.key(0), (5, 4, 3))
    for start in (WideEnsemble(alpha=1.0, pi=0.2, ensemble_readout=True), WideEnsemble(alpha=1.0, sigma_initial=0.0)):
        near = dataclasses.replace(start, alpha=1 - 1e-10)
        for short, long in zip(
            *(jax.tree.leaves(tangent_kernel(network, inputs)) for network in (start, near)), strict=True
        ):
            assert jnp.abs(short - long).max() < 1e-8


def test_integrals_of_two_rates():
    covariance, variance, other = jnp.array([0.6, -0.5, 1.2]), jnp.array([1.0, 0.5, 2.0]), jnp.array([0.8, 1.5, 0.9])
    z = np.asarray(jr.normal(jr.key(0), (2, 2_000_000)))
    rates, slopes = relu_integrals(covariance, variance, other)
    for c, v, o, rate, slope in zip(covariance, variance, other, rates, slopes, strict=True):
        a = np.sqrt(v) * z[0]
        b = c / np.sqrt(v) * z[0] + np.sqrt(o - c**2 / v) * z[1]
        assert np.mean(np.maximum(a, 0) * np.maximum(b, 0)) == pytest.approx(float(rate), rel=0.01)
        assert np.mean((a > 0) & (b > 0)) == pytest.approx(float(slope), rel=0.01)


@pytest.mark.parametrize("start", [WideEnsemble(alpha=0.5), WideEnsemble(alpha=1.0), WideEnsemble(alpha=0.6, pi=0.3)])
def test_finite_networks_have_this_kernel_on_average(start):
    """500 neurons, 40 draws: within 4 standard errors and 5 %, as there is a correction of the order of 1/N."""
    inputs = pair(3, 0.3 * math.pi)
    find = jax.jit(lambda keys: jax.lax.map(lambda key: finite_kernel(start, 500, inputs, key), keys))
    draws = np.asarray(find(jr.split(jr.key(0), 40)))
    expected = np.asarray(tangent_kernel(start, inputs).total)
    error = draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - expected) <= 4 * error + 0.05 * expected).all()
    wrong = np.asarray(tangent_kernel(dataclasses.replace(start, sigma_rec=0.5), inputs).total)
    assert (np.abs(draws.mean(0) - wrong) > 4 * error + 0.05 * wrong).any()


def test_one_update_is_gradient_descent_on_the_theorys_parameters():
    """On m̃ and π, which are m√N/σ and π: without noise, and so with nothing for Ξ̃ to learn."""
    start = WideEnsemble(alpha=0.5, xi=0.0, sigma_initial=0.0, sigma_rec=1.5)
    neurons, rate, key = 20, 0.01, jr.key(0)
    inputs, targets = jr.normal(jr.key(1), (4, 3, 2)), jnp.array([1.0, -1.0])
    found = finite_training(start, neurons, inputs, targets, key, rate=rate, steps=1)
    network, _ = finite_ensemble(start, neurons, 2, jr.split(key)[0])

    def outputs(network):
        return network(inputs, weights="mean", readout_steps=1).outputs[0, :, 0]

    def half_error(network):
        return 0.5 * jnp.sum((outputs(network)[:2] - targets) ** 2)

    assert jnp.allclose(found.outputs[0], outputs(network), rtol=1e-12)
    slope = eqx.filter_grad(half_error)(network).projections
    scale = {"input->hidden": 1 / 2, "hidden->readout": 1 / neurons}
    for name, square in scale.items():
        weight = network.projections[name].synapse.weight - rate * square * slope[name].synapse.weight
        network = eqx.tree_at(lambda n, name=name: n.projections[name].synapse.weight, network, weight)
    old, change = network.projections["hidden->hidden"].synapse, slope["hidden->hidden"].synapse
    new = rg.synapses.SpikeAndSlab(
        old.m - rate * 1.5**2 / neurons * change.m, jnp.clip(old.pi - rate * change.pi, 0, 1), old.xi
    )
    network = eqx.tree_at(lambda n: n.projections["hidden->hidden"].synapse, network, new)
    # connections that may now be absent fluctuate: the same noise as in the pass after the last update
    pass_key = jr.split(jr.fold_in(jr.split(key)[1], 1), 1)[0]
    after = network(inputs, key=jr.split(pass_key)[1], readout_steps=1).outputs[0, :, 0]
    assert jnp.allclose(found.outputs[1], after, rtol=1e-9)
    assert jnp.abs(after - found.outputs[0]).max() > 1e-3
    moved = jnp.abs(new.m - old.m).mean() * neurons**0.5 / 1.5
    assert found.change.tolist() == pytest.approx([0.0, float(moved)], rel=1e-12)


def test_a_wide_network_takes_the_step_that_the_theory_says():
    """600 neurons: within a tenth. π begins at its lower end, so that half of its credit is cut off.

    The network has no noise at first, and after the step only that of the few connections that may now be absent.
    """
    start, rate = WideEnsemble(alpha=0.5, xi=0.0, sigma_initial=0.0), 1e-3
    inputs, targets = jr.normal(jr.key(0), (3, 6, 2)), jnp.array([1.0, -1.0, 0.5, -0.5])
    found = finite_training(start, 600, inputs, targets, jr.key(1), rate=rate, steps=1, passes=200).outputs
    kernel = tangent_kernel(start, inputs)
    error = found[0, :4] - targets
    wanted = -rate * (kernel.total - 0.5 * kernel.pi_rec)[:, :4] @ error
    assert jnp.linalg.norm(found[1] - found[0] - wanted) < 0.1 * jnp.linalg.norm(wanted)
    without_readout = wanted + rate * kernel.m_out[:, :4] @ error
    assert jnp.linalg.norm(found[1] - found[0] - without_readout) > 0.1 * jnp.linalg.norm(wanted)


def test_a_finite_network_has_a_plain_readout():
    with pytest.raises(ValueError, match="has a plain readout"):
        finite_ensemble(WideEnsemble(alpha=0.5, ensemble_readout=True), 10, 1, jr.key(0))


def test_learning_follows_every_mode_of_the_kernel():
    """Along an eigenvector with eigenvalue λ the error falls as (1 - ηλ)ᵏ; other samples are pulled along."""
    kernel = tangent_kernel(WideEnsemble(alpha=0.5), jr.normal(jr.key(0), (3, 6, 2))).total
    targets, start = jr.normal(jr.key(1), (4,)), jr.normal(jr.key(2), (6,))
    rate, steps = 0.3, 25
    outputs = linearised_training(kernel[:, :4], start, targets, rate=rate, steps=steps)
    values, modes = jnp.linalg.eigh(kernel[:4, :4])
    fall = (modes * (1 - rate * values)[None] ** steps) @ modes.T
    error = start[:4] - targets
    assert jnp.allclose(outputs[-1, :4] - targets, fall @ error, rtol=1e-9)
    pulled = start[4:] - kernel[4:, :4] @ jnp.linalg.solve(kernel[:4, :4], (jnp.eye(4) - fall) @ error)
    assert jnp.allclose(outputs[-1, 4:], pulled, rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WideEnsemble(alpha=0.0), r"alpha=...\)` must lie in \(0, 1\], got 0.0"),
        (lambda: WideEnsemble(alpha=0.5, pi=1.5), "is a probability, got 1.5"),
        (lambda: WideEnsemble(alpha=0.5, xi=-1.0), r"xi=...\)` must not be negative"),
        (
            lambda: linearised_training(jnp.ones((1, 2)), jnp.zeros(1), jnp.zeros(2), rate=0.1, steps=1),
            r"which come first: got a kernel of shape \(1, 2\)",
        ),
        (
            lambda: linearised_training(3 * jnp.eye(2), jnp.zeros(2), jnp.zeros(2), rate=1.0, steps=1),
            "take a rate below 0.667",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
