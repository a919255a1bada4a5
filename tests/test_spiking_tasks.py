"""Tasks of spiking networks, from made-up trials to recorded data."""

import builtins
import collections
import io
import itertools
import math
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retrograde.data import DataError, SpokenClips
from retrograde.losses import cross_entropy, half_squared_error
from retrograde.recipes._components import parameter_model
from retrograde.tasks import (
    ECG,
    NMNIST,
    CopyRepeat,
    EvidenceAccumulation,
    PatternGeneration,
    Recorded,
    SpokenDigits,
    StoreRecall,
    Trials,
    _spoken,
    decision_error,
)
from retrograde.testing import check_task

RANDOM = np.random.RandomState(0)
WAVES = RANDOM.uniform(-1, 1, (9, 6, 2))
EXAMPLES = {
    "pattern": PatternGeneration(inputs=5, outputs=2, steps=40, periods=(20, 13), rate=200.0),
    "evidence": EvidenceAccumulation(cues=3, cue=4.0, silence=2.0, delay=6.0, recall=4.0, group=2, dt=2.0),
    "store and recall": StoreRecall(symbols=5, symbol=2.0, group=2, rate=300.0, expected_delay=2.0),
    "copy": CopyRepeat(symbols=3, shortest=2, longest=4, repeats=2),
    "recorded classes": Recorded.from_arrays(
        WAVES[:5] > 0, np.array([0, 2, 1, 0, 1]), test=(WAVES[5:] > 0.3, np.array([1, 0, 2, 2]))
    ),
    "recorded values": Recorded.from_arrays(
        WAVES[:5], WAVES[:5, 2:], np.arange(20).reshape(5, 4) % 5, validation=(WAVES[5:], WAVES[5:, :4])
    ),
}

# Step by step, JAX compiles every operation for itself: seconds for each new shape.
take = eqx.filter_jit(lambda task, index, split="train": task.take(index, split))


def folder_of(name: str, file: str) -> Path:
    """The folder with a data set; a test that asks for it is skipped where it is absent."""
    root = os.environ.get("RETROGRADE_DATA")
    if not root:
        pytest.skip(f"RETROGRADE_DATA is not set: no {file}")
    for folder in (Path(root) / name, Path(root)):
        if (folder / file).is_file():
            return folder
    pytest.skip(f"no {file} in RETROGRADE_DATA")


@pytest.fixture(scope="module")
def ecg() -> ECG:
    folder_of("ecg", "QTDB_train.mat")
    return ECG()


@pytest.fixture(scope="module")
def spoken() -> SpokenDigits:
    folder_of("fsdd", "fsdd.npz")
    return SpokenDigits(bands=20, answer="every")


@pytest.fixture(scope="module")
def nmnist() -> NMNIST:
    folder_of("nmnist", "nmnist_small.npz")
    return NMNIST(dt=20.0, steps=15)


@pytest.mark.parametrize("name", EXAMPLES)
def test_our_tasks_keep_the_contract(name):
    check_task(EXAMPLES[name])


@pytest.mark.parametrize("name", ["evidence", "store and recall", "copy", "recorded classes"])
def test_float32_gives_the_same_trials(name):
    index = jnp.arange(3, dtype=jnp.int32)
    double = take(EXAMPLES[name], index, "test")
    with jax.enable_x64(False):
        single = take(EXAMPLES[name], index, "test")
    assert single.inputs.dtype == single.mask.dtype == jnp.float32
    for one, other in zip(jax.tree.leaves(single), jax.tree.leaves(double), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["pattern_generation", "store_recall", "evidence_accumulation", "copy_repeat"])
def test_recipes_may_set_every_argument(name):
    assert {"seed"} < set(parameter_model("tasks", name).model_fields)
    assert set(parameter_model("tasks", "recorded").model_fields) >= {"path", "loss", "classes"}


# Pattern generation.


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_the_pattern_starts_at_0_and_its_largest_value_is_1(seed):
    trials = take(PatternGeneration(inputs=3, outputs=2, seed=seed), jnp.zeros(1, int))
    curve = np.asarray(trials.targets[:, 0])
    assert curve.shape == (1000, 2) and trials.inputs.shape == (1000, 1, 3)
    np.testing.assert_array_equal(curve[0], [0, 0])
    np.testing.assert_allclose(np.abs(curve).max(axis=0), [1, 1], rtol=1e-12)


def test_the_pattern_is_made_of_whole_cycles_of_the_published_waves():
    """Periods of 1000, 500, 333 and 200 steps make 1, 2, 3 and 5 cycles, and nothing else, in the spectrum."""
    curve = np.asarray(PatternGeneration().curve[:, 0])
    assert abs(curve[-1] - curve[0]) < 1e-12  # The last step is the first of the next turn.
    power = np.abs(np.fft.rfft(curve[:-1])) ** 2
    waves = [1, 2, 3, 5]
    assert power[waves].min() > 1e-3 * power[waves].max()
    others = np.delete(power, [0, *waves])
    assert others.max() < 1e-20 * power[waves].max()


def test_amplitudes_of_the_pattern_are_within_four_to_one():
    """Drawn from U(0.5, 2): of one curve, none is more than four times another."""
    for seed in range(20):
        spectrum = np.abs(np.fft.rfft(np.asarray(PatternGeneration(inputs=1, seed=seed).curve[:-1, 0])))[[1, 2, 3, 5]]
        assert spectrum.max() < 4 * spectrum.min()


def test_the_noise_that_drives_the_pattern_is_frozen_and_at_its_rate():
    task = PatternGeneration()
    trials = take(task, jnp.zeros(2, int), "test")
    np.testing.assert_array_equal(trials.inputs[:, 0], trials.inputs[:, 1])
    np.testing.assert_array_equal(trials.inputs[:, 0], task.spikes)
    mean = float(trials.inputs.mean())
    assert abs(mean - 0.05) < 4 * (0.05 * 0.95 / 100_000) ** 0.5
    assert set(np.unique(task.spikes)) == {0, 1}
    other = PatternGeneration(seed=1)
    assert not np.array_equal(other.spikes, task.spikes) and np.abs(other.curve - task.curve).max() > 0.1
    # Golden: `numpy.random.RandomState(0).uniform(size=6) < 0.5`, a stream that NumPy has promised never to change.
    assert PatternGeneration(inputs=6, rate=500.0).spikes[0].tolist() == [0, 0, 0, 0, 1, 0]


def test_the_published_loss_is_the_number_of_steps_times_ours():
    trials = take(PatternGeneration(inputs=2), jnp.zeros(1, int))
    outputs = 0.3 * trials.targets + 0.1
    published = 0.5 * np.sum((np.asarray(outputs) - np.asarray(trials.targets)) ** 2)
    np.testing.assert_allclose(1000 * half_squared_error(outputs, trials), published, rtol=1e-12)


# Evidence accumulation.


@pytest.fixture(scope="module")
def evidence() -> tuple[EvidenceAccumulation, np.ndarray, np.ndarray]:
    """The published task: 200 trials, the spikes of each group in each step, and the labels."""
    task = EvidenceAccumulation(seed=3)
    trials = take(task, jnp.arange(200))
    assert trials.inputs.shape == (2250, 200, 40) and set(np.unique(trials.inputs)) == {0.0, 1.0}
    assert trials.targets.shape == (150, 200)
    assert (np.asarray(trials.targets) == np.asarray(trials.targets[:1])).all() and np.asarray(trials.mask).all()
    return task, np.asarray(trials.inputs).reshape(2250, 200, 4, 10), np.asarray(trials.targets[0])


def sides(spikes: np.ndarray) -> np.ndarray:
    """The side of each cue, 0 left or 1 right, by the spikes: 40 are expected of its group, none of the other."""
    windows = [spikes[50 + 150 * k : 150 + 150 * k, :, :2].sum(axis=(0, 3)) for k in range(7)]
    counts = np.stack(windows)  # cue trial side
    assert ((counts > 0).sum(axis=2) == 1).all()
    return counts.argmax(axis=2)


def test_cues_come_when_they_should_and_nothing_else_does(evidence):
    _, spikes, _ = evidence
    in_cue = np.zeros(2250, bool)
    for k in range(7):
        in_cue[50 + 150 * k : 150 + 150 * k] = True
    assert in_cue.sum() == 700 and np.flatnonzero(in_cue).max() == 1049
    assert spikes[~in_cue][:, :, :2].sum() == 0
    first, last = spikes[in_cue][:, :, :2].sum(axis=(1, 2, 3))[[0, -1]]
    assert first > 0 and last > 0
    assert spikes[:2100, :, 2].sum() == 0 and spikes[2100].sum() > 0


def test_groups_fire_at_40_40_and_10_hz(evidence):
    """Each within four standard errors of its mean."""
    _, spikes, _ = evidence
    cues = spikes[:1050].reshape(7, 150, 200, 4, 10)[:, 50:, :, :2].sum(axis=3)
    for part, rate in ((cues, 40), (spikes[2100:, :, 2], 40), (spikes[:, :, 3], 10)):
        chance = rate / 1000
        assert abs(part.mean() - chance) < 4 * (chance * (1 - chance) / part.size) ** 0.5


def test_the_answer_is_where_more_cues_were(evidence):
    task, spikes, label = evidence
    right = sides(spikes).sum(axis=0)
    np.testing.assert_array_equal(label, right > 3)
    assert (task.inputs, task.outputs, task.steps, task.target_steps) == (40, 2, 2250, 150)


def test_labels_are_balanced_and_cues_agree_as_often_as_they_should():
    """With p = 0.3 two cues are on the same side with probability 0.58, and the label is the likely side's in 0.874."""
    task = EvidenceAccumulation(cue=1.0, silence=0.0, delay=0.0, recall=1.0, group=1, cue_rate=1000.0, noise_rate=0.0)
    trials = take(task, jnp.arange(4000))
    side = np.asarray(trials.inputs[:7, :, 1])
    np.testing.assert_array_equal(side, 1 - np.asarray(trials.inputs[:7, :, 0]))
    assert abs(np.mean(trials.targets) - 0.5) < 4 * 0.5 / 4000**0.5
    same = np.mean([side[i] == side[j] for i, j in itertools.combinations(range(7), 2)], axis=0)
    assert abs(same.mean() - 0.58) < 4 * same.std() / 4000**0.5
    balance = np.abs(side.sum(axis=0) - 3.5)
    expected = {}
    for count in range(8):
        chance = math.comb(7, count) * (0.3**count * 0.7 ** (7 - count) + 0.7**count * 0.3 ** (7 - count)) / 2
        expected[abs(count - 3.5)] = expected.get(abs(count - 3.5), 0) + chance
    for value, chance in expected.items():
        assert abs(np.mean(balance == value) - chance) < 4 * (chance * (1 - chance) / 4000) ** 0.5


def test_without_a_minority_all_cues_are_on_one_side():
    task = EvidenceAccumulation(
        cues=5, cue=1.0, silence=0.0, delay=0.0, recall=1.0, group=1, cue_rate=1000.0, minority=0.0
    )
    right = np.asarray(take(task, jnp.arange(40)).inputs[:5, :, 1]).sum(axis=0)
    assert set(right) == {0.0, 5.0}


def test_a_decision_is_taken_by_the_mean_over_what_counts():
    targets = jnp.array([[1, 0, 1], [1, 0, 0], [1, 0, 0]])
    mask = jnp.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.5, 0.0]])
    outputs = jnp.zeros((3, 3, 2))
    outputs = outputs.at[:, 0, 1].set(jnp.array([-1.0, -1.0, 5.0]))  # right on average, in one of three steps
    outputs = outputs.at[:, 1, 1].set(jnp.array([jnp.nan, 1.0, -1.0]))  # wrong, by the weights
    outputs = outputs.at[:, 2, 1].set(9.0)  # does not count
    trials = Trials(jnp.zeros((3, 3, 1)), targets, mask)
    assert float(decision_error(outputs, trials)) == 0.5
    assert float(decision_error(outputs.at[1, 1, 1].set(-1.0), trials)) == 0.0
    assert float(decision_error(outputs, Trials(trials.inputs, targets, 0 * mask))) == 0.0
    with pytest.raises(ValueError, match=r"needs class numbers, got targets of dtype float64"):
        decision_error(outputs, Trials(trials.inputs, outputs, mask))
    with pytest.raises(ValueError, match=r"\(2, 3\) but targets of shape \(3, 3\)"):
        decision_error(outputs[1:], trials)
    with pytest.raises(ValueError, match=r"`decision_error\(window=2\)` must divide the 3 steps"):
        decision_error(outputs, trials, window=2)


def test_every_recall_is_a_decision():
    task = StoreRecall(symbol=3.0)
    trials = task.take(jnp.arange(30))
    right = 2.0 * jax.nn.one_hot(trials.targets, 2)
    noise = jnp.zeros_like(right).at[::3].set(-1.5 * right[::3])  # one step in three says little
    assert float(decision_error(right + noise, trials, window=3)) == 0.0
    counts = np.asarray(trials.mask).reshape(-1, 3, 30)
    recalls = counts[:, 0].astype(bool)
    assert (counts == counts[:, :1]).all() and recalls.sum(axis=0).max() > 1  # whole symbols, several in a trial
    first = recalls & (np.cumsum(recalls, axis=0) == 1)
    spoilt = jnp.where(np.repeat(first, 3, axis=0)[..., None], -right, right)
    assert abs(float(decision_error(spoilt, trials, window=3)) - first.sum() / recalls.sum()) < 1e-12


# Store and recall.

PLAIN = {"symbol": 1.0, "group": 1, "rate": 1000.0}  # One step for a symbol, and every spike for sure.


def parsed(task: StoreRecall, number: int) -> list[tuple[str, Trials]]:
    """Each trial in letters: 0, 1, S0 and S1 (store, with a bit), R; its own grammar is checked on the way."""
    trials = take(task, jnp.arange(number))
    letters = {(1, 0, 0, 0): "0", (0, 1, 0, 0): "1", (1, 0, 1, 0): "S0", (0, 1, 1, 0): "S1", (0, 0, 0, 1): "R"}
    rows = np.asarray(trials.inputs).astype(int)
    return [
        ([letters[tuple(step)] for step in rows[:, i]], np.asarray(trials.targets[:, i]), np.asarray(trials.mask[:, i]))
        for i in range(number)
    ]


def test_store_and_recall_alternate_and_the_bit_shown_with_store_is_asked_for():
    task = StoreRecall(**PLAIN)
    inverted, bits = [], []
    for sequence, targets, mask in parsed(task, 300):
        signals = [symbol[0] for symbol in sequence if symbol[0] in "SR"]
        assert signals == ["S", "R"] * (len(signals) // 2) + ["S"] * (len(signals) % 2) and "R" in signals
        held = None
        for position, symbol in enumerate(sequence):
            if symbol[0] == "S":
                held = int(symbol[1])
                assert sequence[position + 1] in "01"
                inverted.append(int(sequence[position + 1]) != held)
            elif symbol == "R":
                assert targets[position - 2] == held and mask[position - 2] == 1
            else:
                bits.append(int(symbol))
                assert position < 2 or mask[position - 2] == 0
        np.testing.assert_array_equal(mask, np.array(sequence[2:]) == "R")
    for coins in (inverted, bits):
        assert abs(np.mean(coins) - 0.5) < 4 * 0.5 / len(coins) ** 0.5


def test_sequences_have_the_probabilities_of_drawing_until_one_is_valid():
    """Every pattern of five symbols, by enumeration; each frequency within 4.5 standard errors."""
    task = StoreRecall(symbols=5, expected_delay=2.0, **PLAIN)
    chances = {}
    for signals in itertools.product([False, True], repeat=5):
        letters, holds = [], False
        for is_signal in signals:
            letters.append(("R" if holds else "S") if is_signal else ".")
            holds = holds != is_signal
        pattern = "".join(letters)
        if "R" in pattern and "SR" not in pattern and not pattern.endswith("S"):
            chances[pattern] = (1 / 3) ** sum(signals) * (2 / 3) ** (5 - sum(signals))
    total = sum(chances.values())
    drawn = parsed(task, 3000)
    counts = collections.Counter("".join(s[0] if s[0] in "SR" else "." for s in sequence) for sequence, _, _ in drawn)
    assert set(counts) == set(chances) and len(chances) > 5
    for pattern, chance in chances.items():
        p = chance / total
        assert abs(counts[pattern] / 3000 - p) < 4.5 * (p * (1 - p) / 3000) ** 0.5, pattern


def test_symbols_are_shown_for_their_time_by_their_neurons_at_their_rate():
    task = StoreRecall()
    assert (task.steps, task.inputs, task.target_steps) == (2400, 100, 2000)
    trials = take(task, jnp.arange(40))
    groups = np.asarray(trials.inputs).reshape(12, 200, 40, 4, 25).sum(axis=(1, 4))  # symbol trial group
    is_active = groups > 0
    assert set(is_active.sum(axis=2).ravel()) == {1, 2}  # "Store" comes with a bit.
    chance = 0.05
    mean = groups[is_active].mean() / 5000
    assert abs(mean - chance) < 4 * (chance * (1 - chance) / (5000 * is_active.sum())) ** 0.5
    np.testing.assert_array_equal(trials.mask, np.repeat(is_active[2:, :, 3], 200, axis=0))


# Copy and repeat.


def test_copies_by_hand():
    task = CopyRepeat(symbols=3, shortest=2, longest=4, repeats=2)
    assert (task.inputs, task.outputs, task.steps, task.target_steps) == (6, 4, 15, 11)
    trials = take(task, jnp.arange(200))
    seen = collections.Counter()
    for i in range(200):
        x = np.asarray(trials.inputs[:, i])
        (end,) = np.flatnonzero(x[:, 4:].any(axis=1))
        length, repeats = end - 1, 1 + int(x[end, 4:].argmax())
        seen[length, repeats] += 1
        symbols = [int(row.argmax()) for row in x[1:end, :3]]
        expected = np.zeros((15, 6))
        expected[0, 3], expected[end, 3 + repeats] = 1, 1
        expected[np.arange(1, end), symbols] = 1
        np.testing.assert_array_equal(x, expected)
        answer = [*(symbols * repeats), 3]
        counts = np.asarray(trials.mask[:, i]).astype(bool)
        first = end + 1 - (15 - 11)
        np.testing.assert_array_equal(np.flatnonzero(counts), np.arange(first, first + len(answer)))
        np.testing.assert_array_equal(np.asarray(trials.targets[:, i])[counts], answer)
    assert set(seen) == set(itertools.product([2, 3, 4], [1, 2])) and min(seen.values()) > 15  # 33 expected
    guess = cross_entropy(jnp.zeros((11, 200, 4)), trials)
    np.testing.assert_allclose(guess, math.log(4), rtol=1e-12)


# The electrocardiogram.


def test_ecg_is_the_published_data(ecg):
    assert {split: ecg.spikes[split].shape for split in ecg.splits} == {"train": (618, 1301, 4), "test": (141, 1301, 4)}
    trials = take(ecg, jnp.arange(618))
    assert (ecg.steps, ecg.inputs, ecg.outputs, ecg.target_steps) == (1301, 4, 6, 1291)
    assert trials.targets.shape == (1291, 618) and np.asarray(trials.mask).all()
    assert set(np.unique(trials.inputs)) == {0.0, 1.0} and not np.asarray(trials.inputs[-1, :, 0]).any()
    activity = np.asarray(trials.inputs).mean(axis=(0, 1))
    assert ((activity > 0.067) & (activity < 0.088)).all()
    # Published, over all 1,301 steps.
    whole = take(ECG(skip=0), jnp.arange(618)).targets
    shares = np.bincount(np.asarray(whole).ravel(), minlength=6) / whole.size
    np.testing.assert_allclose(shares, [0.207, 0.062, 0.058, 0.044, 0.302, 0.327], atol=5e-4)
    np.testing.assert_array_equal(whole[10:], trials.targets)


def test_unlabelled_steps_of_the_ecg_are_class_p_or_masked(ecg):
    masked = ECG(unlabelled="masked")
    for split, share in (("train", 0.0818), ("test", 0.1039)):
        index = jnp.arange(ecg.size(split))
        ours, theirs = take(masked, index, split), take(ecg, index, split)
        np.testing.assert_array_equal(ours.targets, theirs.targets)
        left_out = np.asarray(ours.mask) == 0
        assert np.mean(np.asarray(masked.waves[split]) == 255) == pytest.approx(share, abs=1e-4)
        assert left_out.any() and (np.asarray(theirs.targets)[left_out] == 0).all()
        np.testing.assert_array_equal(left_out.T, np.asarray(masked.waves[split][:, 10:]) == 255)


def test_ecg_keeps_the_contract(ecg):
    check_task(ecg)


# Spoken digits.


def tone(frequency: float, samples: int, size: float = 1000.0) -> np.ndarray:
    return np.round(size * np.sin(2 * np.pi * frequency * np.arange(samples) / 8000)).astype(np.int16)


def clips_of(*sounds: np.ndarray) -> SpokenClips:
    number = np.zeros(len(sounds), np.uint8)
    offsets = np.cumsum([0, *map(len, sounds)], dtype=np.int64)
    return SpokenClips(np.concatenate(sounds), offsets, number, number, number, ("nobody",), 8000)


def test_a_tone_is_heard_in_its_band_whatever_its_loudness():
    clips = clips_of(
        tone(1000, 1640), tone(1000, 1640, 30_000), tone(3000, 1640), np.zeros(400, np.int16), tone(500, 50)
    )
    levels, lengths = _spoken._features(clips, bands=20, frames=12)
    assert lengths.tolist() == [12, 12, 12, 3, 1]  # 1 + (samples - 200) // 80, at most 12, at least 1
    mel = np.linspace(2595 * np.log10(1 + 50 / 700), 2595 * np.log10(1 + 4000 / 700), 22)[1:-1]
    centres = 700 * (10 ** (mel / 2595) - 1)
    for clip, frequency in ((0, 1000), (1, 1000), (2, 3000), (4, 500)):
        assert levels[clip].max() == 255
        assert levels[clip, -1].argmax() == np.abs(centres - frequency).argmin()
    assert np.abs(levels[0].astype(int) - levels[1]).max() <= 2  # rounding of the samples
    assert not levels[3].any() and not levels[4, :-1].any()


def test_a_level_is_in_decibels_below_the_loudest():
    """A tone that becomes 20 dB softer: 255 / 3 parts lower of 60 dB."""
    sound = np.concatenate([tone(1000, 1600, 10_000), tone(1000, 1600, 1000)])
    levels, _ = _spoken._features(clips_of(sound), bands=20, frames=38)
    assert levels[0, 30].max() == pytest.approx(255 * 2 / 3, abs=1) and levels[0, 5].max() in (254, 255)


def test_bands_send_spikes_where_they_pass_thresholds(spoken):
    heard = SpokenDigits(encoding="spikes", bands=20, rise=0.25)
    index = jnp.arange(30)
    levels = np.asarray(take(spoken, index, "test").inputs)
    np.testing.assert_array_equal(np.round(255 * levels), np.asarray(spoken.levels["test"][:30]).transpose(1, 0, 2))
    spikes = np.asarray(take(heard, index, "test").inputs)
    passed = np.zeros((101, 30, 20), int)
    for threshold in (0.25, 0.5, 0.75, 1.0):
        passed[1:] += levels >= threshold - 1e-9
    np.testing.assert_array_equal(spikes[:, :, ::2], np.diff(passed, axis=0) > 0)
    np.testing.assert_array_equal(spikes[:, :, 1::2], np.diff(passed, axis=0) < 0)
    assert heard.inputs == 40 and 0.01 < spikes.mean() < 0.2


def test_spoken_digits_have_the_official_split(spoken):
    assert (spoken.size("train"), spoken.size("test"), spoken.steps) == (2700, 300, 100)
    assert np.bincount(spoken.digits["train"]).tolist() == [270] * 10
    assert np.bincount(spoken.digits["test"]).tolist() == [30] * 10
    assert sum(int(np.sum(np.asarray(length) == 100)) for length in spoken.lengths.values()) == 17
    levels = np.asarray(spoken.levels["test"])
    assert (levels.max(axis=(1, 2)) == 255).all()


def test_clips_end_with_the_trial_and_count_from_their_beginning(spoken):
    trials = take(spoken, jnp.arange(40))
    lengths = np.asarray(spoken.lengths["train"][:40])
    np.testing.assert_array_equal(np.asarray(trials.mask).sum(axis=0), lengths)
    before = np.arange(100)[:, None] < 100 - lengths
    np.testing.assert_array_equal(np.asarray(trials.mask) == 0, before)
    assert not np.asarray(trials.inputs)[before].any()
    last = take(SpokenDigits(bands=20), jnp.arange(40))
    np.testing.assert_array_equal(last.targets, trials.targets[-1:])
    np.testing.assert_array_equal(last.mask, np.ones((1, 40)))


def test_a_speaker_may_be_held_out(spoken):
    task = SpokenDigits(bands=20, held_out="theo")
    assert (task.size("train"), task.size("test")) == (2500, 500)
    assert np.bincount(task.digits["test"]).tolist() == [50] * 10
    whole = np.concatenate([np.asarray(task.levels[split]) for split in task.splits])
    same = np.concatenate([np.asarray(spoken.levels[split]) for split in spoken.splits])
    assert sorted(map(bytes, whole)) == sorted(map(bytes, same))


def test_what_is_heard_tells_the_digits_apart(spoken):
    """The nearest class mean of levels averaged over eighths of the clip; chance is 10 %."""
    features = {}
    for split in spoken.splits:
        levels, lengths = np.asarray(spoken.levels[split], float), np.asarray(spoken.lengths[split])
        features[split] = np.stack(
            [
                np.concatenate([part.mean(axis=0) for part in np.array_split(clip[100 - n :], 8)])
                for clip, n in zip(levels, lengths, strict=True)
            ]
        )
    digits = np.asarray(spoken.digits["train"])
    means = np.stack([features["train"][digits == digit].mean(axis=0) for digit in range(10)])
    distances = np.linalg.norm(features["test"][:, None] - means[None], axis=2)
    assert np.mean(distances.argmin(axis=1) == np.asarray(spoken.digits["test"])) > 0.6


def test_spoken_digits_keep_the_contract(spoken):
    check_task(spoken)


# N-MNIST.


def test_nmnist_is_the_small_part_with_the_labels_of_mnist(nmnist):
    assert (nmnist.size("train"), nmnist.size("test")) == (1000, 100)
    assert (nmnist.inputs, nmnist.steps, nmnist.outputs) == (578, 15, 10)
    # The first labels of MNIST, as on its page.
    assert nmnist.digits["train"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert nmnist.digits["test"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_events_of_nmnist_are_binned_pixel_by_pixel(nmnist):
    with np.load(folder_of("nmnist", "nmnist_small.npz") / "nmnist_small.npz") as file:
        begin, end = file["test_offsets"][3:5]
        x, y, t = (file[f"test_{name}"][begin:end].astype(int) for name in "xyt")
        p = np.unpackbits(file["test_p"])[begin:end]
    expected = np.zeros((15, 2, 17, 17))
    for i in range(len(x)):
        if t[i] < 300_000:
            expected[t[i] // 20_000, p[i], y[i] // 2, x[i] // 2] = 1
    trials = take(nmnist, jnp.array([3]), "test")
    np.testing.assert_array_equal(trials.inputs[:, 0], expected.reshape(15, 578))
    fine = take(NMNIST(dt=20.0, steps=15, pool=1, answer="every"), jnp.array([3]), "test")
    pixels = np.asarray(fine.inputs[:, 0]).reshape(15, 2, 17, 2, 17, 2)
    np.testing.assert_array_equal(pixels.max(axis=(3, 5)), expected)
    assert np.asarray(fine.targets).ravel().tolist() == [0] * 15 and fine.mask.shape == (15, 1)


def test_nmnist_keeps_the_contract(nmnist):
    check_task(nmnist)


# Data of one's own.


def test_recorded_trials_are_those_given():
    task = EXAMPLES["recorded values"]
    trials = take(task, jnp.array([4, 0]))
    np.testing.assert_array_equal(trials.inputs, WAVES[[4, 0]].transpose(1, 0, 2))
    np.testing.assert_array_equal(trials.targets, WAVES[[4, 0], 2:].transpose(1, 0, 2))
    np.testing.assert_array_equal(trials.mask, np.array([[1, 2, 3, 4], [0, 1, 2, 3]]).T)
    assert (task.splits, task.loss, task.outputs) == (("train", "validation"), "mean_squared_error", 2)
    classes = EXAMPLES["recorded classes"]
    assert classes.parts["train"].inputs.dtype == jnp.uint8 and classes.outputs == 3
    np.testing.assert_array_equal(take(classes, jnp.arange(4), "test").targets, [[1, 0, 2, 2]])


def test_recorded_classes_of_each_step_may_be_masked():
    labels = np.array([[0, 1, -1], [2, -1, 0]])
    task = Recorded.from_arrays(np.ones((2, 4, 1)), labels, labels >= 0, classes=5)
    check_task(task)
    trials = take(task, jnp.arange(2))
    assert task.outputs == 5 and task.target_steps == 3
    np.testing.assert_array_equal(np.asarray(trials.targets).T[labels >= 0], labels[labels >= 0])
    np.testing.assert_array_equal(np.asarray(trials.mask).T, labels >= 0)


def test_recorded_arrays_may_be_lists_and_values_may_be_probabilities():
    chances = np.full((2, 1, 4), 0.25)
    task = Recorded.from_arrays([[[1], [0]], [[0], [2]]], chances, loss="cross_entropy")
    check_task(task)
    assert take(task, jnp.array([1])).inputs[:, 0, 0].tolist() == [0, 2]


def test_recorded_npz_is_what_was_saved(tmp_path):
    x, y = WAVES > 0, np.arange(9) % 4
    file = tmp_path / "mine.npz"
    np.savez(file, inputs=x[:6], targets=y[:6], test_inputs=x[6:], test_targets=y[6:], test_mask=np.ones((3, 1)))
    for task in (Recorded.from_npz(file), Recorded(str(file))):
        assert task.splits == ("train", "test") and task.outputs == 4
        trials = take(task, jnp.arange(3), "test")
        np.testing.assert_array_equal(trials.inputs, x[6:].transpose(1, 0, 2))
        np.testing.assert_array_equal(trials.targets[0], y[6:])


X, Y = np.zeros((3, 4, 2)), np.array([0, 1, 2])


def array_file(array: np.ndarray) -> bytes:
    """What `numpy.save` writes."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


BAD = {
    "two axes": ((X[0], Y), r"`inputs` must have shape `trial time input`, got shape \(4, 2\)"),
    "empty": ((X[:0], Y[:0]), r"`inputs` is empty: .* is \(0, 4, 2\)"),
    "NaN": ((np.where(np.arange(2), X, np.nan), Y), r"`inputs` contains NaN or infinity, first at \[0, 0, 0\]"),
    "infinity": ((X + np.inf, Y), r"`inputs` contains NaN or infinity"),
    "words": ((X.astype(str), Y), r"`inputs` must be numbers, got dtype <U"),
    "ragged": (([[[1]], [[1], [2]]], Y[:2]), r"`inputs` is no array: .*Fill up trials|`inputs` is no array"),
    "fewer targets": ((X, Y[:2]), r"`targets` must be there for each of the 3 trials .* got shape \(2, 1\)"),
    "more steps": ((X, np.zeros((3, 5), int)), r"for 1 to 4 steps, .* got shape \(3, 5\)"),
    "fractions": ((X, Y / 2), r"`targets` must be class numbers .* got dtype float64, shape \(3,\)"),
    "integers of three axes": ((X, np.zeros((3, 1, 2), int)), r"got dtype int64, shape \(3, 1, 2\)"),
    "no class": ((X, Y - 1), r"`targets` has the class -1; classes are numbered from 0"),
    "targets NaN": ((X, np.full((3, 1, 2), np.nan)), r"`targets`, where the mask counts it, contains NaN"),
    "a mask of another shape": ((X, Y, np.ones(3)), r"`mask` must have shape `trial steps` = \(3, 1\), got \(3,\)"),
    "a negative mask": ((X, Y, -np.ones((3, 1))), r"`mask` has negative entries, such as -1"),
    "a mask of NaN": ((X, Y, np.full((3, 1), np.nan)), r"`mask` contains NaN"),
    "no target": ((X, Y, np.array([[1], [0], [1]])), r"`mask` is 0 at every step of trial 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused(case):
    arrays, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        Recorded.from_arrays(*arrays)


MISFITS = {
    "time": (
        lambda: Recorded.from_arrays(X, Y, test=(X[:, 1:], Y)),
        r"'test' has \(3, 2\) time steps and inputs, .*\(4, 2\)",
    ),
    "steps": (
        lambda: Recorded.from_arrays(X, Y, test=(X, np.zeros((3, 2), int))),
        r"'test' has \(2,\) steps with targets \(and outputs\), the training part \(1,\)",
    ),
    "a test class": (
        lambda: Recorded.from_arrays(X, 0 * Y, test=(X, Y)),
        r"'test' has the class 2, but the training part has only 0 to 0\. Give `classes=3`",
    ),
    "too few classes": (lambda: Recorded.from_arrays(X, Y, classes=2), r"the class 2, but `classes` is 2"),
    "classes of values": (lambda: Recorded.from_arrays(X, X, classes=2), r"is for class numbers, but .* are values"),
    "a loss of values": (
        lambda: Recorded.from_arrays(X, Y, loss="mean_squared_error"),
        r"`Recorded\(loss='mean_squared_error'\)` does not suit targets that are class numbers",
    ),
    "no loss": (lambda: Recorded.from_arrays(X, X, loss="hinge"), r"loss='hinge'\)` does not suit .* values"),
    "test inputs": (lambda: Recorded.from_arrays(X, Y, test=(X[0], Y)), r"`test_inputs` must have shape"),
    "test alone": (
        lambda: Recorded.from_arrays(X, Y, test=(X,)),
        r"`Recorded.from_arrays\(test=...\)` must be \(inputs",
    ),
    "nothing": (lambda: Recorded(), r"`Recorded` needs a file"),
    "another kind of file": (lambda: Recorded("mine.csv"), r"must end in \.npz, \.h5, \.hdf5, got 'mine.csv'"),
    "a split": (
        lambda: Recorded.from_arrays(X, Y).size("test"),
        r"no split 'test'; it has 'train'\. Give some with `Recorded.from_arrays\(\.\.\., test=",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_parts_that_do_not_fit_are_refused(case):
    call, message = MISFITS[case]
    with pytest.raises(ValueError, match=message):
        call()


BAD_FILES = {
    "missing": (lambda file: None, r"There is no file .*mine\.npz"),
    "empty": (lambda file: file.write_bytes(b""), r"mine\.npz is empty\. It must hold `inputs`"),
    "no archive": (lambda file: file.write_bytes(b"hello"), r"cannot be read as an \.npz file of plain arrays"),
    "one array": (lambda file: file.write_bytes(array_file(X)), r"cannot be read as an \.npz file of plain arrays"),
    "objects": (lambda file: np.savez(file, inputs=np.array([{}])), r"cannot be read as an \.npz file"),
    "no targets": (
        lambda file: np.savez(file, inputs=X, labels=Y),
        r"lacks targets; it holds inputs, labels\. It must",
    ),
    "half a test part": (
        lambda file: np.savez(file, inputs=X, targets=Y, test_inputs=X),
        r"lacks test_targets; it holds",
    ),
    "NaN": (lambda file: np.savez(file, inputs=X * np.nan, targets=Y), r"mine\.npz: `inputs` contains NaN"),
    "classes": (
        lambda file: np.savez(file, inputs=X, targets=0 * Y, test_inputs=X, test_targets=Y),
        r"mine\.npz: The part 'test' has the class 2",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused_by_name(case, tmp_path):
    spoil, message = BAD_FILES[case]
    spoil(tmp_path / "mine.npz")
    with pytest.raises(DataError, match=message) as caught:
        Recorded.from_npz(tmp_path / "mine.npz")
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    file = tmp_path / "mine.npz"
    np.savez_compressed(file, inputs=WAVES, targets=np.zeros(9, int))
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cannot be read"):
        Recorded.from_npz(file)


def test_without_h5py_the_message_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "h5py":
            raise ImportError("No module named 'h5py'")
        return real(name, *arguments, **keywords)

    (tmp_path / "mine.h5").write_bytes(b"x")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"needs h5py: pip install 'retrograde\[hdf5\]'"):
        Recorded(str(tmp_path / "mine.h5"))


def test_hdf5_with_plain_arrays(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["inputs"], file["targets"] = WAVES, np.arange(9) % 3
        file["test_inputs"], file["test_targets"] = WAVES, np.arange(9) % 2
    task = Recorded(str(tmp_path / "mine.h5"))
    np.testing.assert_array_equal(take(task, jnp.arange(9), "test").inputs, WAVES.transpose(1, 0, 2))
    (tmp_path / "bad.h5").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"bad\.h5 cannot be read as an HDF5 file"):
        Recorded.from_hdf5(tmp_path / "bad.h5")
    with h5py.File(tmp_path / "short.h5", "w") as file:
        file["inputs"] = WAVES
    with pytest.raises(DataError, match=r"short\.h5 lacks targets; it holds inputs"):
        Recorded.from_hdf5(tmp_path / "short.h5")


def test_hdf5_as_the_heidelberg_digits_have_it(tmp_path):
    h5py = pytest.importorskip("h5py")

    def write(name, times, units, labels):
        with h5py.File(tmp_path / name, "w") as file:
            for field, rows, dtype in (("times", times, "f8"), ("units", units, "i4")):
                data = file.create_dataset(f"spikes/{field}", (len(rows),), h5py.vlen_dtype(np.dtype(dtype)))
                for i, row in enumerate(rows):
                    data[i] = row
            file["labels"] = np.array(labels)

    write("train.h5", [[0.0, 0.004, 0.0041], [0.9]], [[3, 1, 0], [2]], [0, 4])
    write("test.h5", [[0.008]], [[3]], [2])
    task = Recorded.from_hdf5(tmp_path / "train.h5", tmp_path / "test.h5", steps=3, channels=4)
    assert task.outputs == 5 and task.splits == ("train", "test")
    spikes = np.asarray(take(task, jnp.arange(2)).inputs)
    assert [tuple(place) for place in np.argwhere(spikes).tolist()] == [(0, 0, 3), (1, 0, 1), (2, 0, 0)]
    assert np.argwhere(np.asarray(take(task, jnp.arange(1), "test").inputs)).tolist() == [[2, 0, 3]]
    with pytest.raises(DataError, match=r"train\.h5: trial 0: .*an event in channel 3, but there are channels 0 to 2"):
        Recorded.from_hdf5(tmp_path / "train.h5", channels=3)


class Sensor:
    """A data set as Tonic's: a list of events with labels, and the size of its sensor."""

    def __init__(self, items, sensor_size=(4, 3, 2)):
        self.items, self.sensor_size = items, sensor_size

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]


def events(*rows, names="txyp") -> np.ndarray:
    return np.array(list(rows), dtype=[(name, np.int64) for name in names])


SHORT = [(events((0, 3, 2, 0), (999, 3, 2, 0), (1000, 0, 1, 1), (5000, 0, 0, 0)), 1), (events((2999, 1, 0, 1)), 0)]


def test_tonic_events_by_hand():
    task = Recorded.from_tonic(Sensor(SHORT), Sensor(SHORT[:1]), steps=3, dt=1.0, counts=True)
    assert (task.inputs, task.outputs, task.steps, task.splits) == (24, 2, 3, ("train", "test"))
    check = np.asarray(take(task, jnp.arange(2)).inputs).reshape(3, 2, 2, 3, 4)  # time trial polarity row column
    expected = np.zeros_like(check)
    expected[0, 0, 0, 2, 3], expected[1, 0, 1, 1, 0], expected[2, 1, 1, 0, 1] = 2, 1, 1
    np.testing.assert_array_equal(check, expected)
    assert take(task, jnp.arange(2)).targets.tolist() == [[1, 0]]
    pooled = Recorded.from_tonic(Sensor(SHORT), steps=3, dt=1.0, pool=2)
    where = np.argwhere(np.asarray(take(pooled, jnp.arange(2)).inputs).reshape(3, 2, 2, 2, 2))
    assert where.tolist() == [[0, 0, 0, 1, 1], [1, 0, 1, 0, 0], [2, 1, 1, 0, 0]]


def test_tonic_events_of_a_cochlea_have_no_rows():
    task = Recorded.from_tonic([(events((1500, 5, 0), names="txp"), 0)], steps=2, dt=1.0, sensor_size=(8, 1, 1))
    assert np.argwhere(np.asarray(take(task, jnp.arange(1)).inputs)).tolist() == [[1, 0, 5]]


BAD_EVENTS = {
    "no size": (lambda: Recorded.from_tonic([], steps=1, dt=1.0), r"sensor_size=...\)` must be the numbers .*got None"),
    "no items": (lambda: Recorded.from_tonic(Sensor([]), steps=1, dt=1.0), r"'train': the data set is empty"),
    "no length": (
        lambda: Recorded.from_tonic(iter([]), steps=1, dt=1.0, sensor_size=(1, 1, 1)),
        r"the data set must have a length",
    ),
    "no label": (
        lambda: Recorded.from_tonic(Sensor([SHORT[0][0]]), steps=1, dt=1.0),
        r"'train', trial 0: an item must",
    ),
    "a word for a label": (
        lambda: Recorded.from_tonic(Sensor([(SHORT[0][0], "left")]), steps=1, dt=1.0),
        r"trial 0: an item must be \(events, label\) with a class number",
    ),
    "no fields": (
        lambda: Recorded.from_tonic(Sensor([(np.zeros((3, 4)), 0)]), steps=1, dt=1.0),
        r"trial 0: events must be a structured array with fields t, x, p",
    ),
    "out of the sensor": (
        lambda: Recorded.from_tonic(Sensor(SHORT, (3, 3, 2)), steps=1, dt=1.0),
        r"trial 0: events have x from 0 to 3, but `sensor_size` allows 0 to 2",
    ),
    "all too late": (
        lambda: Recorded.from_tonic(Sensor([(events((9_000_000, 0, 0, 0)), 0)]), steps=2, dt=1.0),
        r"no event lies within the 2 ms of a trial",
    ),
    "no time": (lambda: Recorded.from_tonic(Sensor(SHORT), steps=1, dt=0.0), r"from_tonic\(dt=...\)` must be positive"),
    "no steps": (
        lambda: Recorded.from_tonic(Sensor(SHORT), steps=0, dt=1.0),
        r"from_tonic\(steps=...\)` must be an int",
    ),
}


@pytest.mark.parametrize("case", BAD_EVENTS)
def test_bad_events_are_refused(case):
    call, message = BAD_EVENTS[case]
    with pytest.raises(ValueError, match=message):
        call()


REFUSED = {
    "period": (lambda: PatternGeneration(steps=100), r"has a period of 1000 steps, longer than the trial, `steps=100`"),
    "no wave": (lambda: PatternGeneration(periods=()), r"`PatternGeneration\(periods=...\)` is empty"),
    "short wave": (
        lambda: PatternGeneration(periods=(2,)),
        r"\(periods=...\)` must be an integer of at least 3, got 2",
    ),
    "rate": (lambda: PatternGeneration(rate=1001.0), r"\(rate=...\)` must lie between 0 and 1000 Hz.*got 1001"),
    "pattern dt": (lambda: PatternGeneration(dt=0.0), r"`PatternGeneration\(dt=...\)` must be positive"),
    "one trial": (lambda: EXAMPLES["pattern"].take(jnp.array([1])), r"trial 1 of 'train', .* numbered 0 to 0"),
    "even": (lambda: EvidenceAccumulation(cues=6), r"`EvidenceAccumulation\(cues=...\)` must be odd.*got 6"),
    "minority": (
        lambda: EvidenceAccumulation(minority=0.6),
        r"\(minority=...\)` must lie between 0 and 0\.5, got 0\.6",
    ),
    "cue": (
        lambda: EvidenceAccumulation(cue=0.0),
        r"`EvidenceAccumulation\(cue=...\)` must be at least 1 ms, got 0\.0",
    ),
    "delay": (
        lambda: EvidenceAccumulation(dt=4.0),
        r"`EvidenceAccumulation\(silence=50\)` must be a whole number of steps of dt=4 ms, got 12\.5 steps",
    ),
    "negative delay": (lambda: EvidenceAccumulation(delay=-1.0), r"\(delay=...\)` must be at least 0 ms, got -1"),
    "noise": (lambda: EvidenceAccumulation(noise_rate=-1.0), r"\(noise_rate=...\)` must lie between 0 and 1000 Hz"),
    "evidence dt": (lambda: EvidenceAccumulation(dt=-1.0), r"`EvidenceAccumulation\(dt=...\)` must be positive"),
    "two symbols": (lambda: StoreRecall(symbols=2), r"`StoreRecall\(symbols=...\)` .* at least 3, got 2"),
    "hurried": (
        lambda: StoreRecall(expected_delay=0.1),
        r"\(expected_delay=0\.1\)` makes hardly one trial in a hundred",
    ),
    "patient": (lambda: StoreRecall(expected_delay=500.0), r"hardly one trial in a hundred, of `symbols=12`"),
    "no delay": (lambda: StoreRecall(expected_delay=-1.0), r"\(expected_delay=-1\.0\)`"),
    "store dt": (lambda: StoreRecall(dt=0.0), r"`StoreRecall\(dt=...\)` must be positive"),
    "symbol": (lambda: StoreRecall(symbol=0.5), r"`StoreRecall\(symbol=0\.5\)` must be a whole number of steps"),
    "store rate": (lambda: StoreRecall(rate=2000.0), r"`StoreRecall\(rate=...\)` must lie between 0 and 1000 Hz"),
    "length": (lambda: CopyRepeat(shortest=6), r"must not exceed `longest`, got shortest=6 with longest=5"),
    "repeats": (lambda: CopyRepeat(repeats=0), r"`CopyRepeat\(repeats=...\)` must be an integer of at least 1, got 0"),
    "unlabelled": (lambda: ECG(unlabelled="TP"), r"`ECG\(unlabelled=...\)` must be 'P' or 'masked', got 'TP'"),
    "skip": (lambda: ECG(skip=-1), r"`ECG\(skip=...\)` must be an integer of at least 0"),
    "encoding": (lambda: SpokenDigits("mfcc"), r"\(encoding=...\)` must be 'mel' or 'spikes', got 'mfcc'"),
    "spoken answer": (lambda: SpokenDigits(answer="first"), r"\(answer=...\)` must be 'last' or 'every', got 'first'"),
    "bands": (lambda: SpokenDigits(bands=65), r"`SpokenDigits\(bands=...\)` must be at most 64.*got 65"),
    "rise": (lambda: SpokenDigits(rise=0.0), r"`SpokenDigits\(rise=...\)` must lie between 0\.02 and 1"),
    "pool": (lambda: NMNIST(pool=3), r"`NMNIST\(pool=...\)` must be 1 or 2, got 3"),
    "nmnist answer": (lambda: NMNIST(answer="all"), r"`NMNIST\(answer=...\)` must be 'last' or 'every'"),
    "nmnist dt": (lambda: NMNIST(dt=0.0), r"`NMNIST\(dt=...\)` must be positive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_arguments_that_only_the_data_can_refuse(ecg, spoken):
    with pytest.raises(ValueError, match=r"`ECG\(skip=1301\)` leaves no step with a target: a trial has 1301 steps"):
        ECG(skip=1301)
    with pytest.raises(ValueError, match=r"must be one of the speakers, george, .*, got 'nobody'"):
        SpokenDigits(held_out="nobody")
