"""Rules against each other and against plain differentiation, in float64, over one list of networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

import retrograde as rg
from retrograde.rules import BPTT, EProp, TruncatedBPTT

# Every neuron on the plainest graph; every kind of weight and every graph on two very different neurons.
CASES = [("single", neuron, "dense") for neuron in zoo.NEURONS]
CASES += [("single", "leaky_relu", "spike_and_slab"), ("single", "alif", "spike_and_slab")]
CASES += [("two_layers", "leaky_current", "masked"), ("two_layers", "lstm", "spike_and_slab")]
CASES += [("loop", "leaky_activity", "spike_and_slab"), ("loop", "lif", "masked")]

gradient = eqx.filter_jit(eqx.filter_grad(zoo.loss))


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    graph, neuron, synapse = request.param
    return zoo.GRAPHS[graph](neuron, synapse, jr.key(0)), *zoo.trial(jr.key(1))


def test_bptt_equals_plain_differentiation(case):
    network, inputs, targets = case
    expected = gradient(network, inputs, targets, None)
    largest = {
        name: max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(p)) for name, p in expected.projections.items()
    }
    assert all(value > 0 for value in largest.values()), f"compares 0 with 0: {largest}"
    assert zoo.difference(gradient(network, inputs, targets, BPTT()), expected) < 1e-12
    assert zoo.difference(gradient(network, inputs, targets, BPTT(checkpoint=True, segment=3)), expected) < 1e-12


def test_a_window_over_the_whole_trial_is_bptt(case):
    network, inputs, targets = case
    expected = gradient(network, inputs, targets, BPTT())
    assert zoo.difference(gradient(network, inputs, targets, TruncatedBPTT(zoo.STEPS)), expected) < 1e-12
    assert zoo.difference(gradient(network, inputs, targets, TruncatedBPTT(3)), expected) > 1e-4


@pytest.mark.parametrize("neuron", zoo.SMOOTH)
def test_bptt_equals_finite_differences(neuron):
    network = zoo.two_layers(neuron, "spike_and_slab", jr.key(0))
    inputs, targets = zoo.trial(jr.key(1))
    flat, build = ravel_pytree(eqx.filter(network, network.trainable()))
    rest = eqx.filter(network, network.trainable(), inverse=True)
    loss = jax.jit(lambda flat: zoo.loss(eqx.combine(build(flat), rest), inputs, targets))
    slope = jax.jit(jax.grad(lambda flat: zoo.loss(eqx.combine(build(flat), rest), inputs, targets, BPTT())))(flat)
    for seed in range(5):
        direction = jr.normal(jr.key(seed), flat.shape)
        numeric = (loss(flat + 1e-5 * direction) - loss(flat - 1e-5 * direction)) / 2e-5
        assert jnp.isclose(numeric, slope @ direction, rtol=1e-6)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_truncated_bptt_is_bptt_with_the_state_detached_between_windows(window):
    network = zoo.two_layers("leaky_current", "dense", jr.key(0))
    inputs, targets = zoo.trial(jr.key(1))

    def windows(network):
        total, state = 0.0, None
        for start in range(0, zoo.STEPS, window):
            stretch = slice(start, start + window)
            out = network(inputs[stretch], state=state)
            total += jnp.sum((out.outputs - targets[stretch]) ** 2)
            state = jax.lax.stop_gradient(out.state)
        return total

    expected = eqx.filter_jit(eqx.filter_grad(windows))(network)
    assert zoo.difference(gradient(network, inputs, targets, TruncatedBPTT(window)), expected) < 1e-12


@settings(max_examples=10)
@given(
    order=st.permutations(range(zoo.SIZE)),
    seed=st.integers(0, 2**31 - 1),
    rule=st.sampled_from([BPTT(), TruncatedBPTT(3)]),
)
def test_relabelling_neurons_relabels_the_gradient(order, seed, rule):
    order = jnp.array(order)

    def relabel(network):
        rows = ["input->hidden", "hidden->hidden", "bias->hidden"]
        columns = ["hidden->hidden", "hidden->readout"]
        for names, axis in ((rows, 0), (columns, 1)):
            for name in names:
                where = lambda n, name=name: n.projections[name].synapse.weight  # noqa: E731
                network = eqx.tree_at(where, network, jnp.take(where(network), order, axis))
        return network

    network = zoo.single_layer("leaky_current", "dense", jr.key(3))
    inputs, targets = zoo.trial(jr.key(seed))
    expected = relabel(gradient(network, inputs, targets, rule))
    assert zoo.difference(gradient(relabel(network), inputs, targets, rule), expected) < 1e-12


@pytest.mark.parametrize(("steps", "segment"), [(1, 3), (7, 3), (8, 2), (7, 1)])
def test_how_time_is_cut_changes_nothing(steps, segment):
    network = zoo.single_layer("leaky_relu", "spike_and_slab", jr.key(0))
    inputs, targets = zoo.trial(jr.key(1), steps)
    expected = gradient(network, inputs, targets, BPTT(segment=steps))
    assert zoo.difference(gradient(network, inputs, targets, BPTT(segment=segment)), expected) < 1e-12


@pytest.mark.parametrize("synapse", zoo.SYNAPSES)
def test_a_feedback_matrix_carries_credit_in_place_of_the_transpose(synapse):
    network = zoo.single_layer("leaky_current", synapse, jr.key(0))
    inputs, targets = zoo.trial(jr.key(1))
    mean = network.moments()["hidden->readout"].mean
    random = network.with_feedback("random", key=jr.key(5))
    exact = eqx.tree_at(lambda n: n.projections["hidden->readout"].feedback.weight, random, mean)
    expected = gradient(network, inputs, targets, BPTT()).projections
    by_transpose = gradient(exact, inputs, targets, BPTT()).projections
    by_random = gradient(random, inputs, targets, BPTT()).projections
    if synapse != "spike_and_slab":  # there the feedback also blocks the path through the variance
        assert zoo.difference(by_transpose["input->hidden"], expected["input->hidden"]) < 1e-12
    assert zoo.difference(by_random["input->hidden"], by_transpose["input->hidden"]) > 1e-3
    # The readout's own weights see the error itself, whatever carries it further back.
    assert zoo.difference(by_random["hidden->readout"].synapse, expected["hidden->readout"].synapse) < 1e-12
    assert jnp.abs(by_random["hidden->readout"].feedback.weight).max() == 0


def _products_in_backward_loop(jaxpr):
    """Matrix products in the innermost loop that runs backward in time."""
    count = None
    for equation in jaxpr.eqns:
        inner = [value.jaxpr for value in equation.params.values() if hasattr(value, "jaxpr")]
        for body in inner:
            found = _products_in_backward_loop(body)
            count = found if count is None else count
            if count is None and equation.primitive.name == "scan" and equation.params["reverse"]:
                count = sum(e.primitive.name == "dot_general" for e in body.eqns)
    return count


@pytest.mark.parametrize(("rule", "is_free"), [(BPTT(), False), (EProp(), True)])
def test_blocked_paths_leave_no_matrix_product_in_the_backward_loop(rule, is_free):
    network = zoo.single_layer("alif", "dense", jr.key(0))
    inputs, targets = zoo.trial(jr.key(1))
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)
    find = jax.grad(lambda arrays: zoo.loss(eqx.combine(arrays, rest), inputs, targets, rule))
    assert (_products_in_backward_loop(jax.make_jaxpr(find)(arrays).jaxpr) == 0) == is_free


def test_the_gradient_by_drive_is_the_credit():
    network = zoo.single_layer("leaky_relu", "spike_and_slab", jr.key(0))
    inputs, targets = zoo.trial(jr.key(1))

    @jax.jit
    def credit(drive):
        def loss(drive):
            outputs = network(inputs, rule=BPTT(), key=jr.key(7), drive={"hidden": drive}).outputs
            return jnp.sum((outputs - targets) ** 2)

        return jax.grad(loss)(drive)

    credits = credit(jnp.zeros((zoo.STEPS, zoo.BATCH, zoo.SIZE)))
    bias = gradient(network, inputs, targets, BPTT()).projections["bias->hidden"].synapse.weight
    assert jnp.allclose(credits.sum((0, 1))[:, None], bias, rtol=1e-12)


def test_frozen_weights_get_no_gradient_and_change_no_other():
    network = zoo.single_layer("leaky_current", "dense", jr.key(0))
    frozen = eqx.tree_at(
        lambda n: n.projections["hidden->hidden"],
        network,
        rg.Projection("hidden", "hidden", network.projections["hidden->hidden"].synapse, delay=1, frozen=True),
    )
    inputs, targets = zoo.trial(jr.key(1))
    free, held = (gradient(n, inputs, targets, BPTT()).projections for n in (network, frozen))
    assert jnp.abs(held["hidden->hidden"].synapse.weight).max() == 0
    assert zoo.difference(held["input->hidden"].synapse, free["input->hidden"].synapse) < 1e-12


def test_gradients_of_tied_weights_add():
    network = zoo.single_layer("vanilla", "dense", jr.key(0))
    square = network.projections["hidden->hidden"].synapse
    first = rg.Projection("input", "hidden", rg.synapses.Dense(jnp.eye(zoo.SIZE)))
    populations = {"hidden": rg.neurons.LeakyRate(zoo.SIZE), "readout": rg.neurons.Linear(zoo.SIZE)}
    out = rg.synapses.Tied("hidden->hidden", zoo.SIZE, zoo.SIZE, transposed=True)

    def build(readout):
        wires = [first, rg.Projection("hidden", "hidden", square, delay=1), readout]
        return rg.Network(populations, wires, inputs=zoo.SIZE, readout="readout")

    tied = build(rg.Projection("hidden", "readout", out))
    free = build(rg.Projection("hidden", "readout", rg.synapses.Dense(square.weight.T)))
    inputs = jr.normal(jr.key(1), (5, 2, zoo.SIZE))
    targets = jr.normal(jr.key(2), (5, 2, zoo.SIZE))
    tied, free = (gradient(n, inputs, targets, BPTT()).projections for n in (tied, free))
    total = free["hidden->hidden"].synapse.weight + free["hidden->readout"].synapse.weight.T
    assert zoo.difference(tied["hidden->hidden"].synapse.weight, total) < 1e-12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BPTT(segment=0), "BPTT.segment=.* is a number of time steps"),
        (lambda: TruncatedBPTT(window=-2), "TruncatedBPTT.window=.* is a number of time steps"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
