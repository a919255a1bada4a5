"""The noise generator: distribution, independence along every axis, draws that do not depend on cuts."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from retrograde.noise import normal

SHAPE = (100, 40, 50)
COUNT = 200_000
draw = jax.jit(normal, static_argnums=(2, 3), static_argnames="stream")


@pytest.fixture(scope="module", params=[0, 1, 12345])
def noise(request):
    return np.asarray(draw(jr.key(request.param), 0, SHAPE))


def test_moments_are_those_of_a_standard_normal(noise):
    # Variances of the sample moments of N(0, 1): 1/n, 2/n, 6/n, 24/n.
    for value, aim, variance in (
        (noise.mean(), 0, 1),
        (noise.var(), 1, 2),
        (stats.skew(noise, axis=None), 0, 6),
        (stats.kurtosis(noise, axis=None), 0, 24),
    ):
        assert abs(value - aim) < 4 * np.sqrt(variance / COUNT)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_distribution_is_normal(dtype):
    flat = np.asarray(draw(jr.key(7), 0, SHAPE, dtype), np.float64).ravel()
    assert stats.kstest(flat, "norm").pvalue > 1e-3
    # The tails too: how many lie beyond 2, 3 and 4 standard deviations, within 4 of a binomial's.
    for distance in (2, 3, 4):
        chance = 2 * stats.norm.sf(distance)
        assert abs((np.abs(flat) > distance).sum() - COUNT * chance) < 4 * np.sqrt(COUNT * chance) + 1
    assert np.abs(flat).max() < 5.3


def correlation(a, b):
    """Correlation in standard errors of that of independent draws."""
    return float(np.vdot(a, b) / np.sqrt(a.size))


@pytest.mark.parametrize("power", [1, 2], ids=["values", "squares"])
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["time", "batch", "channel"])
def test_draws_along_an_axis_are_not_correlated(noise, axis, power):
    x = noise if power == 1 else (noise**2 - 1) / np.sqrt(2)
    for lag in range(1, 6):
        ahead = np.take(x, np.arange(lag, x.shape[axis]), axis)
        behind = np.take(x, np.arange(x.shape[axis] - lag), axis)
        assert abs(correlation(ahead, behind)) < 4.5, lag


def test_rows_of_single_neurons_and_steps_are_not_correlated():
    """A flaw in few pairs would drown in the average over all: look at the largest of all pairs."""
    x = np.asarray(draw(jr.key(3), 0, (2000, 10, 10))).reshape(2000, 100)
    pairs = np.corrcoef(x.T)[np.triu_indices(100, 1)]
    bound = stats.norm.isf(1e-4 / len(pairs)) / np.sqrt(2000)
    assert np.abs(pairs).max() < bound
    steps = np.corrcoef(x.reshape(200, 1000))[np.triu_indices(200, 1)]
    assert np.abs(steps).max() < stats.norm.isf(1e-4 / len(steps)) / np.sqrt(1000)


def test_streams_are_not_correlated():
    """Keys that are neighbours, as populations and passes have them, and the same stream moved in time."""
    base = jr.key(0)
    keys = [*(jr.fold_in(base, i) for i in range(6)), *(jr.key(i) for i in range(6))]
    draws = [np.asarray(draw(key, 0, (40, 10, 50))) for key in keys]
    draws += [np.asarray(draw(base, 0, (40, 10, 50), stream=i)) for i in range(1, 5)]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert abs(correlation(a, b)) < 4.5
            assert abs(correlation(a[1:], b[:-1])) < 4.5
            assert not np.isin(a[0, 0], b).all()


@pytest.mark.parametrize("start", [0, 1, 17, 2**31 - 20])
def test_a_stretch_of_time_is_a_part_of_any_longer_one(start):
    key = jr.key(5)
    whole = draw(key, start, (12, 3, 4))
    for cut in (1, 5, 11):
        first = draw(key, start, (cut, 3, 4))
        second = draw(key, start + cut, (12 - cut, 3, 4))
        assert jnp.array_equal(jnp.concatenate([first, second]), whole)
    assert not jnp.array_equal(whole[1:], whole[:-1])


def test_float32_is_float64_rounded():
    wide, narrow = (draw(jr.key(1), 3, (5, 4, 3), dtype) for dtype in (jnp.float64, jnp.float32))
    assert wide.dtype == jnp.float64 and narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, wide, rtol=2e-5)
    assert draw(jr.key(1), 3, (5, 4, 3)).dtype == jnp.float64, "JAX's default where nothing is asked for"


def test_keys_may_be_mapped():
    keys = jr.split(jr.key(0), 3)
    together = jax.jit(jax.vmap(lambda key: normal(key, 2, (4, 3, 2))))(keys)
    for key, noise in zip(keys, together, strict=True):
        assert jnp.array_equal(noise, draw(key, 2, (4, 3, 2)))
    steps = jnp.arange(3)
    together = jax.jit(jax.vmap(lambda start: normal(keys[0], start, (4, 3, 2))))(steps)
    assert jnp.array_equal(together[1, :3], together[0, 1:])


def test_no_stretch_of_noise_occurs_twice():
    """Three neighbouring draws are 69 bits: none of 10 million triples should occur again."""
    for seed in range(4):
        x = np.asarray(draw(jr.key(seed), 0, (2500, 10, 100))).reshape(2500, 1000)
        triples = np.sort((x[:, :-2] + np.pi * x[:, 1:-1] + 19.03 * x[:, 2:]).ravel())
        assert not (np.diff(triples) == 0).any(), seed
