"""The oracle itself: the NumPy reference against published-code values and against finite differences."""

import json
from pathlib import Path

import numpy as np
import pytest
from reference import gbptt_numpy as gbptt

GOLDEN = json.loads((Path(__file__).parent / "golden" / "zou2023.json").read_text())
DECIMALS = 1e-10  # the golden values carry ten decimals


def summary(g):
    return [g.sum(), np.linalg.norm(g), g[0, 0], g[-1, -1]]


def test_forward_equals_the_golden_values():
    case = gbptt.golden_case()
    labels = case.pop("labels")
    trajectory = gbptt.forward(**case)
    loss, _ = gbptt.cross_entropy(trajectory.outputs, labels)
    expected = GOLDEN["forward"]
    np.testing.assert_allclose(trajectory.state[1].T, expected["state_1"], rtol=0, atol=DECIMALS)
    np.testing.assert_allclose(trajectory.state[3].T, expected["state_3"], rtol=0, atol=DECIMALS)
    np.testing.assert_allclose(trajectory.outputs[0].T, expected["outputs"], rtol=0, atol=DECIMALS)
    np.testing.assert_allclose(loss, expected["loss"], rtol=0, atol=DECIMALS)


@pytest.mark.parametrize("parameter", ["m", "pi", "xi"])
@pytest.mark.parametrize("layer", gbptt.LAYERS)
def test_gradient_equals_the_golden_values(layer, parameter):
    _, gradient = gbptt.gradient(**gbptt.golden_case())
    actual = summary(getattr(gradient[layer], parameter))
    np.testing.assert_allclose(actual, GOLDEN["gradient"][layer][parameter], rtol=0, atol=DECIMALS)


@pytest.mark.parametrize("deterministic_input", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_gradient_equals_finite_differences(steps, deterministic_input):
    case = gbptt.random_case(0, steps=steps, deterministic_input=deterministic_input)
    _, gradient = gbptt.gradient(**case)
    step = 1e-6
    compared = 0
    for layer in gbptt.LAYERS:
        for parameter, g in gradient[layer]._asdict().items():
            if g is None:
                continue
            array = getattr(case["weights"][layer], parameter)
            expected = np.empty_like(g)
            for index in np.ndindex(array.shape):
                value = array[index]
                array[index] = value + step
                above, _ = gbptt.gradient(**case)
                array[index] = value - step
                below, _ = gbptt.gradient(**case)
                array[index] = value
                expected[index] = (above - below) / (2 * step)
            np.testing.assert_allclose(g, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
            assert np.abs(g).max() > 1e-4, "a gradient of zero would agree with anything"
            compared += 1
    assert compared == (7 if deterministic_input else 9)


def test_certain_weights_make_the_noise_irrelevant():
    case = gbptt.random_case(1)
    case["weights"] = {
        layer: gbptt.Weights(w.m, np.zeros_like(w.m), np.zeros_like(w.m)) for layer, w in case["weights"].items()
    }
    loss, gradient = gbptt.gradient(**case)
    case["eps"], case["eps_out"] = -2 * case["eps"], 3 * case["eps_out"]
    other_loss, other = gbptt.gradient(**case)
    assert loss == other_loss
    for layer in gbptt.LAYERS:
        np.testing.assert_array_equal(gradient[layer].m, other[layer].m)
        assert all(np.isfinite(g).all() for g in gradient[layer])


def test_absent_weights_give_zero_outputs_and_finite_gradients():
    case = gbptt.random_case(2)
    case["weights"] = {layer: w._replace(pi=np.ones_like(w.m)) for layer, w in case["weights"].items()}
    loss, gradient = gbptt.gradient(**case)
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-14)
    assert all(np.isfinite(g).all() for w in gradient.values() for g in w)


def test_state_noise_is_added_to_the_state():
    case = gbptt.random_case(3)
    del case["labels"]
    noise = np.zeros_like(case["eps"])
    noise[0] = 0.25
    quiet, noisy = gbptt.forward(**case), gbptt.forward(**case, state_noise=noise)
    np.testing.assert_allclose(noisy.state[1], quiet.state[1] + 0.25, rtol=1e-14)


def test_clipping_bounds_the_largest_singular_value():
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(6, 4))
    matrix *= 15 / np.linalg.norm(matrix, 2)
    below = matrix * (9 / 15)  # its Frobenius norm exceeds 10, its largest singular value does not
    assert np.linalg.norm(below) > 10
    clipped = gbptt.clip({"input": gbptt.Weights(matrix), "recurrent": gbptt.Weights(below)})
    np.testing.assert_allclose(clipped["input"].m, matrix * (10 / 15), rtol=1e-12)
    np.testing.assert_array_equal(clipped["recurrent"].m, below)


def test_first_adam_step_has_the_size_of_the_learning_rate():
    rng = np.random.default_rng(5)
    weights = {"recurrent": gbptt.Weights(*rng.uniform(0.2, 0.8, (3, 4, 4)))}
    gradient = {"recurrent": gbptt.Weights(*rng.normal(size=(3, 4, 4)))}
    after, state = gbptt.adam(weights, gradient, gbptt.adam_init(weights), learning_rate=0.01, decay=0.5)
    for parameter, decay in (("m", 0.5), ("pi", 0.0), ("xi", 0.5)):
        before, g = getattr(weights["recurrent"], parameter), getattr(gradient["recurrent"], parameter)
        expected = before - 0.01 * (np.sign(g) + decay * before)
        np.testing.assert_allclose(getattr(after["recurrent"], parameter), expected, rtol=1e-5)
    assert state.count == 1


def test_projection_reaches_the_ends_of_the_range_exactly():
    weights = {"output": gbptt.Weights(*(np.array([[-0.5, 0.5, 1.5]]) for _ in range(3)))}
    projected = gbptt.project(weights)["output"]
    assert projected.m.tolist() == [[-0.5, 0.5, 1.5]]
    assert projected.pi.tolist() == [[0.0, 0.5, 1.0]]
    assert projected.xi.tolist() == [[0.0, 0.5, 1.5]]


def test_update_lowers_the_loss():
    case = gbptt.random_case(6, steps=1)
    weights, state, rng = case["weights"], gbptt.adam_init(case["weights"]), np.random.default_rng(0)
    losses = []
    for _ in range(400):
        weights, state, loss = gbptt.update(
            weights, state, case["inputs"], case["labels"], rng, alpha=0.5, learning_rate=0.02
        )
        losses.append(loss)
    assert np.mean(losses[-30:]) < 0.7 * np.mean(losses[:30])
    assert (weights["recurrent"].pi == 0).any()
    assert min(w.xi.min() for w in weights.values()) >= 0
