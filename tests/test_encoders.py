"""Encoders: what comes out for inputs made by hand, and the statistics of what is random."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrograde.encoders import bin_events, latency, level_crossing, poisson, population, threshold


def test_poisson_fires_at_its_rates_in_each_channel():
    """Every rate within four standard errors, and spikes of neighbouring steps and channels uncorrelated."""
    rate = jnp.array([0.0, 10.0, 40.0, 250.0])
    spikes = np.asarray(poisson(jr.key(1), jnp.broadcast_to(rate[None], (40_000, 4)), dt=0.5))
    assert set(np.unique(spikes)) == {0.0, 1.0}
    chance = np.asarray(rate) * 0.5 / 1000
    assert np.all(np.abs(spikes.mean(axis=0) - chance) <= 4 * np.sqrt(chance * (1 - chance) / 40_000))
    assert spikes[:, 0].sum() == 0
    centred = spikes[:, 1:] - chance[1:]
    scale = np.sqrt(chance[1:] * (1 - chance[1:]))
    lagged = np.mean(centred[1:] * centred[:-1], axis=0) / scale**2
    across = np.mean(centred[:, 2] * centred[:, 1]) / (scale[2] * scale[1])
    assert np.abs(lagged).max() < 4 / 200 and abs(across) < 4 / 200


def test_poisson_is_certain_at_one_spike_in_a_step_and_above():
    spikes = poisson(jr.key(0), jnp.broadcast_to(jnp.array([500.0, 5000.0, 300.0])[None], (50, 3)), dt=2.0)
    assert spikes[:, :2].all() and 15 < float(spikes[:, 2].sum()) < 45  # 30 expected, s.d. 3.5


def test_poisson_is_a_function_of_its_key_and_the_same_in_float32():
    rate = jnp.full((200, 3), 100.0)
    spikes = poisson(jr.key(0), rate)
    np.testing.assert_array_equal(poisson(jr.key(0), rate), spikes)
    assert not np.array_equal(poisson(jr.key(1), rate), spikes)
    single = poisson(jr.key(0), rate.astype(jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_array_equal(single, spikes)
    np.testing.assert_array_equal(jax.jit(poisson)(jr.key(0), rate), spikes)


@given(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=5), st.integers(1, 30), st.booleans())
def test_latency_is_one_spike_each_earlier_the_larger(values, steps, spike_at_zero):
    spikes = np.asarray(latency(jnp.array(values), steps, spike_at_zero=spike_at_zero))
    assert spikes.shape == (steps, len(values))
    expected = [1 if spike_at_zero or value > 0 else 0 for value in values]
    np.testing.assert_array_equal(spikes.sum(axis=0), expected)
    times = [(value, int(column.argmax())) for value, column in zip(values, spikes.T, strict=True) if column.any()]
    for value, time in times:
        assert abs(time - (1 - value) * (steps - 1)) <= 0.5 + 1e-9
    for value, time in times:
        for other, other_time in times:
            assert value <= other or time <= other_time


def test_latency_by_hand():
    spikes = latency(jnp.array([[1.0, 0.75], [0.25, 0.0]]), 5)
    np.testing.assert_array_equal(jnp.argmax(spikes, axis=0), [[0, 1], [3, 0]])
    np.testing.assert_array_equal(spikes.sum(axis=0), [[1, 1], [1, 0]])
    assert float(latency(jnp.zeros(1), 5, spike_at_zero=True)[4, 0]) == 1


def test_population_by_hand():
    answers = population(jnp.array([[0.0, 4.0], [2.0, 1.0]]), 3, low=0.0, high=4.0)
    assert answers.shape == (2, 2, 3)
    near, far = math.exp(-1 / 2), math.exp(-2)  # one and two widths away; the width is the distance, 2
    np.testing.assert_allclose(answers[0], [[1, near, far], [far, near, 1]], rtol=1e-12)
    np.testing.assert_allclose(answers[1, 1], [math.exp(-1 / 8), math.exp(-1 / 8), math.exp(-9 / 8)], rtol=1e-12)


def test_population_as_yin_et_al_encode_pixels():
    """Their `RBF_encode` with five neurons: centres (2i - 2)/2 · w for i = 0 … 4, width w = 1/3, normal densities."""
    n, x = 5, 0.4
    w = 1 / (n - 2)
    answers = population(jnp.array([x]), n, low=-w, high=1.0, width=w, density=True)[0]
    for i in range(n):
        centre = (2 * i - 2) / 2 * w
        expected = math.exp(-((x - centre) ** 2) / (2 * w**2)) / (math.sqrt(2 * math.pi) * w)
        assert float(answers[i]) == pytest.approx(expected, rel=1e-12)
    assert float(answers.max()) > 1


def test_threshold_by_hand():
    values = jnp.array([-1.0, -0.3, -0.29, 0.0, 0.3, 0.31])
    assert threshold(values, 0.3).tolist() == [-1, 0, 0, 0, 0, 1]
    assert threshold(values, 0.0).tolist() == [-1, -1, -1, 0, 1, 1]


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=20), st.integers(1, 6))
def test_level_crossing_is_what_the_source_computes(quarters, step_quarters):
    """Their `convert_seq` after its filter, sample by sample; in quarters, so that a rise may be just the step."""
    signal, step = [quarter / 4 for quarter in quarters], step_quarters / 4
    expected = np.zeros((len(signal), 2))
    for i in range(len(signal) - 1):
        if signal[i + 1] - signal[i] >= step:
            expected[i, 0] = 1
        elif signal[i] - signal[i + 1] >= step:
            expected[i, 1] = 1
    np.testing.assert_array_equal(level_crossing(jnp.array(signal)[:, None], step), expected)


def test_level_crossing_of_two_leads_and_a_batch():
    leads = jnp.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    spikes = [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]  # lead 0 up, lead 0 down, lead 1 up, lead 1 down
    assert level_crossing(leads, 0.5).tolist() == spikes
    batch = level_crossing(jnp.stack([leads, -leads], axis=1), 0.5)
    assert batch[:, 0].tolist() == spikes and batch.shape == (3, 2, 4)
    assert batch[:, 1].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_binning_of_the_heidelberg_digits():
    """Bin `i` holds (i-1)·dt < t ≤ i·dt, bin 0 only t ≤ 0, later spikes and unit 0 are dropped, unit u is 700 - u."""
    dt = 0.004
    times = np.array([-1.0, 0.0, 0.0001, 0.004, 0.0041, 0.012, 0.996, 0.9961, 0.5])
    units = np.array([700, 699, 698, 697, 696, 695, 694, 693, 0]) - 1
    keep = units > 0
    spikes = bin_events(times[keep], 700 - units[keep], steps=250, size=700, dt=dt)
    assert spikes.shape == (250, 700) and spikes.dtype == np.uint8
    expected = [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (3, 6), (249, 7)]
    assert [tuple(place) for place in np.argwhere(spikes).tolist()] == expected


def test_every_edge_of_a_bin_is_on_its_side_whatever_rounding_does():
    """0.003 / 0.001, for one, is more than 3 in floating point."""
    edges = np.arange(200) * 0.001
    channels = np.zeros(200, int)
    right = bin_events(edges, channels, steps=200, size=1, dt=0.001, counts=True)
    left = bin_events(edges, channels, steps=200, size=1, dt=0.001, counts=True, closed="left")
    np.testing.assert_array_equal(right, np.ones((200, 1)))
    np.testing.assert_array_equal(left, np.ones((200, 1)))
    after = np.nextafter(edges, 1)
    assert bin_events(after, channels, steps=200, size=1, dt=0.001, counts=True)[:, 0].tolist() == [0] + [1] * 199
    np.testing.assert_array_equal(
        bin_events(after, channels, steps=200, size=1, dt=0.001, counts=True, closed="left"), np.ones((200, 1))
    )


@given(st.lists(st.tuples(st.integers(-3, 40), st.integers(0, 2)), max_size=30), st.sampled_from(["left", "right"]))
def test_binning_is_what_a_loop_finds(events, closed):
    """Times in quarters of a bin, so that edges are met."""
    times, channels = np.array([t / 4 for t, _ in events]), np.array([c for _, c in events], int)
    counts = np.zeros((8, 3), int)
    for time, channel in zip(times, channels, strict=True):
        number = max(0, math.ceil(time) if closed == "right" else math.floor(time))
        if number < 8:
            counts[number, channel] += 1
    arguments = {"steps": 8, "size": 3, "dt": 1.0, "closed": closed}
    np.testing.assert_array_equal(bin_events(times, channels, counts=True, **arguments), counts)
    np.testing.assert_array_equal(bin_events(times, channels, **arguments), counts > 0)


REFUSED = {
    "a negative rate": (lambda: poisson(jr.key(0), jnp.array([5.0, -1.0])), r"`poisson\(rate=...\)` .*Hz, got -1"),
    "a rate that is NaN": (lambda: poisson(jr.key(0), jnp.array([jnp.nan])), r"negative or NaN.*got nan"),
    "no step": (lambda: poisson(jr.key(0), jnp.ones(1), dt=0.0), r"`poisson\(dt=...\)` must be positive and finite"),
    "a value above 1": (lambda: latency(jnp.array([0.5, 1.5]), 4), r"`latency\(values=...\)` .* 0 and 1, got 1\.5"),
    "a value below 0": (lambda: latency(jnp.array([-0.1]), 4), r"between 0 and 1, got -0\.1"),
    "no steps": (lambda: latency(jnp.ones(1), 0), r"`latency\(steps=...\)` must be an integer of at least 1, got 0"),
    "one neuron": (lambda: population(jnp.ones(1), 1), r"`population\(neurons=...\)` .* at least 2, got 1"),
    "no range": (lambda: population(jnp.ones(1), 3, 1.0, 1.0), r"`high` must be above `low`, got 1\.0 and 1\.0"),
    "no width": (lambda: population(jnp.ones(1), 3, width=-1.0), r"`population\(width=...\)` must be positive"),
    "a negative level": (lambda: threshold(jnp.ones(1), -0.1), r"`threshold\(level=...\)` must not be negative"),
    "no rise": (lambda: level_crossing(jnp.ones((2, 1)), 0.0), r"`level_crossing\(step=...\)` must be positive"),
    "no time": (lambda: level_crossing(jnp.ones((0, 1)), 0.1), r"without a time step"),
}
EVENTS = (np.array([0.5, 1.0]), np.array([0, 1]))
BINNING = {
    "a channel for each time": ({"channels": np.array([0])}, r"got 2 times but 1 channels"),
    "a channel too many": ({"size": 1}, r"an event in channel 1, but there are channels 0 to 0"),
    "a channel below 0": ({"channels": np.array([0, -2])}, r"an event in channel -2"),
    "a time that is NaN": ({"times": np.array([0.5, np.nan])}, r"a time that is NaN"),
    "no bins": ({"steps": 0}, r"`bin_events\(steps=...\)` must be an integer of at least 1"),
    "no channels": ({"size": 0}, r"`bin_events\(size=...\)` must be an integer of at least 1"),
    "no length": ({"dt": -1.0}, r"`bin_events\(dt=...\)` must be positive"),
    "another side": ({"closed": "both"}, r"must be 'left' or 'right', got 'both'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("case", BINNING)
def test_bad_events_are_refused(case):
    changes, message = BINNING[case]
    arguments = {"times": EVENTS[0], "channels": EVENTS[1], "steps": 3, "size": 2, "dt": 1.0} | changes
    with pytest.raises(ValueError, match=message):
        bin_events(arguments.pop("times"), arguments.pop("channels"), **arguments)


def test_values_are_not_looked_at_while_compiling():
    assert jax.jit(lambda rate: poisson(jr.key(0), rate))(-jnp.ones(3)).tolist() == [0, 0, 0]
