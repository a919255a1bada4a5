"""Closed forms of learning by perturbation, against published numbers and against the rules at work. In float64."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import linear_task
import numpy as np
import pytest

from retrograde import theory
from retrograde.rules import HybridPerturbation, NodePerturbation, WeightPerturbation
from retrograde.theory import LinearTask

WEIGHT, ACTIVE, NODE, HYBRID = (
    "weight_perturbation",
    "active_weight_perturbation",
    "node_perturbation",
    "hybrid_perturbation",
)


def make(rule, task, sigma):
    """The rule, perturbing every output by `sigma` in each step."""
    of_weights = sigma / (task.power * task.shown) ** 0.5
    if rule == NODE:
        return NodePerturbation(sigma)
    if rule == HYBRID:
        return HybridPerturbation(of_weights)
    return WeightPerturbation(of_weights, active_only=rule == ACTIVE)


def learn(task, rule, sigma, *, rate=None, **options):
    options = {"inputs": task.task_inputs, "key": jr.key(1)} | options
    rate = theory.optimal_rate(task, rule) if rate is None else rate
    errors, weights = linear_task.learn(task, make(rule, task, sigma), rate, **options)
    return np.asarray(errors), np.asarray(weights)


def predicted(task, rule, trials, sigma, rate=None):
    start = linear_task.error_before_learning(task)
    return theory.learning_curve(task, rule, np.asarray(trials), start=start, sigma=sigma, rate=rate)


def deviation(values, expected):
    """Distance of the mean over runs from what is expected, in standard errors."""
    return np.abs(values.mean(axis=0) - expected) / (values.std(axis=0, ddof=1) / len(values) ** 0.5)


# --- published: the formulas of the authors' programs, evaluated (M = 10, T = 100, total input power 100)


def full(task_inputs, trial_inputs=None, unrealisable=0.0):
    return LinearTask(10, 100, task_inputs, trial_inputs, 100 / (trial_inputs or task_inputs), unrealisable)


def test_speed_where_every_trial_shows_all_inputs():
    task = full(50)
    assert linear_task.error_before_learning(task) == pytest.approx(5.0)
    for rule in (WEIGHT, NODE, ACTIVE, HYBRID):
        assert theory.decay_factor(task, rule) == pytest.approx(1 - 1 / 502)
        curve = theory.learning_curve(task, rule, np.array([500, 1000, 2000]), start=5.0)
        assert curve == pytest.approx([1.845, 0.681, 0.0927], rel=1e-3)


@pytest.mark.parametrize(
    ("task_inputs", "unrealisable", "sigma", "by_weights", "by_nodes"),
    [
        (50, 0.0, 0.04, 1.008, 2.004),
        (100, 0.0, 0.04, 2.008, 2.008),
        (50, 2.0, 0.0, 2.0, 3.992),
        (50, 2.0, 0.04, 3.008, 5.996),
    ],
)
def test_final_errors(task_inputs, unrealisable, sigma, by_weights, by_nodes):
    task = full(task_inputs, unrealisable=unrealisable)
    assert theory.final_error(task, WEIGHT, sigma=sigma) == pytest.approx(by_weights, abs=1e-3)
    assert theory.final_error(task, NODE, sigma=sigma) == pytest.approx(by_nodes, abs=1e-3)


@pytest.mark.parametrize(
    ("trial_inputs", "by_weights", "by_nodes"),
    [
        (10, [4.10, 3.36, 2.25, 1.02], [1.87, 0.70, 0.099, 0.0019]),
        (25, [3.04, 1.85, 0.68, 0.093], [1.85, 0.69, 0.094, 0.0018]),
    ],
)
def test_speed_where_trials_show_some_inputs(trial_inputs, by_weights, by_nodes):
    task, trials = full(50, trial_inputs), np.array([500, 1000, 2000, 4000])
    assert theory.learning_curve(task, WEIGHT, trials, start=5.0) == pytest.approx(by_weights, rel=0.01)
    for rule in (NODE, ACTIVE, HYBRID):
        assert theory.learning_curve(task, rule, trials, start=5.0) == pytest.approx(by_nodes, rel=0.05)


def test_walk_of_weights_that_transmit_nothing():
    variance = theory.irrelevant_variance(full(50), np.array([0, 5000]), start=5.0)
    assert variance[0] == 0
    assert variance[1] ** 0.5 == pytest.approx(0.0998, abs=1e-4)


# --- what follows from the closed forms


@pytest.mark.parametrize("rule", [WEIGHT, ACTIVE, NODE, HYBRID])
def test_the_optimal_rate_is_optimal_and_twice_that_too_much(rule):
    task = LinearTask(3, 30, 12, 4, power=2.0, unrealisable=0.5)
    best = theory.optimal_rate(task, rule)
    around = [theory.decay_factor(task, rule, rate=best * x) for x in (0.99, 1.0, 1.01)]
    assert around[1] == theory.decay_factor(task, rule) < min(around[0], around[2]) < 1
    assert theory.decay_factor(task, rule, rate=2 * best) == pytest.approx(1.0)
    assert theory.final_error(task, rule, rate=2.01 * best, sigma=0.1) == float("inf")


def test_weight_perturbation_ends_lower_unless_the_input_fills_all_dimensions():
    for size in (1, 5, 19):
        task = LinearTask(2, 20, size, power=3.0)
        assert theory.final_error(task, WEIGHT, sigma=0.1) < theory.final_error(task, NODE, sigma=0.1)
    task = LinearTask(2, 20, 20, power=3.0)
    assert theory.final_error(task, WEIGHT, sigma=0.1) == pytest.approx(theory.final_error(task, NODE, sigma=0.1))


def test_a_lower_rate_ends_lower():
    task = LinearTask(2, 20, 5, unrealisable=0.1)
    best = theory.optimal_rate(task, NODE)
    assert theory.final_error(task, NODE, rate=best / 2, sigma=0.1) < theory.final_error(task, NODE, sigma=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": 0, "steps": 10, "task_inputs": 2}, "`LinearTask.outputs=.* must be positive"),
        ({"outputs": 1, "steps": 10, "task_inputs": 11}, "no more inputs than steps"),
        ({"outputs": 1, "steps": 10, "task_inputs": 5, "trial_inputs": 6}, "trial_inputs ≤ task_inputs"),
        ({"outputs": 1, "steps": 10, "task_inputs": 5, "power": -1.0}, "`LinearTask.power=.* must be positive"),
        (
            {"outputs": 1, "steps": 10, "task_inputs": 5, "trial_inputs": 0},
            "`LinearTask.trial_inputs=.* must be positive",
        ),
        ({"outputs": 1, "steps": 10, "task_inputs": 5, "unrealisable": -1.0}, "cannot be negative"),
    ],
)
def test_bad_tasks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LinearTask(**options)


# --- the rules at work


@pytest.mark.parametrize("rule", [WEIGHT, NODE])
@pytest.mark.parametrize(("sigma", "unrealisable"), [(1e-6, 0.1), (0.1, 0.0), (0.1, 0.1)])
def test_learning_follows_the_curve(rule, sigma, unrealisable):
    """The mean over 50 runs. Where an error still falls, a late mean hangs on few runs: there only its start counts."""
    task = LinearTask(2, 20, 5, power=4.0, unrealisable=unrealisable)
    errors, _ = learn(task, rule, sigma, inputs=20, trials=1000, runs=50, every=5)
    early = np.array([5, 10, 20, 40])
    assert deviation(errors[:, early // 5], predicted(task, rule, early, sigma)).max() < 3.5
    final = theory.final_error(task, rule, sigma=sigma)
    late = errors[:, 80:].mean(axis=1)
    assert abs(late.mean() - final) < max(3.5 * late.std(ddof=1) / len(late) ** 0.5, 1e-9)
    assert errors[:, 0] == pytest.approx(linear_task.error_before_learning(task))


@pytest.mark.parametrize("rule", [WEIGHT, ACTIVE, NODE])
def test_learning_subtasks_follows_the_curve(rule):
    """With finite noise and an error that cannot be learned: a case that no published formula covers.

    At half the optimal rate: at the optimal one rare outbursts make up much of the mean, and 100 runs are few.
    """
    task, sigma = LinearTask(2, 20, 12, 4, power=5.0, unrealisable=0.05), 0.05
    rate = 0.5 * theory.optimal_rate(task, rule)
    errors, _ = learn(task, rule, sigma, rate=rate, trials=3000, runs=100, every=10)
    early = np.array([10, 20, 40, 80])
    assert deviation(errors[:, early // 10], predicted(task, rule, early, sigma, rate)).max() < 3.5
    late, final = errors[:, 150:].mean(axis=1), theory.final_error(task, rule, rate=rate, sigma=sigma)
    assert deviation(late, final) < 3.5
    assert late.std() / len(late) ** 0.5 < 0.03 * (final - task.unrealisable)


def test_where_inputs_fill_all_dimensions_both_end_alike():
    task = LinearTask(2, 10, 10, power=2.0)
    ends = [learn(task, rule, 0.1, trials=600, runs=50, every=5)[0][:, 60:].mean(axis=1) for rule in (WEIGHT, NODE)]
    spread = np.hypot(*(end.std(ddof=1) / len(end) ** 0.5 for end in ends))
    assert abs(ends[0].mean() - ends[1].mean()) < 3.5 * spread
    assert spread < 0.03 * ends[0].mean()


@pytest.mark.parametrize("sigma", [1e-6, 0.1])
def test_weights_that_transmit_nothing_walk_at_random_under_weight_perturbation(sigma):
    task, trials = LinearTask(2, 20, 5, power=4.0), 60
    start = linear_task.error_before_learning(task)
    expected = theory.irrelevant_variance(task, np.array([trials]), start=start, sigma=sigma)[0]
    _, weights = learn(task, WEIGHT, sigma, inputs=20, trials=trials, runs=400, every=trials)
    assert np.mean(weights[:, :, 5:] ** 2) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("rule", [ACTIVE, NODE, HYBRID])
def test_weights_that_transmit_nothing_never_move_under_the_other_rules(rule):
    _, weights = learn(LinearTask(2, 20, 5, power=4.0), rule, 0.1, inputs=20, trials=20, runs=2, every=20)
    assert np.abs(weights[:, :, 5:]).max() == 0 < np.abs(weights[:, :, :5]).min()


def test_the_hybrid_at_its_rate_is_weight_perturbation_of_active_inputs():
    task = LinearTask(2, 20, 12, 4, power=5.0)
    options = {"trials": 30, "runs": 2, "every": 1}
    (by_hybrid, _), (by_active, _) = (learn(task, rule, 0.05, **options) for rule in (HYBRID, ACTIVE))
    np.testing.assert_allclose(by_hybrid, by_active, rtol=1e-9)


# --- the sizes of the paper


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task_inputs", "unrealisable", "sigma"), [(50, 0.0, 0.04), (100, 0.0, 0.04), (50, 2.0, 1e-6), (50, 2.0, 0.04)]
)
@pytest.mark.parametrize("rule", [WEIGHT, NODE])
def test_final_errors_at_the_papers_size(rule, task_inputs, unrealisable, sigma):
    task = full(task_inputs, unrealisable=unrealisable)
    errors, _ = learn(task, rule, sigma, trials=12_000, runs=6, every=100)
    final = theory.final_error(task, rule, sigma=sigma)
    print(f"{rule} {task}: final error {errors[:, 60:].mean():.4f}, predicted {final:.4f}")
    assert errors[:, 60:].mean() == pytest.approx(final, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("trial_inputs", [10, 25])
@pytest.mark.parametrize("rule", [WEIGHT, ACTIVE, NODE, HYBRID])
def test_subtasks_at_the_papers_size(rule, trial_inputs):
    task = full(50, trial_inputs)
    errors, _ = learn(task, rule, 1e-6, trials=4000, runs=40, every=500)
    simulated, trials = errors.mean(axis=0)[[1, 2, 4, 8]], np.array([500, 1000, 2000, 4000])
    print(f"{rule} {trial_inputs} of 50: {simulated.round(4)}, predicted {predicted(task, rule, trials, 0.0).round(4)}")
    assert simulated[:3] == pytest.approx(predicted(task, rule, trials[:3], 0.0), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [1e-6, 0.04])
def test_walk_at_the_papers_size(sigma):
    task = full(50)
    expected = theory.irrelevant_variance(task, np.array([5000]), start=5.0, sigma=sigma)[0] ** 0.5
    _, weights = learn(task, WEIGHT, sigma, inputs=100, trials=5000, runs=6, every=5000)
    simulated = weights[:, :, 50:].std()
    print(f"standard deviation of irrelevant weights, sigma {sigma}: {simulated:.4f}, predicted {expected:.4f}")
    assert simulated == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
def test_gathering_subtasks_in_a_trial_helps_weight_perturbation_only():
    """Trials until the error is a tenth of the first."""
    needed = {}
    for rule in (WEIGHT, NODE):
        for trial_inputs in (5, 10, 25, 50):
            task = full(50, trial_inputs)
            expected = np.log(0.1) / np.log(theory.decay_factor(task, rule))
            errors, _ = learn(task, rule, 1e-6, trials=10 * round(expected / 5), runs=20, every=10)
            needed[rule, trial_inputs] = 10 * np.argmax(errors.mean(axis=0) < 0.5)
            print(f"{rule} {trial_inputs} of 50: {needed[rule, trial_inputs]} trials, predicted {expected:.0f}")
            assert needed[rule, trial_inputs] == pytest.approx(expected, rel=0.1)
    assert needed[WEIGHT, 5] > 8 * needed[WEIGHT, 50]
    assert needed[NODE, 5] < 1.2 * needed[NODE, 50]


def reservoir(seed):
    """500 rates driven by five waves, and a closed curve for two readouts to draw: `"time 1 rate"`, `"time 1 axis"`."""
    random = np.random.default_rng(seed)
    size = steps = 500
    keep = np.exp(-1 / 10)
    phase = 2 * np.pi * np.arange(steps) / steps
    waves = [np.ones(steps), *(2**0.5 * f(k * phase) for k in (1, 2) for f in (np.sin, np.cos))]
    inward, recurrent = random.normal(0, 5**-0.5, (size, 5)), random.normal(size=(size, size))
    recurrent /= np.linalg.eigvals(recurrent).real.max()
    drive = inward @ np.stack(waves)
    x, rates = np.zeros(size), []
    for time in range(-99, steps):  # what comes before the first step is the end of the wave
        x = keep * x + (1 - keep) * (drive[:, time] + recurrent @ np.tanh(x))
        rates.append(np.tanh(x))
    t = 2 * np.pi * np.arange(steps) / (steps - 1)
    wings = (
        9 - np.sin(t) + 2 * np.sin(3 * t) + 2 * np.sin(5 * t) - np.sin(7 * t) + 3 * np.cos(2 * t) - 2 * np.cos(4 * t)
    )
    curve = 0.1 * wings[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)
    return jnp.asarray(np.stack(rates[99:]))[:, None], jnp.asarray(curve)[:, None]


@pytest.mark.slow
def test_a_reservoir_draws_a_butterfly():
    """Inputs of unequal strength, five of them strong: the setting of the paper's second program."""
    inputs, targets = reservoir(0)
    steps, outputs, sigma = inputs.shape[0], 2, 5e-3
    strengths = np.linalg.eigvalsh(np.asarray(inputs[:, 0].T @ inputs[:, 0]) / steps)
    directions = strengths.sum() ** 2 / (strengths**2).sum()
    power = strengths.sum() / directions
    print(f"strongest {strengths[:-7:-1].round(1)}, effective number {directions:.2f}, sum {strengths.sum():.0f}")
    start = linear_task.network(LinearTask(outputs, steps, 1), inputs.shape[2])
    rate = 1 / ((outputs * directions + 2) * power)
    rules = {
        WEIGHT: (WeightPerturbation(sigma / strengths.sum() ** 0.5), rate),
        NODE: (NodePerturbation(sigma), rate),
        HYBRID: (HybridPerturbation(sigma / strengths.sum() ** 0.5), rate / (power * steps)),
    }

    def error(network):
        return 0.5 * jnp.mean(jnp.sum((network(inputs).outputs - targets) ** 2, axis=2))

    def draw(key):
        return linear_task.objective(inputs, targets)

    last = {}
    for name, (rule, rate) in rules.items():
        run = partial(linear_task.descend, start, draw, rule, rate, error, trials=30_000, every=1000)
        errors = np.asarray(jax.jit(lambda key, run=run: run(key=key)[0])(jr.key(1)))
        last[name] = errors[-10:].mean()
        print(
            f"{name}: {errors[0]:.4f}, after 1000 trials {errors[1]:.2e}, 10 000 {errors[10]:.2e}, end {last[name]:.2e}"
        )
    assert errors[0] == pytest.approx(0.4626, abs=1e-3)
    shown, nodes = outputs * directions, outputs * steps  # as if that many inputs were equally strong
    predicted = sigma**2 / 8 * shown / (shown + 2) * (nodes + 2) * (nodes + 4) / steps
    print(f"predicted for nodes {predicted:.2e}")
    assert last[NODE] == pytest.approx(predicted, rel=0.15)
    assert last[WEIGHT] < 1e-3
    assert last[HYBRID] > 5e-3
