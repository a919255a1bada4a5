"""Alignment, credit by lag, coverage and operations, against oracles: what is known about windows, splits and sizes."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import zoo

import retrograde as rg
from retrograde import analysis, losses
from retrograde.feedback import Adaptive, Random
from retrograde.tasks import Trials

BPTT, TRUNCATED = rg.rules.BPTT(), rg.rules.TruncatedBPTT
KEY = jr.key(5)


def trials(steps=zoo.STEPS, target_steps=zoo.STEPS):
    inputs, targets = zoo.trial(jr.key(1), steps)
    return Trials(inputs, targets[-target_steps:], jnp.ones(targets.shape[:2])[-target_steps:])


def network(neuron="leaky_current", synapse="dense", graph="single"):
    return zoo.GRAPHS[graph](neuron, synapse, jr.key(0))


def lags(network, rule, steps=10, **options):
    """Of ten steps, by default in four bands of lags: 0, 1, 2 to 4, 5 to 9."""
    options = {"loss": losses.mean_squared_error, "key": KEY, "bands": 4} | options
    return analysis.credit_by_lag(network, trials(steps), rule, **options)


def frozen(network, name):
    projection = dataclasses.replace(network.projections[name], frozen=True)
    return eqx.tree_at(lambda n: n.projections[name], network, projection)


class Scaled(rg.rules.AbstractRule):
    """Half the true gradient: known cosine, known length."""

    def unroll(self, *args, **options):
        return BPTT.unroll(*args, **options)

    def value_and_grad(self, objective, network, *, rule_state=None, key):
        value, gradient, _ = BPTT.value_and_grad(objective, network, key=key)
        return value, jax.tree.map(lambda g: 0.5 * g, gradient), rule_state


class Noisy(Scaled):
    """The true gradient times a random number of mean 1: right on average only."""

    def value_and_grad(self, objective, network, *, rule_state=None, key):
        value, gradient, _ = BPTT.value_and_grad(objective, network, key=key)
        factor = 1 + jr.normal(jr.fold_in(key, 1))
        return value, jax.tree.map(lambda g: factor * g, gradient), rule_state


class Forgetful(Scaled):
    """No credit for what enters the network, as if it were frozen."""

    def value_and_grad(self, objective, network, *, rule_state=None, key):
        value, gradient, _ = BPTT.value_and_grad(objective, network, key=key)
        where = lambda n: n.projections["input->hidden"].synapse.weight  # noqa: E731
        return value, eqx.tree_at(where, gradient, None), rule_state


def test_alignment_is_that_of_the_gradients():
    """Of noisy neurons: the noise must be the same for both."""
    net, batch = network(), trials(steps=3, target_steps=2)
    noisy = dataclasses.replace(net.populations["hidden"], noise=0.5)
    net = eqx.tree_at(lambda n: n.populations["hidden"], net, noisy)
    actual = analysis.gradient_alignment(net, batch, TRUNCATED(2), loss=losses.mean_squared_error, key=KEY)
    noise_key, _ = jr.split(KEY)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(net, rule):
        return losses.mean_squared_error(net(batch.inputs, rule=rule, key=noise_key, readout_steps=2).outputs, batch)

    ours, exact = (
        np.ravel(gradient(net, rule).projections["hidden->hidden"].synapse.weight) for rule in (TRUNCATED(2), BPTT)
    )
    cosine = ours @ exact / np.linalg.norm(ours) / np.linalg.norm(exact)
    assert 0.1 < cosine < 0.999
    expected = (cosine, np.linalg.norm(ours) / np.linalg.norm(exact))
    np.testing.assert_allclose(actual["hidden->hidden"], expected, rtol=1e-10)
    np.testing.assert_allclose(actual["hidden->readout"], (1, 1), rtol=1e-10)
    assert set(actual) == {"input->hidden", "hidden->hidden", "bias->hidden", "hidden->readout", "all"}
    assert 0.1 < actual["all"].cosine < 0.999


def test_alignment_of_a_rule_that_overrides_value_and_grad():
    found = analysis.gradient_alignment(network(), trials(), Scaled(), loss=losses.mean_squared_error, key=KEY)
    np.testing.assert_allclose(list(found.values()), len(found) * [(1.0, 0.5)], rtol=1e-12)


@pytest.mark.parametrize("operator", [Random, Adaptive])
def test_feedback_that_is_not_the_transpose_is_not_exact(operator):
    """Adaptive feedback is trained, but it has no exact gradient: it is left out."""
    net = network()
    readout = net.projections["hidden->readout"]
    opposite = dataclasses.replace(readout, feedback=operator(-readout.synapse.weight))
    opposite = eqx.tree_at(lambda n: n.projections["hidden->readout"], net, opposite)
    found = analysis.gradient_alignment(opposite, trials(), BPTT, loss=losses.mean_squared_error, key=KEY)
    np.testing.assert_allclose(found["hidden->hidden"], (-1, 1), rtol=1e-10)
    np.testing.assert_allclose(found["hidden->readout"], (1, 1), rtol=1e-10)
    if operator is Random:
        credit = lags(opposite, BPTT, bands=1).delivered
        np.testing.assert_allclose([credit["all"][0], credit["hidden->readout"][0]], [-1, 1])


def test_coverage_has_the_feedback_that_a_rule_asks_for():
    found = analysis.coverage(network(), rg.rules.EProp(feedback="random"), key=KEY)
    assert {parameter.reach for parameter in found.values()} == {"exact", "approximate"}
    assert found["hidden->readout.weight"].reach == "exact"
    alone = analysis.coverage(network(), rg.rules.EProp(), key=KEY)
    assert found["input->hidden.weight"].cosine < alone["input->hidden.weight"].cosine


def test_alignment_where_one_gradient_is_zero():
    zero, some = np.zeros(2), np.array([0.0, 2.0])
    assert analysis.align(zero, some) == (0.0, 0.0)
    assert np.isnan(analysis.align(some, zero)).all()
    assert analysis.align(-some, some) == (-1.0, 1.0)


def test_one_band_is_the_whole_gradient():
    net, batch = network(), trials(steps=10, target_steps=1)
    found = lags(net, Scaled(), bands=1)
    assert (found.first.tolist(), found.last.tolist()) == ([0], [9])

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(net):
        return losses.mean_squared_error(net(batch.inputs, readout_steps=1).outputs, batch)

    expected = {name: np.linalg.norm(p.synapse.weight) for name, p in gradient(net).projections.items()}
    inside = [size for name, size in expected.items() if not name.endswith("readout")]
    expected["all"] = np.linalg.norm(inside)
    assert found.size.keys() == expected.keys()
    for name, size in expected.items():
        np.testing.assert_allclose(found.size[name], size, rtol=1e-9)
        np.testing.assert_allclose(found.delivered[name], 0.5, rtol=1e-12)
        np.testing.assert_allclose(found.cosine[name], 1, rtol=1e-12)


@pytest.mark.parametrize("window, known", [(1, [1, 0, 0, 0]), (5, [1, 1, 1, 0]), (8, [1, 1, 0, 0])])
def test_a_window_delivers_what_lies_inside(window, known):
    """The loss of the tenth step is in a window of one, of five, or of the two steps that windows of eight leave."""
    found = lags(network(), TRUNCATED(window))
    assert (found.first.tolist(), found.last.tolist()) == ([0, 1, 2, 5], [0, 1, 4, 9])
    np.testing.assert_allclose(found.delivered["hidden->hidden"], known, atol=1e-10)
    np.testing.assert_allclose(found.delivered["all"], known, atol=1e-10)


def test_a_band_that_a_window_cuts_is_delivered_in_part():
    """Windows of seven leave three steps: of the lags 2 to 4 the first is delivered."""
    found = lags(network(), TRUNCATED(7))
    delivered, cosine = found.delivered["hidden->hidden"], found.cosine["hidden->hidden"]
    for values in (delivered, cosine):
        np.testing.assert_allclose(values[[0, 1, 3]], [1, 1, 0], atol=1e-10)
        assert 0.1 < values[2] < 0.999
    assert abs(delivered[2] - cosine[2]) > 0.01


def test_true_credit_by_lag_is_that_of_copies_of_the_weights():
    """Plain autodiff with weights of their own in each step, on the leaky network written out."""
    net, batch = network(), trials(steps=10)
    weights = {name: p.synapse.weight for name, p in net.projections.items()}

    def loss(recurrent):
        s = 0.1 * jnp.ones((zoo.BATCH, zoo.SIZE))
        for x, w in zip(batch.inputs, recurrent, strict=True):
            current = x @ weights["input->hidden"].T + jnp.tanh(s) @ w.T + weights["bias->hidden"].T
            s = 0.7 * s + 0.3 * current
        return jnp.mean((jnp.tanh(s) @ weights["hidden->readout"].T - batch.targets[-1]) ** 2)

    by_step = jax.jit(jax.grad(loss))(jnp.stack(10 * [weights["hidden->hidden"]]))[::-1]
    found = lags(net, BPTT)
    expected = [np.linalg.norm(by_step[a : b + 1].sum(axis=0)) for a, b in zip(found.first, found.last, strict=True)]
    np.testing.assert_allclose(found.size["hidden->hidden"], expected, rtol=1e-9)


def test_credit_of_a_random_rule_is_a_mean_over_draws():
    once, often = (np.abs(lags(network(), Noisy(), draws=n, bands=2).delivered["all"] - 1) for n in (1, 100))
    assert once.max() > 0.2 > often.max() > 0


def test_lag_arguments():
    with pytest.raises(ValueError, match=r"bands=\.\.\.\)` must be at least 1"):
        lags(network(), BPTT, bands=0)


def test_coverage_says_what_credit_reaches():
    def reach(net, rule, inputs=None):
        return {label: found.reach for label, found in analysis.coverage(net, rule, inputs, key=KEY).items()}

    net = network()
    labels = ("bias->hidden.weight", "hidden->hidden.weight", "hidden->readout.weight", "input->hidden.weight")
    assert reach(net, rg.rules.BPTT(segment=2)) == dict.fromkeys(labels, "exact")
    assert reach(net, TRUNCATED(2)) == dict.fromkeys(labels, "approximate") | {labels[2]: "exact"}
    assert analysis.coverage(net, Forgetful(), key=KEY)["input->hidden.weight"] == ("none", 0.0, 0.0)
    assert reach(frozen(net, "input->hidden"), BPTT)["input->hidden.weight"] == "frozen"
    assert reach(net, BPTT, jnp.zeros((14, 2, zoo.INPUTS)))["input->hidden.weight"] == "idle"


def test_training_refuses_a_rule_that_leaves_parameters_without_credit():
    task = rg.tasks.DelayedRecall(symbols=2, delay=1)
    net = rg.Network.single_layer(task, rg.neurons.LeakyRate(3), key=jr.key(0))
    options = {"optimiser": rg.optimiser(net, "sgd", 0.1), "steps": 1, "batch": 2, "key": KEY}
    with pytest.raises(
        analysis.CoverageError, match=r"`Forgetful` assigns no credit to input->hidden\.weight: .*Freeze"
    ):
        rg.fit(net, task, rule=Forgetful(), **options)
    found = analysis.check_coverage(frozen(net, "input->hidden"), Forgetful(), key=KEY)
    assert analysis.uncovered(found) == []


@pytest.mark.parametrize("target_steps", [1, 7])
def test_operations_are_those_of_the_documentation(target_steps):
    """docs/rules/bptt.md: forward N(N+M), backward N² + N(N+M) for each step and trial; the readout comes on top."""
    net, batch = network("vanilla"), trials(target_steps=target_steps)

    @eqx.filter_grad
    def gradient(net, rule):
        outputs = net(batch.inputs, rule=rule, readout_steps=target_steps).outputs
        return losses.mean_squared_error(outputs, batch)

    N, M = zoo.SIZE, zoo.INPUTS + 1  # the bias is one more input, for all steps and trials at once
    steps = zoo.STEPS * zoo.BATCH
    once = 2 * N  # its forward product, and its gradient's
    expected = steps * (2 * N * (N + M - 1) + N**2) + once
    readout = 3 * target_steps * zoo.BATCH * N * zoo.OUTPUTS
    counted = analysis.count_operations(gradient, net, BPTT)
    assert counted.products == expected + readout
    assert analysis.count_operations(gradient, net, rg.rules.BPTT(checkpoint=True)).products > counted.products


def test_operations_of_loops_branches_and_what_is_not_needed():
    matrix = jnp.ones((4, 4))
    scan = lambda m: jax.lax.scan(lambda c, _: (c @ m, c * 2.0), m, None, length=5)  # noqa: E731
    assert analysis.count_operations(scan, matrix) == (5 * 64, 5 * 16)
    assert analysis.count_operations(lambda m: scan(m)[0], matrix) == (5 * 64, 0)
    # of the carry's two parts, the second needs the first
    chain = lambda m: jax.lax.fori_loop(0, 3, lambda _, c: (c[0] @ m, c[1] + c[0]), (m, m))  # noqa: E731
    assert analysis.count_operations(lambda m: chain(m)[1], matrix) == (3 * 64, 0)
    branch = lambda m: jax.lax.cond(m[0, 0] > 0, lambda: m @ m, lambda: m * m * m)  # noqa: E731
    assert analysis.count_operations(branch, matrix) == (64, 0)
    assert analysis.count_operations(lambda m: m / jnp.sum(m), matrix) == (0, 16)
    assert analysis.count_operations(lambda m: m.astype(int) * 2, matrix) == (0, 0)
