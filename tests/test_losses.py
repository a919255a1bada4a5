"""Losses: values by hand, masks, dtypes, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.special import log_softmax

from retrograde.losses import LOSSES, accuracy, cross_entropy, half_squared_error, mean_squared_error
from retrograde.tasks import Trials

STEPS, BATCH, CLASSES = 3, 4, 5


def labelled(mask=None) -> Trials:
    labels = jr.randint(jr.key(1), (STEPS, BATCH), 0, CLASSES)
    return Trials(jnp.zeros((7, BATCH, 2)), labels, jnp.ones((STEPS, BATCH)) if mask is None else mask)


def valued(mask=None) -> Trials:
    values = jax.nn.softmax(jr.normal(jr.key(2), (STEPS, BATCH, CLASSES)))
    return Trials(jnp.zeros((7, BATCH, 2)), values, jnp.ones((STEPS, BATCH)) if mask is None else mask)


@pytest.fixture
def outputs():
    return jr.normal(jr.key(0), (STEPS, BATCH, CLASSES))


@pytest.fixture
def mask():
    return jnp.array([[0.0, 1, 0, 1], [1, 1, 0, 0], [0, 0.5, 0, 1]])


def test_cross_entropy_is_the_mean_of_minus_log_probability_under_the_mask(outputs, mask):
    trials, log_probability = labelled(mask), log_softmax(outputs, axis=-1)
    expected = sum(
        -float(mask[t, b]) * log_probability[t, b, trials.targets[t, b]] for t in range(STEPS) for b in range(BATCH)
    )
    np.testing.assert_allclose(cross_entropy(outputs, trials), expected / 5.5, rtol=1e-12)


def test_cross_entropy_of_probabilities(outputs, mask):
    trials = valued(mask)
    losses = -np.sum(np.asarray(trials.targets) * log_softmax(outputs, axis=-1), axis=-1)
    np.testing.assert_allclose(cross_entropy(outputs, trials), np.sum(losses * mask) / 5.5, rtol=1e-12)


def test_one_hot_probabilities_are_class_numbers(outputs, mask):
    trials = labelled(mask)
    one_hot = Trials(trials.inputs, jax.nn.one_hot(trials.targets, CLASSES), mask)
    np.testing.assert_allclose(cross_entropy(outputs, one_hot), cross_entropy(outputs, trials), rtol=1e-12)
    assert accuracy(outputs, one_hot) == accuracy(outputs, trials)


def test_gradient_of_cross_entropy_is_softmax_minus_target(outputs, mask):
    trials = labelled(mask)
    expected = (jax.nn.softmax(outputs) - jax.nn.one_hot(trials.targets, CLASSES)) * mask[:, :, None] / 5.5
    np.testing.assert_allclose(jax.grad(cross_entropy)(outputs, trials), expected, atol=1e-15)


def test_mean_squared_error_is_the_mean_over_outputs_and_mask(outputs, mask):
    trials = valued(mask)
    losses = np.mean((np.asarray(outputs) - np.asarray(trials.targets)) ** 2, axis=-1)
    np.testing.assert_allclose(mean_squared_error(outputs, trials), np.sum(losses * mask) / 5.5, rtol=1e-12)


def test_half_squared_error_sums_over_outputs(outputs, mask):
    trials = valued(mask)
    losses = np.sum((np.asarray(outputs) - np.asarray(trials.targets)) ** 2, axis=-1) / 2
    np.testing.assert_allclose(half_squared_error(outputs, trials), np.sum(losses * mask) / 5.5, rtol=1e-12)


def test_gradient_of_half_squared_error_is_output_minus_target(outputs, mask):
    """Without a factor: the learning rates of papers that write "error times presynaptic activity" mean this loss."""
    trials = valued(mask)
    expected = (outputs - trials.targets) * mask[:, :, None] / 5.5
    np.testing.assert_allclose(jax.grad(half_squared_error)(outputs, trials), expected, atol=1e-15)


def test_accuracy_counts_under_the_mask():
    outputs = jax.nn.one_hot(jnp.array([[0, 1], [2, 2]]), 3)
    trials = Trials(jnp.zeros((2, 2, 1)), jnp.array([[0, 2], [2, 0]]), jnp.ones((2, 2)))
    assert accuracy(outputs, trials) == 0.5
    assert accuracy(outputs, eqx.tree_at(lambda trials: trials.mask, trials, jnp.array([[1.0, 0], [1, 1]]))) == 2 / 3


CASES = {
    "labels": (cross_entropy, labelled),
    "probabilities": (cross_entropy, valued),
    "mse": (mean_squared_error, valued),
    "half": (half_squared_error, valued),
}


@pytest.mark.parametrize("case", CASES)
def test_empty_mask_costs_nothing(case, outputs):
    loss, trials = CASES[case]
    value, gradient = jax.value_and_grad(loss)(outputs, trials(jnp.zeros((STEPS, BATCH))))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(outputs))
    assert accuracy(outputs, trials(jnp.zeros((STEPS, BATCH)))) == 0


@pytest.mark.parametrize("rubbish", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("case", CASES)
def test_what_the_mask_leaves_out_cannot_do_harm(case, rubbish, outputs):
    """Neither outputs that overflow there, nor whatever fills up the targets."""
    loss, make = CASES[case]
    trials = make(jnp.ones((STEPS, BATCH)).at[0].set(0.0))
    filler = 255 if case == "labels" else jnp.nan
    spoilt = eqx.tree_at(lambda trials: trials.targets, trials, trials.targets.at[0].set(filler))
    expected, expected_gradient = jax.value_and_grad(loss)(outputs, trials)
    value, gradient = jax.value_and_grad(loss)(outputs.at[0].set(rubbish), spoilt)
    assert value == expected
    np.testing.assert_array_equal(gradient, expected_gradient)


@pytest.mark.parametrize("case", CASES)
def test_boolean_mask_and_dtype_of_the_outputs(case, outputs, mask):
    loss, make = CASES[case]
    assert loss(outputs, make(mask > 0)) == loss(outputs, make((mask > 0).astype(float)))
    single = outputs.astype(jnp.float32)
    assert loss(single, make(mask)).dtype == jnp.float32
    np.testing.assert_allclose(loss(single, make(mask)), loss(outputs, make(mask)), rtol=1e-6)


def test_registry_knows_the_losses_that_tasks_name():
    assert dict(LOSSES) == {
        "cross_entropy": cross_entropy,
        "mean_squared_error": mean_squared_error,
        "half_squared_error": half_squared_error,
    }


def changed(trials, **fields):
    for name, value in fields.items():
        trials = eqx.tree_at(lambda trials, name=name: getattr(trials, name), trials, value)
    return trials


REFUSED = {
    "steps": (
        labelled,
        (7, BATCH, CLASSES),
        {},
        r"outputs for 7 steps but targets for 3.*readout_steps=task.target_steps",
    ),
    "trials": (labelled, (STEPS, 9, CLASSES), {}, r"outputs for 9 trials but targets for 4"),
    "classes": (valued, (STEPS, BATCH, 2), {}, r"2 outputs but targets with 5.*`task.outputs` neurons"),
    "mask": (
        labelled,
        (STEPS, BATCH, CLASSES),
        {"mask": jnp.ones((1, BATCH))},
        r"mask of shape \(1, 4\): it needs \(3, 4\)",
    ),
    "labels with an axis too many": (
        labelled,
        (STEPS, BATCH, CLASSES),
        {"targets": jnp.zeros((STEPS, BATCH, 1), int)},
        r"needs class numbers of shape `steps batch`, got targets of shape \(3, 4, 1\) and dtype int64",
    ),
    "labels as floats": (
        labelled,
        (STEPS, BATCH, CLASSES),
        {"targets": jnp.zeros((STEPS, BATCH))},
        r"needs floating-point targets of shape `steps batch output`, got targets of shape \(3, 4\) and dtype float64",
    ),
}


@pytest.mark.parametrize("loss", [cross_entropy, accuracy])
@pytest.mark.parametrize("case", REFUSED)
def test_shapes_that_do_not_fit_are_refused(case, loss):
    make, shape, changes, message = REFUSED[case]
    with pytest.raises(ValueError, match=rf"`{loss.__name__}` .*{message}"):
        loss(jnp.zeros(shape), changed(make(), **changes))


@pytest.mark.parametrize("loss", [mean_squared_error, half_squared_error])
def test_losses_of_a_regression_refuse_class_numbers_and_misfits(loss, outputs):
    name = loss.__name__
    with pytest.raises(ValueError, match=rf"`{name}` needs targets that are numbers, got .*Use `cross_entropy`"):
        loss(outputs, labelled())
    with pytest.raises(ValueError, match=rf"`{name}` got 2 outputs but targets with 5"):
        loss(outputs[:, :, :2], valued())
