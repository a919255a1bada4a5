"""The multisensory task: every number of the published design."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from retrograde.tasks import Multisensory

TASK = Multisensory()
QUIET = Multisensory(noise=0.0)


def test_a_round_has_every_condition_once_and_six_catch_trials():
    trials = TASK.sample(jr.key(0), 30)
    assert trials.inputs.shape == (125, 30, 5) and trials.targets.shape == (125, 30, 2)
    shown = [names for names, _ in TASK.conditions]
    assert [shown.count(names) for names in (("visual",), ("auditory",), ("visual", "auditory"))] == [8, 8, 8]
    assert [rate for _, rate in TASK.conditions] == [9, 10, 11, 12, 13, 14, 15, 16] * 3
    one, other = (QUIET.sample(jr.key(seed), 60).inputs for seed in (1, 2))
    assert np.array_equal(one, other), "without noise all rounds are alike"
    assert np.array_equal(one[:, :30], one[:, 30:])
    assert not np.array_equal(trials.inputs, TASK.sample(jr.key(1), 30).inputs)


def test_channels_are_tuned_to_the_rate_and_the_cue_lasts_1300_ms():
    inputs = np.asarray(QUIET.take(jnp.arange(30)).inputs) - 0.2
    for trial, (shown, rate) in enumerate(QUIET.conditions):
        rising, falling = 0.4 + 0.8 * (rate - 9) / 7, 0.4 + 0.8 * (16 - rate) / 7
        present = np.array(["visual" in shown, "auditory" in shown])
        expected = np.concatenate([present * rising, present * falling])
        assert np.allclose(inputs[5:55, trial, :4], expected[None], atol=1e-12)
        assert np.allclose(inputs[:5, trial], 0) and np.allclose(inputs[55:, trial, :4], 0)
        assert np.allclose(inputs[5:70, trial, 4], 1) and np.allclose(inputs[70:, trial, 4], 0)
    assert 65 * QUIET.dt == 1300
    assert np.allclose(inputs[:, 24:], 0)


def test_the_answer_counts_in_fixation_and_decision_and_catch_trials_throughout():
    trials = QUIET.take(jnp.arange(30))
    targets, mask = np.asarray(trials.targets), np.asarray(trials.mask)
    counted = np.zeros(125)
    counted[:5] = counted[55:70] = 1
    assert np.array_equal(mask[:, :24], np.repeat(counted[:, None], 24, 1)) and mask[:, 24:].all()
    for trial, (_, rate) in enumerate(QUIET.conditions):
        right = 0 if rate > 12.5 else 1
        assert (targets[55:70, trial, right] == 1.0).all() and (targets[55:70, trial, 1 - right] == 0.2).all()
        assert (targets[:55, trial] == 0.2).all()
    assert (targets[:, 24:] == 0.2).all()


@pytest.mark.parametrize(("dt", "sd"), [(20.0, 0.0316), (0.5, 0.2)])
def test_the_noise_of_an_input_grows_as_the_step_shrinks(dt, sd):
    noisy, quiet = (
        Multisensory(dt=dt, fixation=500.0, duration=1800.0, catch=0, noise=noise).take(jnp.arange(24))
        for noise in (0.01, 0.0)
    )
    noise = np.asarray(noisy.inputs - quiet.inputs)
    assert noise.shape[0] == 1800 / dt
    assert noise.std() == pytest.approx(sd, rel=0.03)
    flat = noise.reshape(len(noise), -1)
    assert abs((flat[1:] * flat[:-1]).mean()) < 0.02 * sd**2


def test_three_modalities_have_four_ways_to_be_shown():
    task = Multisensory(modalities=("a", "b", "c"), rates=(1.0, 2.0), boundary=1.5, catch=0)
    assert task.inputs == 7 and task.round == 8
    assert task.conditions[-1] == (("a", "b", "c"), 2.0)
    assert Multisensory(modalities=("a",)).round == 8 + 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt": 30.0}, r"fixation=100\)` must be a whole number of steps of dt=30 ms, got 3.33333"),
        ({"duration": 1000.0}, "is shorter than fixation, stimulus and decision, 1400 ms"),
        ({"boundary": 20.0}, "must leave rates on both sides"),
        ({"modalities": ("a", "a")}, "must be different names"),
        ({"noise": -1.0}, "must not be negative"),
        ({"dt": 0.0}, "must be positive"),
        ({"catch": -1}, "must be an integer of at least 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Multisensory(**options)
