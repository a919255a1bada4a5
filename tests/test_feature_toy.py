"""The neuron with many identical inputs, against what the authors' program gave."""

import jax.random as jr
import pytest

from retrograde.theory import feature_learning


@pytest.fixture(scope="module")
def runs():
    return {n: feature_learning(n, key=jr.key(0)) for n in (100, 1000, 10_000)}


@pytest.mark.parametrize("neurons", [100, 1000, 10_000])
def test_it_learns_at_any_size(runs, neurons):
    """Authors: 4.95 and 4.70 before, 2.39 after 10 epochs, 0.134 after 100, 0.0728 and 0.0730 at the end."""
    loss = runs[neurons].loss
    assert 4 < loss[0] < 5.2
    assert loss[10] == pytest.approx(2.39, rel=0.2)
    assert loss[100] == pytest.approx(0.134, rel=0.15)
    assert 0.072 < loss[-1] < 0.076


def test_means_change_by_more_than_they_are_while_the_spread_stays(runs):
    run = runs[10_000]
    assert run.change[-1, 0] > 1
    assert run.deviation[-1] == pytest.approx(float(run.deviation[0]), rel=0.01)
    assert run.mean[0] < 0.02 < 0.7 < run.mean[-1] < 0.85
    assert (run.change[-1, 1:] < 0.02).all()
    assert (runs[100].change[-1, 1:] > 0.1).all()


def test_the_fluctuation_gives_the_less_gradient_the_more_inputs_there_are(runs):
    ratios = [float(run.fluctuation_part[-1] / run.mean_part[-1]) for run in runs.values()]
    for small, large in zip(ratios[1:], ratios[:-1], strict=True):
        assert small == pytest.approx(large / 10, rel=0.6)


def test_with_the_other_scaling_nothing_is_learnt():
    run = feature_learning(10_000, key=jr.key(0), scale=1e8)
    assert run.loss[-1] > 4.7
    assert run.change[-1, 0] < 0.2
