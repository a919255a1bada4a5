"""Optimisers against the equations in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import zoo

from retrograde import training
from retrograde.training import _optimisers


@pytest.fixture
def network():
    return zoo.single_layer("leaky_activity", "spike_and_slab", jr.key(0))


def by_label(network, tree):
    labels = jax.tree.leaves(_optimisers.trainable_labels(network))
    return dict(zip(labels, map(np.asarray, jax.tree.leaves(tree)), strict=True))


def run(network, optimiser, gradients):
    """Applies the optimiser to a list of gradients; returns label → parameter."""
    params = eqx.filter(network, network.trainable())
    state = optimiser.init(params)
    with jax.numpy_dtype_promotion("standard"):
        update = jax.jit(optimiser.update)
        for gradient in gradients:
            updates, state = update(gradient, state, params)
            params = eqx.apply_updates(params, updates)
    return by_label(network, params)


def random_gradients(network, steps, scale=1.0):
    params = eqx.filter(network, network.trainable())
    leaves, structure = jax.tree.flatten(params)
    return [
        structure.unflatten(
            scale * (1 + i) * jr.normal(jr.fold_in(jr.key(7), 100 * step + i), leaf.shape)
            for i, leaf in enumerate(leaves)
        )
        for step in range(steps)
    ]


def test_adam_is_the_digests_update(network):
    """Clip by the largest singular value, Adam with eps outside the root, decoupled decay; halved every 3 steps."""
    gradients = random_gradients(network, steps=8, scale=2.0)
    optimiser = training.optimiser(
        network,
        learning_rate=0.01,
        groups={"*.pi": {"learning_rate": 0.1}, "hidden->readout.pi": {"halve_first": 1}},
        decay=0.3,
        halve_every=3,
        clip_spectral=10.0,
    )
    actual = run(network, optimiser, gradients)
    clipped = 0
    for label, theta in by_label(network, eqx.filter(network, network.trainable())).items():
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        for k, gradient in enumerate(gradients):
            g = by_label(network, gradient)[label]
            norm = np.linalg.norm(g, 2)
            clipped += norm > 10
            g = g * min(1, 10 / norm)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            m_hat, v_hat = m / (1 - 0.9 ** (k + 1)), v / (1 - 0.999 ** (k + 1))
            is_pi = label.endswith(".pi")
            rate = 0.1 if is_pi else 0.01
            rate *= 0.5 ** ((k + 2) // 3 if label == "hidden->readout.pi" else k // 3)
            decay = 0.0 if is_pi or theta.ndim < 2 else 0.3
            theta = theta - rate * (m_hat / (np.sqrt(v_hat) + 1e-8) + decay * theta)
        np.testing.assert_allclose(actual[label], theta, rtol=1e-10, atol=1e-13, err_msg=label)
    assert clipped > 10


def test_rmsprop_is_the_digests_update(network):
    """The decay is added to the gradient before it is normalised; eps inside the root; no bias correction."""
    gradients = random_gradients(network, steps=5)
    optimiser = training.optimiser(network, "rmsprop", 0.01, decay=0.05, clip_spectral=None)
    actual = run(network, optimiser, gradients)
    for label, theta in by_label(network, eqx.filter(network, network.trainable())).items():
        v = np.zeros_like(theta)
        for gradient in gradients:
            g = by_label(network, gradient)[label]
            if not label.endswith(".pi") and theta.ndim == 2:
                g = g + 0.05 * theta
            v = 0.9 * v + 0.1 * g**2
            theta = theta - 0.01 * g / np.sqrt(v + 1e-8)
        np.testing.assert_allclose(actual[label], theta, rtol=1e-10, atol=1e-13, err_msg=label)


def test_sgd_takes_the_gradient_itself(network):
    (gradient,) = random_gradients(network, steps=1)
    optimiser = training.optimiser(network, "sgd", 0.5, decay=0.0, clip_spectral=None)
    before = by_label(network, eqx.filter(network, network.trainable()))
    gradient_of = by_label(network, gradient)
    for label, theta in run(network, optimiser, [gradient]).items():
        np.testing.assert_allclose(theta, before[label] - 0.5 * gradient_of[label], rtol=1e-12, atol=1e-14)


def test_halving_is_the_digests_schedule():
    """`lr = max(1e-8, 1e-3 · 0.5^((epoch+1)//40))`, 200 updates an epoch."""
    schedule = training.halving(1e-3, every=40 * 200, first=39 * 200)
    for epoch in (0, 38, 39, 78, 79, 199, 1000):
        for step in (epoch * 200, epoch * 200 + 199):
            expected = max(1e-8, 1e-3 * 0.5 ** ((epoch + 1) // 40))
            assert float(schedule(jnp.asarray(step))) == expected


def clip(gradient, limit=10.0):
    return training.clip_by_spectral_norm(limit).update(gradient, optax.EmptyState())[0]


@pytest.mark.parametrize("shape", [(7, 7), (3, 40), (40, 3), (1, 5), (6,)])
def test_clip_scales_to_the_matrix_2_norm(shape):
    gradient = np.random.default_rng(0).normal(size=shape)
    norm = np.linalg.norm(gradient, 2)
    for size in (3.0, 9.99, 10.01, 1e6):
        scaled = gradient * size / norm
        expected = scaled * min(1, 10 / size)
        np.testing.assert_allclose(jax.jit(clip)(jnp.asarray(scaled)), expected, rtol=1e-12)


def test_clip_leaves_alone_what_only_the_frobenius_norm_exceeds():
    gradient = 9.0 * jnp.eye(20)  # Frobenius norm 40, largest singular value 9
    np.testing.assert_array_equal(clip(gradient), gradient)


@pytest.mark.parametrize("sizes, decompositions", [((1.0, 2.0, 3.0), 0), ((1.0, 200.0, 3.0), 1)])
def test_singular_values_are_computed_only_when_needed(monkeypatch, sizes, decompositions):
    """Also under `vmap`, where a `cond` would compute both branches for every seed."""
    calls = []
    exact = _optimisers.largest_singular_value

    def counted(matrix):
        jax.debug.callback(lambda: calls.append(1))
        return exact(matrix)

    monkeypatch.setattr(_optimisers, "largest_singular_value", counted)
    gradients = jnp.asarray(sizes)[:, None, None] * jnp.ones((3, 4, 4)) / 4
    clipped = jax.block_until_ready(jax.jit(jax.vmap(clip))(gradients))
    jax.effects_barrier()
    np.testing.assert_allclose(jnp.linalg.norm(clipped, axis=(1, 2)), np.minimum(sizes, 10.0), rtol=1e-12)
    # one pass of the loop for all seeds together
    assert len(calls) == decompositions


@pytest.mark.parametrize(
    "options, message",
    [
        ({"groups": {"*.p": {"decay": 1.0}}}, r"'\*\.p' matches no trainable parameter.*Nearest: .*\.pi"),
        ({"groups": {"hiden->hidden.m": {"decay": 1.0}}}, r"Nearest: hidden->hidden\.m"),
        ({"groups": {"*.pi": {"lerning_rate": 1.0}}}, "did you mean 'learning_rate'"),
        ({"name": "adamw"}, "no optimiser 'adamw'; pick one of adam, rmsprop, sgd"),
        ({"clip_spectral": 0.0}, "`clip_spectral` must be positive"),
        ({"learning_rate": optax.constant_schedule(1.0), "halve_every": 3}, "must do its own halving"),
        ({"halve_every": 0}, "at least 1 step"),
    ],
)
def test_refuses(network, options, message):
    with pytest.raises(ValueError, match=message):
        training.optimiser(network, **options)


def test_takes_the_function_that_makes_the_network():
    def make(key):
        return zoo.single_layer("vanilla", "dense", key)

    network = make(jr.key(1))
    gradients = random_gradients(network, steps=2)
    actual = run(network, training.optimiser(make), gradients)
    expected = run(network, training.optimiser(network), gradients)
    for label, theta in expected.items():
        np.testing.assert_array_equal(actual[label], theta)
