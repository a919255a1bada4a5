"""Tasks: their contract, what is in a trial, and that `check_task` finds what is broken."""

import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from retrograde.data import load_digits
from retrograde.losses import cross_entropy, half_squared_error
from retrograde.network import Network, Projection
from retrograde.neurons import LeakyRate, Linear
from retrograde.synapses import Dense
from retrograde.tasks import (
    ECG,
    NMNIST,
    TASKS,
    AbstractTask,
    Add,
    CopyRepeat,
    DelayedRecall,
    EvidenceAccumulation,
    Mimic,
    Multisensory,
    PatternGeneration,
    Recorded,
    SequentialDigits,
    Sine,
    SpokenDigits,
    StoreRecall,
    Trials,
)
from retrograde.tasks._abstract import check_integer
from retrograde.testing import ContractError, check_task

EXAMPLES = {
    "rows": SequentialDigits(validation=100),
    "permuted": SequentialDigits("permuted", pool=4),
    "recall": DelayedRecall(symbols=3, delay=4, jitter=2, report_steps=2, distractors=True),
    "add": Add(t1=2, t2=3, steps=11, repeat=2),
    "add, drawn": Add(t1=3, t2=0, steps=8, deterministic=False),
    "mimic": Mimic(inputs=6, neurons=5, outputs=2, alpha=0.5, latents=3, steps=7, repeat=2),
    "sine": Sine(period=20, outputs=2),
    "multisensory": Multisensory(dt=100.0, fixation=200.0, stimulus=300.0, duration=1000.0, catch=2),
}


# Step by step, JAX compiles every operation for itself: seconds for each new shape.
take = eqx.filter_jit(lambda task, index, split="train": task.take(index, split))


@pytest.mark.parametrize("name", EXAMPLES)
def test_our_tasks_keep_the_contract(name):
    check_task(EXAMPLES[name])


@pytest.mark.parametrize("name", ["permuted", "recall", "add", "multisensory"])
def test_float32_gives_the_same_trials(name):
    index = jnp.arange(3, dtype=jnp.int32)
    double = take(EXAMPLES[name], index, "test")
    with jax.enable_x64(False):
        single = take(EXAMPLES[name], index, "test")
    assert single.inputs.dtype == single.mask.dtype == jnp.float32
    for one, other in zip(jax.tree.leaves(single), jax.tree.leaves(double), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("name", ["mimic", "sine"])
def test_float32_gives_the_same_trials_up_to_rounding(name):
    index = jnp.zeros(2, dtype=jnp.int32)
    double = take(EXAMPLES[name], index, "test")
    with jax.enable_x64(False):
        single = take(EXAMPLES[name], index, "test")
    assert single.inputs.dtype == single.targets.dtype == single.mask.dtype == jnp.float32
    np.testing.assert_array_equal(single.inputs, double.inputs)
    np.testing.assert_allclose(single.targets, double.targets, atol=2e-6)


def test_trials_without_end_are_series_by_seed_and_split_whatever_the_generator():
    index = jnp.arange(4, dtype=jnp.int32)

    def drawn(seed, split):
        return np.asarray(jr.key_data(Add(seed=seed).keys(index, split))).tobytes()

    keys = {(seed, split): drawn(seed, split) for seed in (0, 1) for split in ("train", "validation", "test")}
    assert len(set(keys.values())) == len(keys)
    with jax.default_prng_impl("rbg"):
        assert drawn(0, "train") == keys[0, "train"]


def test_registry_makes_each_task_from_plain_numbers():
    assert dict(TASKS) == {
        "sequential_digits": SequentialDigits,
        "delayed_recall": DelayedRecall,
        "add": Add,
        "mimic": Mimic,
        "multisensory": Multisensory,
        "sine": Sine,
        "pattern_generation": PatternGeneration,
        "store_recall": StoreRecall,
        "evidence_accumulation": EvidenceAccumulation,
        "copy_repeat": CopyRepeat,
        "ecg": ECG,
        "spoken_digits": SpokenDigits,
        "nmnist": NMNIST,
        "recorded": Recorded,
    }
    for task in TASKS.values():
        assert issubclass(task, AbstractTask) and task.__doc__.splitlines()[0].endswith(".")
        if task not in (ECG, SpokenDigits, NMNIST, Recorded):  # which need data
            assert isinstance(task(), AbstractTask)


class Echo(AbstractTask):
    """Gives the numbers of its trials."""

    count: int | None
    inputs: int = 1
    outputs: int = 1
    steps: int = 1
    target_steps: int = 1
    loss: str = "cross_entropy"
    splits: tuple[str, ...] = ("train",)

    def size(self, split="train"):
        return self.count

    def take(self, index, split="train"):
        return Trials(jnp.zeros((1, len(index), 1)), index[None], jnp.ones((1, len(index))))


def test_sample_draws_from_all_trials_with_equal_chance():
    numbers = np.asarray(Echo(7).sample(jr.key(3), 700).targets[0])
    counts = np.bincount(numbers)
    assert len(counts) == 7 and counts.min() > 70 and counts.max() < 130
    endless = np.asarray(Echo(None).sample(jr.key(3), 700).targets[0])
    assert endless.min() >= 0 and endless.max() > 2**30 and len(set(endless.tolist())) == 700


def test_trial_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"`SequentialDigits.take` was asked for trial 1000 of 'test', .* 0 to 999\."):
        EXAMPLES["rows"].take(jnp.array([3, 1000]), "test")
    with pytest.raises(ValueError, match=r"`Add.take` was asked for trial -1 of 'train', .* 0 or more\."):
        EXAMPLES["add"].take(jnp.array([3, -1]))
    with pytest.raises(ValueError, match=r"`DelayedRecall` has no split 'dev'; it has 'train', 'validation', 'test'\."):
        EXAMPLES["recall"].take(jnp.array([3]), "dev")


REFUSED = {
    "order": (
        lambda: SequentialDigits("columns"),
        r"`SequentialDigits\(order=...\)` must be one of 'rows', .*'columns'",
    ),
    "source": (
        lambda: SequentialDigits(source="cifar"),
        r"\(source=...\)` must be one of 'shipped', 'mnist', got 'cifar'",
    ),
    "pool": (lambda: SequentialDigits(pool=3), r"\(pool=...\)` must divide 28.*got 3"),
    "no pool": (lambda: SequentialDigits(pool=0), r"\(pool=...\)` must be an integer of at least 1, got 0"),
    "validation": (lambda: SequentialDigits(validation=15), r"\(validation=...\)` must be a multiple of 10.* got 15"),
    "all validation": (lambda: SequentialDigits(validation=4000), r"takes 400 images of each class, but .* only 400"),
    "no validation": (
        lambda: EXAMPLES["permuted"].size("validation"),
        r"no split 'validation'; it has 'train', 'test'\. Hold some out with `SequentialDigits\(validation=400\)`",
    ),
    "permutation seed": (
        lambda: SequentialDigits(permutation_seed=-1),
        r"\(permutation_seed=...\)` must be an integer",
    ),
    "symbols": (
        lambda: DelayedRecall(symbols=1),
        r"`DelayedRecall\(symbols=...\)` must be an integer of at least 2, got 1",
    ),
    "jitter": (lambda: DelayedRecall(delay=3, jitter=4), r"must not exceed the delay, got jitter=4 with delay=3"),
    "cue": (lambda: DelayedRecall(cue_steps=0), r"\(cue_steps=...\)` must be an integer of at least 1, got 0"),
    "lags": (lambda: Add(t1=4, t2=4), r"`Add\(t1=..., t2=...\)` must differ, got 4 twice"),
    "negative lag": (lambda: Add(t1=-1), r"`Add\(t1=...\)` must be an integer of at least 0, got -1"),
    "short": (lambda: Add(t1=1, t2=5, repeat=2, steps=10), r"`Add\(steps=10\)` leaves no step .* repeat = 10 steps"),
    "teacher": (lambda: Mimic(neurons=0), r"`Mimic\(neurons=...\)` must be an integer of at least 1, got 0"),
    "no seed": (lambda: Mimic(seed=-1), r"`Mimic\(seed=...\)` must be an integer of at least 0, got -1"),
    "leak": (lambda: Mimic(alpha=1.5), r"`Mimic\(alpha=...\)` .* must lie in \(0, 1\], got 1\.5"),
    "latents": (lambda: Mimic(latents=5), r"`Mimic\(latents=...\)` must divide the number of inputs, 32, .* got 5"),
    "period": (lambda: Sine(period=0), r"`Sine\(period=...\)` must be an integer of at least 1, got 0"),
    "harmonic": (lambda: Sine(harmonics=(0, 1, 2)), r"`Sine\(harmonics=...\)` must be an integer of at least 1, got 0"),
    "amplitudes": (
        lambda: Sine(harmonics=(1, 2)),
        r"must have as many entries, .* got \(1, 2\) and \(1\.0, 0\.5, 0\.25\)",
    ),
    "no wave": (lambda: Sine(harmonics=(), amplitudes=()), r"at least one, got \(\) and \(\)"),
    "too fast": (lambda: Sine(period=8), r"repeats 4 times in a period of 8 steps; it needs more than two"),
    "one trial": (lambda: EXAMPLES["sine"].take(jnp.array([1])), r"trial 1 of 'train', but they are numbered 0 to 0"),
    "fraction": (lambda: check_integer("Add", "steps", 3.5, 1), r"`Add\(steps=...\)` must be an integer .* got 3\.5"),
    "true": (lambda: check_integer("Add", "steps", True, 1), r"`Add\(steps=...\)` must be an integer .* got True"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


# Digits.


def test_rows_and_pixels_are_the_images():
    images, labels = load_digits().train_images[:6], load_digits().train_labels[:6]
    index = jnp.arange(6)
    rows = take(SequentialDigits("rows"), index)
    for trial in range(6):
        np.testing.assert_allclose(rows.inputs[:, trial], images[trial] / 255, rtol=1e-12)
    np.testing.assert_array_equal(rows.targets[0], labels)
    pixels = take(SequentialDigits("pixels"), index)
    np.testing.assert_allclose(pixels.inputs[:, 2, 0], images[2].reshape(-1) / 255, rtol=1e-12)


def test_permuted_pixels_share_one_permutation_given_by_its_seed():
    index = jnp.arange(3)
    pixels = np.asarray(take(SequentialDigits("pixels"), index).inputs)
    task = SequentialDigits("permuted", permutation_seed=7)
    permutation = np.asarray(task.permutation)
    assert sorted(permutation.tolist()) == list(range(784)) and permutation[:4].tolist() != [0, 1, 2, 3]
    np.testing.assert_array_equal(take(task, index).inputs, pixels[permutation])
    assert not np.array_equal(SequentialDigits("permuted", permutation_seed=8).permutation, permutation)
    # Golden: `numpy.random.RandomState(7).permutation(784)`, a stream that NumPy has promised never to change.
    assert permutation[:6].tolist() == [635, 159, 34, 763, 749, 540]


@pytest.mark.parametrize(("order", "shape"), [("rows", (7, 1, 7)), ("pixels", (49, 1, 1))])
def test_pooled_pixels_are_means_of_squares(order, shape):
    trials = take(SequentialDigits(order, pool=4), jnp.array([5]), "test")
    image = load_digits().test_images[5] / 255
    squares = [[image[4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean() for c in range(7)] for r in range(7)]
    assert trials.inputs.shape == shape
    np.testing.assert_allclose(trials.inputs.reshape(7, 7), squares, rtol=1e-12)


def test_validation_takes_the_last_of_each_class_out_of_training():
    task, digits = EXAMPLES["rows"], load_digits()
    assert (task.size("train"), task.size("validation"), task.size("test")) == (3900, 100, 1000)
    assert np.bincount(task.labels["validation"]).tolist() == [10] * 10
    threes = digits.train_images[digits.train_labels == 3]
    np.testing.assert_array_equal(task.images["validation"][task.labels["validation"] == 3], threes[-10:])
    np.testing.assert_array_equal(task.images["train"][task.labels["train"] == 3], threes[:-10])


def test_full_mnist_as_a_task(mnist_folder, monkeypatch):
    monkeypatch.setenv("RETROGRADE_DATA", str(mnist_folder))
    task = SequentialDigits(source="mnist", validation=5000)
    assert (task.size("train"), task.size("validation"), task.size("test")) == (55_000, 5_000, 10_000)


# Delayed recall.


def test_recall_by_hand():
    task = DelayedRecall(symbols=3, delay=2, cue_steps=2, report_steps=1)
    trials = take(task, jnp.arange(20))
    assert set(trials.targets[0].tolist()) == {0, 1, 2}
    for trial in range(20):
        symbol = np.eye(3)[trials.targets[0, trial]]
        expected = np.zeros((5, 5))
        expected[:2, :3], expected[:2, 3], expected[4, 4] = symbol, 1, 1
        np.testing.assert_array_equal(trials.inputs[:, trial], expected)
    np.testing.assert_array_equal(trials.mask, np.ones((1, 20)))


def test_recall_with_delays_that_vary_ends_by_the_mask():
    task = DelayedRecall(symbols=4, delay=5, jitter=3, report_steps=2, distractors=True)
    assert (task.steps, task.target_steps) == (8, 5)
    trials = take(task, jnp.arange(200))
    store, go = np.asarray(trials.inputs[:, :, 4]), np.asarray(trials.inputs[:, :, 5])
    np.testing.assert_array_equal(store.sum(axis=0), np.ones(200))
    np.testing.assert_array_equal(trials.mask, go[-5:])
    np.testing.assert_array_equal(go.sum(axis=0), np.full(200, 2))
    delays = go.argmax(axis=0) - 1
    assert set(delays.tolist()) == {2, 3, 4, 5}
    for trial, delay in enumerate(delays):
        shown = np.asarray(trials.inputs[:, trial, :4])
        assert shown[0].argmax() == int(trials.targets[0, trial])
        np.testing.assert_array_equal(shown.sum(axis=1), (np.arange(8) <= delay).astype(float))
    first_distractor = np.asarray(trials.inputs[1, :, :4]).argmax(axis=-1)
    assert 20 < np.sum(first_distractor == np.asarray(trials.targets[0])) < 80  # by chance, 50 expected


def test_guessing_costs_log_of_the_number_of_symbols():
    task = EXAMPLES["recall"]
    trials = take(task, jnp.arange(3, dtype=jnp.int32), "test")
    guess = jnp.zeros((task.target_steps, 3, task.outputs))
    np.testing.assert_allclose(cross_entropy(guess, trials), math.log(3), rtol=1e-12)


# Add.


@pytest.mark.parametrize("repeat", [1, 2])
def test_add_by_hand(repeat):
    task = Add(t1=2, t2=5, steps=11 * repeat, repeat=repeat)
    trials = take(task, jnp.arange(4))
    assert trials.targets.shape == (6 * repeat, 4, 2) and task.target_steps == 6 * repeat
    for trial in range(4):
        x = np.asarray(trials.inputs[::repeat, trial, 0])
        y = [0.5 + 0.5 * x[n - 2] - 0.25 * x[n - 5] for n in range(5, 11)]
        np.testing.assert_array_equal(trials.targets[:, trial, 0], np.repeat(y, repeat))
        np.testing.assert_array_equal(trials.inputs[:, trial, 0], np.repeat(x, repeat))
    np.testing.assert_array_equal(trials.inputs.sum(axis=-1), np.ones((11 * repeat, 4)))
    np.testing.assert_array_equal(trials.targets.sum(axis=-1), np.ones((6 * repeat, 4)))


def test_add_whose_last_coin_is_cut_short():
    long, short = Add(t1=1, t2=2, steps=9, repeat=3), Add(t1=1, t2=2, steps=8, repeat=3)
    index = jnp.arange(3)
    np.testing.assert_array_equal(take(short, index).inputs, take(long, index).inputs[:8])
    np.testing.assert_array_equal(take(short, index).targets, take(long, index).targets[:2])


# Derived by hand in the task's published description, where the plots show 0.66, 0.52 and 0.45.
PUBLISHED_LEVELS = {"nothing": 0.6616, "only_t2": 0.6277, "only_t1": 0.5192, "both": 0.4545}


def test_loss_levels_of_add_are_the_published_ones():
    levels = Add.loss_levels()
    assert list(levels) == list(PUBLISHED_LEVELS)
    for known, level in PUBLISHED_LEVELS.items():
        assert levels[known] == pytest.approx(level, abs=1e-4)


@pytest.mark.parametrize("deterministic", [True, False])
def test_loss_levels_are_what_the_best_answers_cost(deterministic):
    """Plays each best answer over many trials. Coins are fair, and so is the drawing of targets."""
    task = Add(t1=1, t2=3, steps=203, deterministic=deterministic)
    trials = take(task, jnp.arange(500))
    x = trials.inputs[:, :, 0]
    first, second = x[2:-1], x[:-3]
    answers = {
        "nothing": jnp.full_like(first, 5 / 8),
        "only_t2": 3 / 4 - second / 4,
        "only_t1": 3 / 8 + first / 2,
        "both": 1 / 2 + first / 2 - second / 4,
    }
    for known, y in answers.items():
        outputs = jnp.log(jnp.stack([y, 1 - y], axis=-1) + 1e-12)
        assert float(cross_entropy(outputs, trials)) == pytest.approx(Add.loss_levels()[known], abs=0.004)


# Mimic.


def test_the_teacher_has_the_published_distribution_of_weights():
    """Over forty teachers, each mean and s.d. within four standard errors."""
    teachers = [Mimic(inputs=20, neurons=50, outputs=40, teacher_seed=seed).teacher for seed in range(40)]
    for teacher in teachers[:3]:
        np.testing.assert_allclose(teacher["recurrent"] @ teacher["recurrent"].T, np.eye(50), atol=1e-13)
    published = {"input": 20**-0.5, "output": 50**-0.5, "bias": 0.1, "output_bias": 0.1}
    shapes = {"input": (50, 20), "output": (40, 50), "bias": (50, 1), "output_bias": (40, 1)}
    for name, sd in published.items():
        values = np.stack([teacher[name] for teacher in teachers])
        assert values.shape[1:] == shapes[name]
        assert abs(np.std(values) / sd - 1) < 4 / (2 * values.size) ** 0.5, name
        assert abs(np.mean(values)) < 4 * sd / values.size**0.5, name


def test_the_teacher_is_the_one_of_its_seed():
    first, other = Mimic(teacher_seed=0), Mimic(teacher_seed=1)
    # Golden: `numpy.random.RandomState(0).standard_normal()`, a stream that NumPy has promised never to change.
    np.testing.assert_allclose(first.teacher["input"][0, 0] * 32**0.5, 1.764052345967664, rtol=1e-15)
    assert all(np.abs(first.teacher[name] - other.teacher[name]).max() > 0.01 for name in first.teacher)
    index = jnp.arange(2)
    np.testing.assert_array_equal(take(first, index).inputs, take(other, index).inputs)


def test_rotations_of_the_teacher_are_even():
    """Without the sign correction of QR, the diagonal of the draws would be one-sided."""
    diagonals = [np.diag(Mimic(inputs=1, neurons=3, outputs=1, teacher_seed=i).teacher["recurrent"]) for i in range(60)]
    assert abs(np.mean(np.sign(diagonals))) < 0.3


def test_mimic_by_hand():
    task = EXAMPLES["mimic"]
    trials = take(task, jnp.arange(4))
    W = {name: np.asarray(value) for name, value in task.teacher.items()}
    for trial in range(4):
        z = np.zeros(5)
        for step in range(7):
            x = np.asarray(trials.inputs[step, trial])
            z = 0.5 * z + 0.5 * np.tanh(W["input"] @ x + W["recurrent"] @ z + W["bias"][:, 0])
            y = W["output"] @ z + W["output_bias"][:, 0]
            np.testing.assert_allclose(trials.targets[step, trial], y, atol=1e-14)


def test_the_inputs_of_mimic_are_fair_coins_each_on_its_channels_for_its_steps():
    task = Mimic(inputs=6, neurons=2, outputs=1, latents=3, steps=41, repeat=2)
    x = np.asarray(take(task, jnp.arange(300)).inputs)
    assert x.shape == (41, 300, 6) and set(np.unique(x)) == {0.0, 1.0}
    np.testing.assert_array_equal(x[:, :, ::2], x[:, :, 1::2])
    np.testing.assert_array_equal(x[:-1:2], x[1::2])
    coins = x[::2, :, ::2].reshape(-1, 3)
    assert np.abs(coins.mean(axis=0) - 0.5).max() < 4 * 0.5 / len(coins) ** 0.5
    signs = 2 * coins - 1
    assert np.abs(signs.T @ signs / len(coins) - np.eye(3)).max() < 4 / len(coins) ** 0.5
    assert np.abs((signs[300:] * signs[:-300]).mean()) < 4 / coins.size**0.5  # of two successive coins


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_a_network_with_the_teachers_weights_makes_no_error(alpha):
    task = Mimic(inputs=6, neurons=5, outputs=2, alpha=alpha, steps=9)
    parts = {name: Dense(value) for name, value in task.teacher.items()}
    network = Network(
        {"hidden": LeakyRate(5, "tanh", alpha=alpha, leak="activity"), "readout": Linear(2)},
        [
            Projection("input", "hidden", parts["input"]),
            Projection("hidden", "hidden", parts["recurrent"], delay=1),
            Projection("bias", "hidden", parts["bias"]),
            Projection("hidden", "readout", parts["output"]),
            Projection("bias", "readout", parts["output_bias"]),
        ],
        inputs=6,
        readout="readout",
    )
    trials = take(task, jnp.arange(3))
    np.testing.assert_allclose(eqx.filter_jit(network)(trials.inputs).outputs, trials.targets, atol=1e-14)


def test_the_best_constant_answer_to_mimic_costs_what_its_page_says():
    trials = take(Mimic(), jnp.arange(300))
    answer = jnp.broadcast_to(trials.targets.mean((0, 1), keepdims=True), trials.targets.shape)
    assert float(half_squared_error(answer, trials)) == pytest.approx(2.5, abs=0.05)


# Sine.


@pytest.mark.parametrize("period", [200, 400, 800, 1600, 9])
def test_sine_is_the_published_curve(period):
    """`sin(2πt/T) + 0.5 sin(4πt/T) + 0.25 sin(8πt/T)`; to answer 0 costs 0.328, whatever the period."""
    trials = take(Sine(period=period), jnp.zeros(2, int))
    u = 2 * np.pi * np.arange(1, period + 1) / period
    expected = np.sin(u) + 0.5 * np.sin(2 * u) + 0.25 * np.sin(4 * u)
    np.testing.assert_allclose(trials.targets, np.broadcast_to(expected[:, None, None], (period, 2, 1)), atol=1e-12)
    np.testing.assert_array_equal(trials.inputs, np.zeros((period, 2, 1)))
    assert float(half_squared_error(jnp.zeros_like(trials.targets), trials)) == pytest.approx(0.328, abs=5e-4)


def test_sine_of_other_waves_and_several_outputs():
    task = Sine(period=12, harmonics=(1, 3), amplitudes=(2.0, -0.5), outputs=3, cue=0.7)
    trials = take(task, jnp.zeros(1, int))
    for k in range(3):
        u = 2 * np.pi * (np.arange(1, 13) / 12 + k / 6)
        np.testing.assert_allclose(trials.targets[:, 0, k], 2 * np.sin(u) - 0.5 * np.sin(3 * u), atol=1e-14)
    np.testing.assert_array_equal(trials.inputs, np.full((12, 1, 1), 0.7))
    silent = half_squared_error(jnp.zeros_like(trials.targets), trials)
    np.testing.assert_allclose(silent, 3 / 4 * (2**2 + 0.5**2), rtol=1e-12)
    two = take(Sine(period=12, harmonics=(1,), amplitudes=(1.0,), outputs=2), jnp.zeros(1, int)).targets
    np.testing.assert_allclose(two[:, 0, 1], np.cos(2 * np.pi * np.arange(1, 13) / 12), atol=1e-14)


# `check_task` on tasks that are broken, each in one way.


class Small(AbstractTask):
    """Nine trials of four steps in two splits, correct unless something is mended for the worse."""

    data: dict[str, jax.Array]
    spoil: Callable = eqx.field(static=True, default=lambda trials, index: trials)
    inputs: int = eqx.field(static=True, default=2)
    outputs: int = eqx.field(static=True, default=3)
    steps: int = eqx.field(static=True, default=4)
    target_steps: int = eqx.field(static=True, default=2)
    loss: str = eqx.field(static=True, default="cross_entropy")
    splits: tuple[str, ...] = eqx.field(static=True, default=("train", "test"))
    sizes: dict[str, int | None] = eqx.field(static=True, default_factory=lambda: {"train": 9, "test": 9})
    targets: str = eqx.field(static=True, default="labels")

    def size(self, split="train"):
        if split not in self.sizes:
            raise ValueError(split)
        return self.sizes[split]

    def take(self, index, split="train"):
        self.size(split)
        inputs = jnp.moveaxis(self.data[split][index], 0, 1)
        shape = (self.target_steps, len(index))
        if self.targets == "labels":
            targets = jnp.broadcast_to((index % 3)[None], shape)
        else:
            targets = jnp.full((*shape, 3), 1 / 3)
        return self.spoil(Trials(inputs, targets, jnp.ones(shape)), index)


DATA = {"train": jr.normal(jr.key(0), (9, 4, 2)), "test": jr.normal(jr.key(1), (9, 4, 2))}


def spoil(**changes: Callable) -> Callable:
    """Changes fields of the trials without the check of shapes that their constructor has in tests."""

    def change(trials, index):
        for name, function in changes.items():
            value = function(getattr(trials, name), index)
            trials = eqx.tree_at(lambda trials, name=name: getattr(trials, name), trials, value)
        return trials

    return change


class Forgetful(Small):
    """Gives other trials each time: the fault that no function of `index` can have."""

    calls: ClassVar[list[int]] = []

    def take(self, index, split="train"):
        self.calls.append(1)
        trials = Small.take(self, index, split)
        return eqx.tree_at(lambda trials: trials.inputs, trials, trials.inputs + len(self.calls))


class KeyBlind(Small):
    def sample(self, key, batch, split="train"):
        return self.take(jnp.zeros(batch, int), split)


class KeyWaster(Small):
    calls: ClassVar[list[int]] = []

    def sample(self, key, batch, split="train"):
        self.calls.append(1)
        return Small.sample(self, jr.fold_in(key, len(self.calls)), batch, split)


class Guarded(Small):
    """Is data, but not as a field: a constant in the compiled program."""

    def take(self, index, split="train"):
        trials = Small.take(self, index, split)
        images = jnp.asarray(np.arange(20_000.0))
        return eqx.tree_at(lambda trials: trials.inputs, trials, trials.inputs + images[index][None, :, None])


class Lenient(Small):
    def size(self, split="train"):
        return self.sizes.get(split, 9)


class Abrupt(Small):
    def size(self, split="train"):
        return self.sizes[split]


class SameStream(AbstractTask):
    """Endless, but the same series in every split."""

    inputs: int = 1
    outputs: int = 2
    steps: int = 3
    target_steps: int = 1
    loss: str = "cross_entropy"
    splits: tuple[str, ...] = ("train", "test")

    def size(self, split="train"):
        if split not in self.splits:
            raise ValueError(split)

    def take(self, index, split="train"):
        self.size(split)
        inputs = jnp.sin(jnp.arange(3.0)[:, None] + index.astype(float)[None])[:, :, None]
        return Trials(inputs, (index % 2)[None], jnp.ones((1, len(index))))


def on_the_host(inputs, index):
    return inputs * float(index[0] + 1)


def jit_only(inputs, index):
    return inputs + 1.0 if isinstance(index, jax.core.Tracer) else inputs


def one_trial_only(inputs, index):
    return inputs + 1.0 if len(index) == 1 else inputs


BROKEN = {
    "no task": (lambda: {"steps": 3}, r"`dict` is not a task: derive it from"),
    "no inputs": (lambda: Small(DATA, inputs=0), r"`Small.inputs` must be a positive integer, got 0"),
    "too many targets": (lambda: Small(DATA, target_steps=5), r"`Small.target_steps` is 5, more than `Small.steps`, 4"),
    "loss": (
        lambda: Small(DATA, loss="hinge"),
        r"`Small.loss` is 'hinge', which is no loss; there are 'cross_entropy',",
    ),
    "splits": (lambda: Small(DATA, splits=("dev",)), r"`Small.splits` must be a tuple .* one of them 'train'"),
    "empty split": (lambda: Small(DATA, sizes={"train": 0}), r"`size` must give a positive .* got 0\. Leave an empty"),
    "no trials": (
        lambda: Small(DATA, lambda trials, index: trials.inputs),
        r"`take` must give `Trials`, got ArrayImpl",
    ),
    "inputs' shape": (
        lambda: Small(DATA, spoil(inputs=lambda x, index: jnp.moveaxis(x, 0, 1))),
        r"split 'train': `inputs` must have shape `time batch input` = \(4, 9, 2\), got \(9, 4, 2\)",
    ),
    "inputs' dtype": (
        lambda: Small(DATA, spoil(inputs=lambda x, index: x.astype(jnp.float32))),
        r"`inputs` must have JAX's default floating type, here float64, got float32\. Convert",
    ),
    "inputs infinite": (lambda: Small(DATA, spoil(inputs=lambda x, index: x / 0)), r"`inputs` contain NaN or infinity"),
    "mask's shape": (
        lambda: Small(DATA, spoil(mask=lambda x, index: x[:1])),
        r"`mask` must have shape `steps batch` = \(2, 9\), got \(1, 9\)",
    ),
    "mask's dtype": (lambda: Small(DATA, spoil(mask=lambda x, index: x.astype(int))), r"`mask` must be boolean or"),
    "mask negative": (lambda: Small(DATA, spoil(mask=lambda x, index: -x)), r"`mask` has entries that are negative"),
    "mask empty": (
        lambda: Small(DATA, spoil(mask=lambda x, index: x * (index != 4)[None].astype(float))),
        r"trial 4 has no target: its `mask` is 0 at every step",
    ),
    "targets' shape": (
        lambda: Small(DATA, spoil(targets=lambda x, index: x[:1])),
        r"`targets` of dtype int32 must have shape `steps batch` = \(2, 9\), got \(1, 9\)",
    ),
    "targets' number": (
        lambda: Small(DATA, spoil(targets=lambda x, index: x[:, :, :2]), targets="probabilities"),
        r"`targets` of dtype float64 must have shape `steps batch output` = \(2, 9, 3\), got \(2, 9, 2\)",
    ),
    "targets' dtype": (lambda: Small(DATA, loss="mean_squared_error"), r"int32, does not suit `mean_squared_error`"),
    "class": (lambda: Small(DATA, outputs=2), r"`targets` has classes outside 0 … 1; `outputs` is 2"),
    "no probabilities": (
        lambda: Small(DATA, spoil(targets=lambda x, index: 2 * x), targets="probabilities"),
        r"`targets` are not probabilities",
    ),
    "targets infinite": (
        lambda: Small(DATA, spoil(targets=lambda x, index: x / 0), loss="mean_squared_error", targets="values"),
        r"`targets` contain NaN or infinity",
    ),
    "forgetful": (lambda: Forgetful(DATA), r"`take` gives other trials when asked again"),
    "place": (
        lambda: Small(DATA, spoil(inputs=lambda x, index: x + jnp.arange(float(len(index)))[None, :, None])),
        r"a trial depends on its place in the batch",
    ),
    "order": (lambda: Small(DATA, spoil(inputs=lambda x, index: jnp.sort(x, axis=1))), r"depends on its place in the"),
    "company": (
        lambda: Small(DATA, spoil(inputs=lambda x, index: x - x.mean(axis=1, keepdims=True))),
        r"a trial depends on the others in the batch",
    ),
    "host": (lambda: Small(DATA, spoil(inputs=on_the_host)), r"depends on its place|cannot be compiled"),
    "host, constant": (
        lambda: Small(DATA, spoil(inputs=lambda x, index: x * float(jnp.sign(index[0] + 1)))),
        r"`take` cannot be compiled \(ConcretizationTypeError\)\. Use `jax.numpy`",
    ),
    "compiled": (lambda: Small(DATA, spoil(inputs=jit_only)), r"`take` gives other trials when it is compiled"),
    "mapped": (lambda: Small(DATA, spoil(inputs=one_trial_only)), r"other trials when it is mapped by `jax.vmap`"),
    "constant": (lambda: Guarded(DATA), r"a constant of 20,000 numbers would be compiled.*array fields"),
    "key blind": (lambda: KeyBlind(DATA), r"`sample` gives the same trials for another key"),
    "key waster": (lambda: KeyWaster(DATA), r"`sample` gives other trials when asked again with the same key"),
    "lenient": (lambda: Lenient(DATA), r"`Lenient.size` accepts an unknown split: raise a `ValueError`"),
    "abrupt": (lambda: Abrupt(DATA), r"`Abrupt.size` answers an unknown split with KeyError: raise"),
    "overlap": (
        lambda: Small({"train": DATA["train"], "test": DATA["test"].at[2].set(DATA["train"][7])}),
        r"trial 2 of 'test' is trial 7 of 'train'\. Splits must have no trial in common",
    ),
    "overlap with one": (
        lambda: Small({"train": DATA["train"], "test": DATA["train"][3:4]}, sizes={"train": 9, "test": 1}),
        r"trial 0 of 'test' is trial 3 of 'train'\. Splits must have no trial in common",
    ),
    "same stream": (lambda: SameStream(), r"the splits 'train' and 'test' are the same series of trials"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_check_task_names_the_fault(fault):
    task, message = BROKEN[fault]
    with pytest.raises(ContractError, match=message):
        check_task(task())


@pytest.mark.parametrize("targets", ["labels", "probabilities"])
def test_check_task_passes_what_is_correct(targets):
    check_task(Small(DATA, targets=targets))
    check_task(Small(DATA, spoil(mask=lambda x, index: x.astype(bool))))
