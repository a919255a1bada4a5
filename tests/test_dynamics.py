"""Selectivity of units, and principal components of trajectories."""

import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrograde.analysis import classify_units, drift_and_spread, principal_components, selectivity_index


def test_one_stimulus_gives_one_and_all_alike_give_nothing():
    for stimuli in (2, 4, 10):
        assert selectivity_index(np.eye(stimuli)) == pytest.approx(np.ones(stimuli))
        assert selectivity_index(3 * np.ones((2, stimuli))) == pytest.approx(np.zeros(2), abs=1e-12)
    assert np.isnan(selectivity_index(np.zeros((1, 3)))[0])


@given(seed=st.integers(0, 2**31), stimuli=st.integers(2, 8), scale=st.floats(1e-3, 1e3))
def test_selectivity_is_a_share_and_knows_neither_scale_nor_order(seed, stimuli, scale):
    responses = np.random.default_rng(seed).exponential(size=(5, stimuli))
    index = selectivity_index(responses)
    assert ((index >= 0) & (index <= 1)).all()
    assert selectivity_index(scale * responses[:, ::-1]) == pytest.approx(index, abs=1e-9)


def test_classes_of_units():
    responses = np.array([[1.0, 0, 0, 0], [1, 1, 1, 0.9], [1, 0.5, 0, 0], [0.01, 0, 0, 0.0]])
    assert classify_units(responses) == ["uni-selective", "non-selective", "mixed", "silent"]
    assert classify_units(responses, low=0.8)[2] == "non-selective"
    assert classify_units(responses, silent=0.001)[3] == "uni-selective"


def test_components_of_a_cloud_whose_variances_are_known():
    turn = np.linalg.qr(np.asarray(jr.normal(jr.key(0), (4, 4))))[0]
    variances = np.array([16.0, 4.0, 1.0, 0.25])
    points = np.random.default_rng(0).normal(size=(50, 400, 4)) * np.sqrt(variances) @ turn.T + 7
    found = principal_components(points)
    assert found.shares == pytest.approx(variances / variances.sum(), rel=0.05)
    assert np.abs(np.diag(found.directions @ turn)).min() > 0.99
    assert found.shares.sum() == pytest.approx(1) and (np.diff(found.shares) <= 0).all()
    assert [found.needed(share) for share in (0.5, 0.9, 0.99, 1.0)] == [1, 2, 4, 4]
    whole = found.project(points, 4) @ found.directions + found.mean
    assert np.allclose(whole, points)
    assert found.project(points, 2).shape == (50, 400, 2)


def test_weights_that_drift_along_one_direction_and_fluctuate_along_others():
    rng = np.random.default_rng(0)
    way = np.linspace(0, 20, 101)[:, None] * np.array([0.6, 0.8, 0.0])
    found = drift_and_spread(way + 0.1 * rng.normal(size=way.shape), 3)
    assert abs(found.drift[0]) == pytest.approx(0.2, rel=0.05)
    assert np.abs(found.drift[1:]).max() < 0.01
    assert found.spread[1] == pytest.approx(0.1 * 2**0.5, rel=0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: selectivity_index(np.ones((3, 1))), "two stimuli or more"),
        (lambda: selectivity_index(-np.ones((1, 2))), "finite and not negative"),
        (lambda: principal_components(np.ones((4, 2))), "all the same"),
        (lambda: principal_components(np.full((4, 2), np.nan)), "all finite"),
        (lambda: drift_and_spread(np.eye(3), 4), "`count=4` must lie between 1 and 3"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
