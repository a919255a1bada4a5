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
from retrograde.theory import WideEnsemble, linearised_training, relu_integrals, tangent_kernel


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


def draw(start, neurons, inputs, key):
    """A finite network as the theory has it, with an initial state for every sample; its noise's key."""
    *keys, state_key, noise_key = jr.split(key, 6)
    channels, samples = inputs.shape[2], inputs.shape[1]
    m = jr.normal(keys[1], (neurons, neurons)) * start.sigma_rec / neurons**0.5
    slab = rg.synapses.SpikeAndSlab(
        m, jnp.full_like(m, start.pi), jr.uniform(keys[3], m.shape, maxval=2 * start.xi) / neurons
    )
    dense = rg.synapses.Dense
    network = rg.Network(
        {"hidden": rg.neurons.LeakyRate(neurons, "relu", alpha=start.alpha), "readout": rg.neurons.Linear(1)},
        [
            rg.Projection("input", "hidden", dense(jr.normal(keys[0], (neurons, channels)) / channels**0.5)),
            rg.Projection("hidden", "hidden", slab, delay=1),
            rg.Projection("hidden", "readout", dense(jr.normal(keys[2], (1, neurons)) / neurons**0.5)),
        ],
        inputs=channels,
        readout="readout",
    )
    value = start.sigma_initial * jr.normal(state_key, (samples, neurons))
    state = eqx.tree_at(
        lambda s: (s.neurons["hidden"].value, s.history["hidden"]),
        network.initial_state(samples, inputs.dtype),
        (value, jax.nn.relu(value)[None]),
    )
    return network, state, noise_key


def empirical_kernel(start, neurons, inputs, key):
    """Σ ∂f ∂f over m̃ and π of one finite network."""
    network, state, noise_key = draw(start, neurons, inputs, key)
    params, rest = eqx.partition(network, network.trainable())

    def outputs(params):
        run = eqx.combine(params, rest)(inputs, state=state, key=noise_key, readout_steps=1)
        return run.outputs[0, :, 0]

    slopes = jax.jacrev(outputs)(params).projections

    def overlap(slope):
        return jnp.einsum("a...,b...->ab", slope.reshape(len(slope), -1), slope.reshape(len(slope), -1))

    return (
        overlap(slopes["input->hidden"].synapse.weight) / inputs.shape[2]
        + overlap(slopes["hidden->hidden"].synapse.m) / neurons
        + overlap(slopes["hidden->hidden"].synapse.pi)
        + overlap(slopes["hidden->readout"].synapse.weight) / neurons
    )


@pytest.mark.parametrize("start", [WideEnsemble(alpha=0.5), WideEnsemble(alpha=1.0), WideEnsemble(alpha=0.6, pi=0.3)])
def test_finite_networks_have_this_kernel_on_average(start):
    """500 neurons, 40 draws: within 4 standard errors and 5 %, as there is a correction of the order of 1/N."""
    inputs = pair(3, 0.3 * math.pi)
    find = jax.jit(lambda keys: jax.lax.map(lambda key: empirical_kernel(start, 500, inputs, key), keys))
    draws = np.asarray(find(jr.split(jr.key(0), 40)))
    expected = np.asarray(tangent_kernel(start, inputs).total)
    error = draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - expected) <= 4 * error + 0.05 * expected).all()
    wrong = np.asarray(tangent_kernel(dataclasses.replace(start, sigma_rec=0.5), inputs).total)
    assert (np.abs(draws.mean(0) - wrong) > 4 * error + 0.05 * wrong).any()


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
