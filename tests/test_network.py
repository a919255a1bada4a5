"""The graph, and its forward pass against a simulator of plain loops."""

import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import GRAPHS, OUTPUTS, SIZE, loop, single_layer, trial, two_layers

import retrograde as rg
from retrograde.network import NetworkError
from retrograde.synapses import Dense, Diagonal, Identity, Masked, SpikeAndSlab, Tied

CLOSE = {"rtol": 1e-12, "atol": 1e-13}


@eqx.filter_jit
def run(network, inputs, **options):
    return network(inputs, **options)


# ---------------------------------------------------------------- the oracle: loops over everything


def simulate(network, weights, inputs, noise=None, variances=None):
    """Runs a network of `LeakyRate(tanh)`, `LSTM` and `Linear` populations, one projection and one step at a time.

    Args:
        network: Supplies the graph only: names, delays, slices, ports.
        weights: Weight matrix of each projection, written out.
        inputs: `"time batch input"`.
        noise: Standardised noise for each population.
        variances: Variance matrix of each projection that has one.
    """
    time, batch, _ = inputs.shape
    populations, variances = network.populations, variances or {}
    order, undelayed = [], {n: [] for n in populations}
    for p in network.projections.values():
        if p.source in populations and p.delay == 0:
            undelayed[p.target].append(p.source)
    while len(order) < len(populations):
        order += [n for n in populations if n not in order and all(s in order for s in undelayed[n])]
    state, start = {}, {}
    for name, neuron in populations.items():
        kind = type(neuron).__name__
        initial = np.broadcast_to(np.asarray(getattr(neuron, "initial", 0.0)), (batch, neuron.size))
        state[name] = (initial, np.zeros((batch, neuron.size)))
        start[name] = np.tanh(initial) if kind == "LeakyRate" else np.zeros((batch, neuron.size))
    activity = {name: np.zeros((time, batch, neuron.size)) for name, neuron in populations.items()}

    def seen(p, t):
        if p.source == "bias":
            return np.ones((batch, 1))
        when = t - p.delay
        if p.source == "input":
            whole = inputs[when] if when >= 0 else np.zeros_like(inputs[0])
        else:
            whole = activity[p.source][when] if when >= 0 else start[p.source]
        lo, hi = p.source_slice or (0, whole.shape[1])
        return whole[:, lo:hi]

    for t in range(time):
        for name in order:
            neuron = populations[name]
            mean = {port: np.zeros((batch, neuron.size)) for port in neuron.ports}
            variance = {port: np.zeros((batch, neuron.size)) for port in neuron.ports}
            for label, p in network.projections.items():
                if p.target != name:
                    continue
                lo, hi = p.target_slice or (0, neuron.size)
                pre = seen(p, t)
                for total, table, x in ((mean, weights, pre), (variance, variances, pre**2)):
                    if label in table:
                        for number, port in enumerate(p.ports or neuron.ports):
                            block = table[label][number * (hi - lo) : (number + 1) * (hi - lo)]
                            for b in range(batch):
                                for i in range(hi - lo):
                                    total[port][b, lo + i] += sum(block[i, j] * x[b, j] for j in range(x.shape[1]))
            current = {}
            for number, port in enumerate(neuron.ports):
                eps = 0.0
                if noise is not None and name in noise:
                    eps = noise[name][t][:, number * neuron.size : (number + 1) * neuron.size]
                current[port] = mean[port] + eps * np.sqrt(variance[port])
            kind = type(neuron).__name__
            if kind == "LeakyRate":
                alpha = np.asarray(neuron.alpha)
                state[name] = ((1 - alpha) * state[name][0] + alpha * current["current"],)
                activity[name][t] = np.tanh(state[name][0])
            elif kind == "LSTM":
                gate = {port: 1 / (1 + np.exp(-current[port])) for port in ("input", "output")}
                forget = 1 / (1 + np.exp(-current["forget"] - neuron.forget_bias))
                cell = forget * state[name][0] + gate["input"] * np.tanh(current["cell"])
                state[name] = (cell, gate["output"] * np.tanh(cell))
                activity[name][t] = state[name][1]
            else:
                assert kind == "Linear"
                activity[name][t] = current["current"]
    return activity


def everything(key, delay=2):
    """Each feature of the graph once: slices, ports, bias, ties, masks, one-to-one, delays, feedback, two cycles."""
    keys = jr.split(key, 12)
    draw = lambda k, shape: 0.6 * jr.normal(keys[k], shape)  # noqa: E731
    mask = np.array([[True, False, True], [True, True, False], [False, True, True], [True, True, True]])
    return rg.Network(
        {
            "b": rg.neurons.LeakyRate(3, "tanh", alpha=0.4, initial=-0.3),
            "a": rg.neurons.LeakyRate(4, "tanh", alpha=jnp.array([0.2, 0.5, 0.9, 1.0]), initial=0.2),
            "gated": rg.neurons.LSTM(2),
            "out": rg.neurons.Linear(2),
        },
        [
            rg.Projection("input", "a", Dense(draw(0, (4, 3)))),
            rg.Projection(
                "input", "a", Dense(draw(1, (2, 2))), delay=delay, source_slice=(1, 3), target_slice=(1, 3), name="tap"
            ),
            rg.Projection("a", "a", Diagonal(draw(2, (4,))), delay=1),
            rg.Projection(
                "a",
                "b",
                Dense(
                    draw(3, (3, 4)),
                ),
                feedback=rg.feedback.Random(draw(4, (3, 4))),
            ),
            rg.Projection("b", "a", Tied("a->b", 4, 3, transposed=True), delay=delay + 1, name="tie"),
            rg.Projection("b", "a", Masked(Dense(draw(5, (4, 3))), mask, 0.25), delay=1, name="masked"),
            rg.Projection("b", "b", Identity(2), delay=2, source_slice=(0, 2), target_slice=(1, 3)),
            rg.Projection("bias", "b", Dense(draw(6, (3, 1))), frozen=True),
            rg.Projection("b", "gated", Dense(draw(7, (8, 3)))),
            rg.Projection("gated", "gated", Dense(draw(8, (2, 2))), delay=1, ports=("cell",)),
            rg.Projection(
                "input", "gated", Dense(draw(9, (2, 3))), delay=1, ports=("output", "input"), target_slice=(1, 2)
            ),
            rg.Projection("gated", "out", Dense(draw(10, (2, 2)))),
            rg.Projection("a", "out", Dense(draw(11, (2, 4))), delay=delay),
        ],
        inputs=3,
        readout="out",
    )


def written_out(network):
    """The weight matrices of `everything`, made by hand."""
    w = {n: p.synapse for n, p in network.projections.items()}
    full = {n: np.asarray(s.weight) for n, s in w.items() if isinstance(s, Dense)}
    full["a->a"] = np.diag(np.asarray(w["a->a"].weight))
    masked = w["masked"]
    full["masked"] = np.where(masked.mask, np.asarray(masked.synapse.weight), 0.25)
    full["tie"] = full["a->b"].T
    full["b->b@2"] = np.eye(2)
    return full


@pytest.mark.parametrize(("delay", "steps"), [(1, 6), (2, 1), (3, 5)])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5)
def test_a_network_does_what_loops_over_everything_do(delay, steps, seed):
    weight_key, input_key = jr.split(jr.key(seed))
    network = everything(weight_key, delay)
    inputs = jr.normal(input_key, (steps, 2, 3))
    actual = run(network, inputs, record=("a", "b", "gated"))
    expected = simulate(network, written_out(network), np.asarray(inputs))
    np.testing.assert_allclose(actual.outputs, expected["out"], **CLOSE)
    for name, activity in actual.activity.items():
        np.testing.assert_allclose(activity, expected[name], **CLOSE)


def test_noise_enters_by_the_root_of_the_summed_variances():
    keys = jr.split(jr.key(3), 4)

    def synapse(key, shape):
        m, pi, xi = jr.split(key, 3)
        return SpikeAndSlab(jr.normal(m, shape), jr.uniform(pi, shape), jr.uniform(xi, shape))

    network = rg.Network(
        {"a": rg.neurons.LeakyRate(3, "tanh", alpha=0.5), "out": rg.neurons.Linear(2)},
        [
            rg.Projection("input", "a", synapse(keys[0], (3, 2))),
            rg.Projection("a", "a", synapse(keys[1], (3, 3)), delay=1),
            rg.Projection("a", "a", Dense(jnp.eye(3)), delay=2),
            rg.Projection("a", "out", synapse(keys[2], (2, 3))),
        ],
        inputs=2,
        readout="out",
    )
    inputs = jr.normal(keys[3], (5, 2, 2))
    noise = {"a": jr.normal(jr.key(1), (5, 2, 3)), "out": jr.normal(jr.key(2), (5, 2, 2))}
    s = {n: p.synapse for n, p in network.projections.items()}
    mean = {n: np.asarray((1 - x.pi) * x.m) if isinstance(x, SpikeAndSlab) else np.eye(3) for n, x in s.items()}
    second = {n: (1 - x.pi) * (x.xi + x.m**2) for n, x in s.items() if isinstance(x, SpikeAndSlab)}
    variance = {n: np.asarray(rho) - mean[n] ** 2 for n, rho in second.items()}
    expected = simulate(network, mean, np.asarray(inputs), jax.tree.map(np.asarray, noise), variance)
    np.testing.assert_allclose(run(network, inputs, noise=noise).outputs, expected["out"], **CLOSE)
    off = run(network, inputs, weights="mean").outputs
    np.testing.assert_allclose(off, simulate(network, mean, np.asarray(inputs))["out"], **CLOSE)


def test_stages_group_what_depends_on_each_other_through_time():
    make = lambda graph: GRAPHS[graph]("vanilla", "dense", jr.key(0))  # noqa: E731
    assert [stage.populations for stage in make("single").stages] == [("hidden",), ("readout",)]
    assert [stage.populations for stage in make("two_layers").stages] == [("lower",), ("upper",), ("readout",)]
    stages = make("loop").stages
    assert [stage.populations for stage in stages] == [("e", "i"), ("readout",)]
    assert {wire.name for wire in stages[0].inner} == {"e->i", "e->e", "i->e@3", "i->i@2"}
    assert {wire.name for wire in stages[0].outer} == {"input->e"}
    assert [stage.populations for stage in everything(jr.key(0)).stages] == [("a", "b"), ("gated",), ("out",)]


def test_undelayed_connections_and_not_the_declaration_order_populations():
    linear = rg.neurons.Linear(1)
    one = Dense(jnp.ones((1, 1)))
    links = [("c", "d"), ("b", "c"), ("input", "b"), ("d", "out")]
    network = rg.Network(
        dict.fromkeys(("out", "d", "b", "c"), linear),
        [rg.Projection(*link, one) for link in links],
        inputs=1,
        readout="out",
    )
    assert [stage.populations for stage in network.stages] == [("b",), ("c",), ("d",), ("out",)]


@pytest.mark.parametrize(
    "transform", [lambda n: jax.tree.map(lambda x: x, n), jax.jit(lambda n: n)], ids=["map", "jit"]
)
def test_transformations_change_neither_stages_nor_draws(transform):
    network = two_layers("vanilla", "spike_and_slab", jr.key(0))
    changed = transform(network)
    assert changed.stages == network.stages
    key = jr.key(4)
    weight = lambda n: {name: p.synapse.weight for name, p in n.sample(key).projections.items()}  # noqa: E731
    assert eqx.tree_equal(
        dict(sorted(weight(network).items())), dict(sorted(weight(changed).items())), rtol=1e-12, atol=0.0
    )
    inputs = trial(jr.key(1))[0]
    for weights in ("mean-field", "annealed", "quenched"):
        options = {"key": key, "weights": weights}
        np.testing.assert_allclose(
            run(changed, inputs, **options).outputs, run(network, inputs, **options).outputs, **CLOSE
        )


def test_before_the_first_step_activity_is_that_of_the_initial_state():
    network = rg.Network(
        {"a": rg.neurons.LeakyRate(1, "tanh", initial=0.7), "out": rg.neurons.Linear(1)},
        [
            rg.Projection("input", "a", Dense(jnp.ones((1, 1)))),
            rg.Projection("a", "out", Dense(jnp.ones((1, 1))), delay=2),
            rg.Projection("input", "out", Dense(10 * jnp.ones((1, 1))), delay=1),
        ],
        inputs=1,
        readout="out",
    )
    inputs = jnp.array([1.0, 2.0, 3.0, 4.0])[:, None, None]
    expected = np.tanh([0.7, 0.7, 1.0, 2.0]) + 10 * np.array([0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(run(network, inputs).outputs[:, 0, 0], expected, **CLOSE)


@pytest.mark.parametrize(("graph", "weights"), [("single", "mean-field"), ("single", "annealed"), ("loop", "quenched")])
def test_the_last_step_alone_is_the_last_of_all(graph, weights):
    network = GRAPHS[graph]("vanilla", "spike_and_slab", jr.key(0))
    inputs = trial(jr.key(1))[0]
    everything = run(network, inputs, key=jr.key(2), weights=weights)
    for steps in (1, 3):
        some = run(network, inputs, key=jr.key(2), weights=weights, readout_steps=steps)
        assert some.outputs.shape == (steps, inputs.shape[1], OUTPUTS)
        np.testing.assert_allclose(some.outputs, everything.outputs[-steps:], **CLOSE)
        assert eqx.tree_equal(some.state, everything.state, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("neuron", "weights"), [("lif_refractory", "mean-field"), ("lstm", "quenched"), ("vanilla", "annealed")]
)
def test_two_calls_with_the_state_equal_one_call(neuron, weights):
    network = loop(neuron, "spike_and_slab", jr.key(0))
    inputs = trial(jr.key(1))[0]
    options = {"key": jr.key(2), "weights": weights, "record": ("i",)}
    whole = run(network, inputs, **options)
    first = run(network, inputs[:3], **options)
    second = run(network, inputs[3:], state=first.state, **options)
    np.testing.assert_allclose(jnp.concatenate([first.outputs, second.outputs]), whole.outputs, **CLOSE)
    np.testing.assert_allclose(
        jnp.concatenate([first.activity["i"], second.activity["i"]]), whole.activity["i"], **CLOSE
    )
    assert eqx.tree_equal(second.state, whole.state, rtol=1e-12, atol=1e-13)
    assert int(whole.state.step) == inputs.shape[0]


@pytest.mark.parametrize(
    "rule",
    [
        rg.rules.BPTT(),
        rg.rules.BPTT(segment=3),
        rg.rules.BPTT(checkpoint=True),
        rg.rules.TruncatedBPTT(2),
    ],
    ids=["bptt", "segment", "checkpoint", "truncated"],
)
def test_the_rule_does_not_change_what_the_network_does(rule):
    network = loop("alif", "spike_and_slab", jr.key(0))
    inputs, key = trial(jr.key(1))[0], jr.key(2)
    expected = run(network, inputs, key=key)
    actual = run(network, inputs, key=key, rule=rule)
    np.testing.assert_allclose(actual.outputs, expected.outputs, **CLOSE)
    assert eqx.tree_equal(actual.state, expected.state, rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------- refusals


def small(*more, **changes):
    """A network that is right but for one change; `None` leaves a projection out."""
    parts = {
        "into": rg.Projection("input", "hidden", Dense(jnp.ones((3, 2)))),
        "back": rg.Projection("hidden", "hidden", Dense(jnp.ones((3, 3))), delay=1),
        "out": rg.Projection("hidden", "readout", Dense(jnp.ones((1, 3)))),
    }
    populations = {"hidden": rg.neurons.LeakyRate(3), "readout": rg.neurons.Linear(1)} | changes.pop("populations", {})
    options = {"inputs": 2, "readout": "readout"} | {k: changes.pop(k) for k in ("inputs", "readout") if k in changes}
    parts |= changes
    return rg.Network(populations, [p for p in (*parts.values(), *more) if p is not None], **options)


def link(source, target, shape, **options):
    return rg.Projection(source, target, Dense(jnp.ones(shape)), **options)


LSTM = {"hidden": rg.neurons.LSTM(3)}
REFUSALS = {
    "loop": (
        lambda: small(
            link("hidden", "b", (1, 3)), link("b", "hidden", (3, 1)), populations={"b": rg.neurons.Linear(1)}
        ),
        r"undelayed projections form a loop, (b -> hidden -> b|hidden -> b -> hidden).*Give one .* `delay=1`",
    ),
    "self_loop": (lambda: small(back=link("hidden", "hidden", (3, 3))), r"form a loop, hidden -> hidden:"),
    "source": (lambda: small(out=link("hiden", "readout", (1, 3))), r"'hiden->readout': source: .*mean 'hidden'\?"),
    "input": (lambda: small(into=link("inputs", "hidden", (3, 2))), r"source: .*did you mean 'input'\?"),
    "target": (lambda: small(out=link("hidden", "redout", (1, 3))), r"'hidden->redout': target: .*mean 'readout'\?"),
    "no_likely_target": (lambda: small(out=link("hidden", "xyz", (1, 3))), r"'xyz' among 'hidden', 'readout'\.$"),
    "into_input": (lambda: small(link("hidden", "input", (2, 3))), r"'hidden->input' ends at 'input'.*source only"),
    "into_bias": (lambda: small(link("hidden", "bias", (1, 3))), r"ends at 'bias'"),
    "size": (
        lambda: small(into=link("input", "hidden", (3, 4))),
        r"'input->hidden' has a synapse of 3 rows and 4 columns, but 'hidden' takes 3 currents and 'input' gives 2 "
        r"activities; the weights must have shape \(3, 2\)",
    ),
    "size_ports": (lambda: small(populations=LSTM), r"'hidden' takes 12 currents"),
    "size_slice": (lambda: small(into=link("input", "hidden", (3, 2), target_slice=(0, 2))), r"takes 2 currents"),
    "unreachable": (lambda: small(into=None), r"Population 'hidden' cannot be reached from the input"),
    "bias_only": (
        lambda: small(link("bias", "b", (1, 1)), link("b", "readout", (1, 1)), populations={"b": rg.neurons.Linear(1)}),
        r"Population 'b' cannot be reached",
    ),
    "dead_end": (
        lambda: small(link("hidden", "b", (1, 3)), populations={"b": rg.neurons.Linear(1)}),
        r"Population 'b' cannot influence the readout 'readout'",
    ),
    "twice": (lambda: small(link("input", "hidden", (3, 2))), r"two projections called 'input->hidden'.*a `name`"),
    "negative_delay": (lambda: small(back=link("hidden", "hidden", (3, 3), delay=-1)), r"`delay` must be .* got -1"),
    "boolean_delay": (lambda: small(back=link("hidden", "hidden", (3, 3), delay=True)), r"`delay` .* got True"),
    "source_slice": (
        lambda: small(out=link("hidden", "readout", (1, 2), source_slice=(2, 4))),
        r"'hidden->readout': source slice 2:4 is empty or outside 0:3",
    ),
    "target_slice": (lambda: small(into=link("input", "hidden", (3, 2), target_slice=(1, 1))), r"target slice 1:1"),
    "port": (
        lambda: small(back=link("hidden", "hidden", (3, 3), delay=1, ports=("forgot",)), populations=LSTM),
        r"'hidden' has no port 'forgot'; its ports are input, forget, cell, output",
    ),
    "port_twice": (
        lambda: small(back=link("hidden", "hidden", (6, 3), delay=1, ports=("cell", "cell")), populations=LSTM),
        r"'hidden->hidden' names a port twice: cell, cell",
    ),
    "tied_to_nothing": (
        lambda: small(back=rg.Projection("hidden", "hidden", Tied("nothing", 3, 3), delay=1)),
        r"'hidden->hidden' is tied to 'nothing', which is no projection",
    ),
    "tied_to_a_tie": (
        lambda: small(
            rg.Projection("hidden", "hidden", Tied("hidden->hidden", 3, 3), delay=2),
            rg.Projection("hidden", "hidden", Tied("hidden->hidden@2", 3, 3), delay=3),
        ),
        r"'hidden->hidden@3' is tied to 'hidden->hidden@2', which is itself tied to 'hidden->hidden'",
    ),
    "tied_to_itself": (
        lambda: small(back=rg.Projection("hidden", "hidden", Tied("hidden->hidden", 3, 3), delay=1)),
        r"itself tied",
    ),
    "tied_shape": (
        lambda: small(rg.Projection("hidden", "hidden", Tied("hidden->readout", 3, 3), delay=2)),
        r"tied to weights of 1 rows and 3 columns, but declares 3 and 3",
    ),
    "feedback_shape": (
        lambda: small(out=link("hidden", "readout", (1, 3), feedback=rg.feedback.Random(jnp.ones((3, 1))))),
        r"`feedback` must have the shape of the weights, \(1, 3\), got \(3, 1\)",
    ),
    "feedback_one_to_one": (
        lambda: small(
            back=rg.Projection("hidden", "hidden", Identity(3), delay=1, feedback=rg.feedback.Random(jnp.ones((3, 3))))
        ),
        r"'hidden->hidden' is one-to-one",
    ),
    "reserved_input": (
        lambda: small(populations={"input": rg.neurons.Linear(1)}),
        r"cannot be called 'input'.*reserved",
    ),
    "reserved_bias": (lambda: small(populations={"bias": rg.neurons.Linear(1)}), r"cannot be called 'bias'"),
    "readout": (lambda: small(readout="redout"), r"readout='redout'.*did you mean 'readout'\?"),
    "inputs": (lambda: small(inputs=0), r"`Network\(inputs=...\)` must be a positive number of channels, got 0"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_graph_that_cannot_be_simulated_is_refused(case):
    build, message = REFUSALS[case]
    with pytest.raises(NetworkError, match=message):
        build()
    assert small().stages, "the same without the mistake is accepted"


CALLS = {
    "channels": (lambda n: n(jnp.ones((4, 1, 3))), r"axes \(time, batch, 2\).* got shape \(4, 1, 3\)"),
    "no_steps": (lambda n: n(jnp.ones((0, 1, 2))), r"none of them empty"),
    "no_steps_wanted": (lambda n: n(jnp.ones((4, 1, 2)), readout_steps=0), r"`readout_steps=0` must lie between 1 and"),
    "too_many_steps": (lambda n: n(jnp.ones((4, 1, 2)), readout_steps=5), r"between 1 and the 4 steps"),
    "record": (lambda n: n(jnp.ones((4, 1, 2)), record=("hiden",)), r"`record`: .*did you mean 'hidden'\?"),
    "drive": (lambda n: n(jnp.ones((4, 1, 2)), drive={"hiden": jnp.ones((4, 1, 3))}), r"`drive`: .*mean 'hidden'\?"),
    "noise": (lambda n: n(jnp.ones((4, 1, 2)), noise={"readot": jnp.ones((4, 1, 1))}), r"`noise`: .*mean 'readout'\?"),
    "drive_shape": (
        lambda n: n(jnp.ones((4, 1, 2)), drive={"hidden": jnp.ones((4, 1, 2))}),
        r"`drive\['hidden'\]` must have axes .* here \(4, 1, 3\), got shape \(4, 1, 2\)",
    ),
    "state_of_another_batch": (
        lambda n: n(jnp.ones((4, 1, 2)), state=n.initial_state(5)),
        r"`state.neurons\['hidden'\].value` must have shape \(1, 3\) .* for 1 trials, got shape \(5, 3\)",
    ),
    "state_of_another_type": (
        lambda n: n(jnp.ones((4, 1, 2)), state=n.initial_state(1, jnp.float32)),
        r"must have shape .* and type float64 .* got .* float32",
    ),
    "state_of_another_network": (
        lambda n: n(jnp.ones((4, 1, 2)), state=small(populations={"hidden": rg.neurons.LIF(3)}).initial_state(1)),
        r"`state` is not one of this network",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_with_a_wrong_argument_is_refused(case):
    call, message = CALLS[case]
    with pytest.raises(ValueError, match=message):
        call(small())


def test_noise_needs_a_key():
    inputs = jnp.ones((2, 1, 2))
    random = small(into=rg.Projection("input", "hidden", SpikeAndSlab(*jnp.ones((3, 3, 2)) * 0.5)))
    with pytest.raises(ValueError, match=r"weights are distributions: pass `key=`.*`weights=\"mean\"`"):
        random(inputs)
    for weights in ("annealed", "quenched"):
        with pytest.raises(ValueError, match=f'`weights="{weights}"` draws weights: pass `key=`'):
            random(inputs, weights=weights)
    with pytest.raises(ValueError, match=r"The current of 'hidden' fluctuates: pass `key=`, or `noise=`"):
        random(inputs, noise={"readout": jnp.ones((2, 1, 1))})
    noisy = small(populations={"hidden": rg.neurons.LeakyRate(3, alpha=0.5, noise=0.1)})
    with pytest.raises(ValueError, match=r"states are noisy: pass `key=`"):
        noisy(inputs)
    assert bool(jnp.isfinite(random(inputs, weights="mean").outputs).all())


def test_wrong_types_are_refused_without_the_type_checker_too():
    """Under the hook jaxtyping refuses first; a user has no hook and needs our words."""
    script = """
        import jax.numpy as jnp, retrograde as rg
        dense = rg.synapses.Dense(jnp.ones((1, 2)))
        links = [rg.Projection("input", "out", dense)]
        network = rg.Network({"out": rg.neurons.Linear(1)}, links, inputs=2, readout="out")
        for call in (
            lambda: network(jnp.ones((4, 2))),
            lambda: network(jnp.ones((4, 1, 2), jnp.int32)),
            lambda: network(jnp.ones((4, 1, 2)), weights="anealed"),
            lambda: rg.Network({"out": rg.neurons.Linear(1)}, [], inputs=1.5, readout="out"),
            lambda: rg.Network({"out": rg.neurons.Linear(1)},
                               [rg.Projection("input", "out", dense, delay=[1, 2])],
                               inputs=2, readout="out"),
        ):
            try:
                call()
                print("accepted")
            except ValueError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    expected = (
        "`inputs` must have axes (time, batch, 2), none of them empty, got shape (4, 2).",
        "`inputs` must be floating point, got int32",
        "`weights='anealed'` must be one of 'mean-field', 'annealed', 'quenched', 'mean'.",
        "`Network(inputs=...)` must be a positive number of channels, got 1.5.",
        "Projection 'input->out': `delay` must be a whole number of steps, 0 or more, got [1, 2]. For several delays",
    )
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)


# ---------------------------------------------------------------- what an optimiser may touch


def test_trainable_leaves_and_their_labels():
    network = rg.Network(
        {"a": rg.neurons.LeakyRate(2, alpha=jnp.array([0.3, 0.6])), "out": rg.neurons.Linear(1)},
        [
            rg.Projection("input", "a", SpikeAndSlab(*jnp.ones((3, 2, 3)) * 0.5)),
            rg.Projection("a", "a", Masked(Dense(jnp.ones((2, 2))), np.eye(2, dtype=bool), jnp.ones((2, 2))), delay=1),
            rg.Projection(
                "a", "a", Masked(Masked(Dense(jnp.ones((2, 2))), np.eye(2, dtype=bool)), np.eye(2) == 0), delay=2
            ),
            rg.Projection("bias", "a", Dense(jnp.ones((2, 1))), frozen=True, name="offset"),
            rg.Projection(
                "a",
                "out",
                rg.synapses.Dale(jnp.ones((1, 2)), [1, -1]),
                feedback=rg.feedback.Random(jnp.ones((1, 2))),
            ),
        ],
        inputs=3,
        readout="out",
    )
    flags, labels = jax.tree.leaves(network.trainable()), jax.tree.leaves(network.labels())
    assert len(flags) == len(labels) == len(jax.tree.leaves(network))
    chosen = [label for label, flag in zip(labels, flags, strict=True) if flag]
    assert sorted(chosen) == sorted(
        ["a.alpha", "input->a.m", "input->a.pi", "input->a.xi", "a->a.weight", "a->a@2.weight", "a->out.weight"]
    )
    others = {label for label, flag in zip(labels, flags, strict=True) if not flag}
    assert others >= {"a->a.fill", "a->a.mask", "offset.weight", "a->out.feedback", "a->out.sign"}
    parameters, rest = eqx.partition(network, network.trainable())
    assert eqx.tree_equal(eqx.combine(parameters, rest), network)


def test_labels_of_parameters_inside_containers():
    class Sum(rg.synapses.AbstractSynapse):
        parts: tuple[jax.Array, ...]

        @property
        def shape(self):
            return self.parts[0].shape

        def moments(self):
            return rg.synapses.Moments(sum(self.parts))

    network = small(into=rg.Projection("input", "hidden", Sum((jnp.ones((3, 2)), jnp.ones((3, 2))))))
    flags = network.trainable().projections["input->hidden"].synapse.parts
    assert flags == (True, True)
    assert network.labels().projections["input->hidden"].synapse.parts == ("input->hidden.parts",) * 2


def test_project_reaches_every_synapse():
    shape = (3, 3, 2)
    outside = SpikeAndSlab(jnp.ones(shape[1:]), jnp.full(shape[1:], 1.3), jnp.full(shape[1:], -0.1))
    network = small(
        into=rg.Projection("input", "hidden", outside),
        populations={"hidden": rg.neurons.LeakyRate(3, alpha=0.5)},
        out=rg.Projection("hidden", "readout", Masked(SpikeAndSlab(*-jnp.ones((3, 1, 3))), np.ones((1, 3), bool))),
    ).project()
    into, out = (network.projections[n].synapse for n in ("input->hidden", "hidden->readout"))
    assert bool((into.pi == 1).all()) and bool((into.xi == 0).all())
    assert bool((out.synapse.pi == 0).all()) and bool((out.synapse.m == -1).all())


def test_frozen_and_masked_weights_get_no_gradient():
    network = small(
        back=link("hidden", "hidden", (3, 3), delay=1, frozen=True),
        out=rg.Projection("hidden", "readout", Masked(Dense(jnp.ones((1, 3))), np.array([[True, False, True]]))),
    )
    inputs = jr.normal(jr.key(0), (3, 2, 2))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda n: jnp.sum(n(inputs, rule=rg.rules.BPTT()).outputs ** 2)))(network)
    weight = lambda name: gradient.projections[name].synapse  # noqa: E731
    assert not weight("hidden->hidden").weight.any()
    assert weight("input->hidden").weight.all()
    assert (weight("hidden->readout").synapse.weight != 0).tolist() == [[True, False, True]]


# ---------------------------------------------------------------- random weights


def test_quenched_weights_are_one_sample_for_all_steps():
    network = loop("vanilla", "spike_and_slab", jr.key(0))
    inputs, key = trial(jr.key(1))[0], jr.key(2)
    first, again = (run(network, inputs, key=key, weights="quenched").outputs for _ in range(2))
    assert jnp.array_equal(first, again)
    # The key is split into one for the weights and one for the noise of states.
    drawn = network.sample(jr.split(key)[0])
    assert all(p.synapse.moments().variance is None for p in drawn.projections.values())
    np.testing.assert_allclose(run(drawn, inputs).outputs, first, **CLOSE)
    assert not jnp.allclose(first, run(network, inputs, key=jr.key(3), weights="quenched").outputs)


def test_annealed_weights_are_drawn_anew_in_each_step():
    network = rg.Network(
        {"out": rg.neurons.Linear(2)},
        [rg.Projection("input", "out", SpikeAndSlab(*jnp.ones((3, 2, 2)) * 0.5))],
        inputs=2,
        readout="out",
    )
    inputs = jnp.ones((4, 2, 2))
    annealed = run(network, inputs, key=jr.key(0), weights="annealed").outputs
    assert len({float(x) for x in annealed[:, 0, 0]}) == 4
    assert jnp.array_equal(annealed[:, 0], annealed[:, 1]), "one draw for all trials"
    quenched = run(network, inputs, key=jr.key(0), weights="quenched").outputs
    assert jnp.allclose(quenched, quenched[:1, :1].repeat(4, 0).repeat(2, 1), rtol=1e-13)


def test_sample_resolves_ties_to_one_draw_and_keeps_the_rest():
    shared = SpikeAndSlab(*jnp.ones((3, 3, 3)) * 0.5)
    network = small(
        rg.Projection("hidden", "hidden", Tied("hidden->hidden", 3, 3, transposed=True), delay=2),
        back=rg.Projection("hidden", "hidden", shared, delay=1),
    )
    drawn = network.sample(jr.key(0))
    moments = drawn.moments()
    np.testing.assert_array_equal(moments["hidden->hidden@2"].mean, moments["hidden->hidden"].mean.T)
    assert eqx.tree_equal(drawn.projections["input->hidden"], network.projections["input->hidden"])


# ---------------------------------------------------------------- types and transformations


@pytest.mark.parametrize(("graph", "neuron"), [("two_layers", "lstm"), ("loop", "lif_refractory")])
def test_float32_stays_float32(graph, neuron):
    network = GRAPHS[graph](neuron, "spike_and_slab", jr.key(0))
    narrow = jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, network)
    inputs = trial(jr.key(1))[0].astype(jnp.float32)

    @eqx.filter_jit
    def gradient(network):
        def objective(network):
            trajectory = network(inputs, rule=rg.rules.BPTT(), key=jr.key(0))
            return jnp.sum(trajectory.outputs**2), trajectory

        return eqx.filter_value_and_grad(objective, has_aux=True)(network)

    (value, trajectory), gradients = gradient(narrow)
    for leaf in jax.tree.leaves((value, trajectory.outputs, trajectory.state.neurons, trajectory.state.history)):
        assert leaf.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients)) > 0


def noisy_network():
    """Floats of every kind that a plain `jax.jit` turns into tracers."""
    return small(
        rg.Projection("hidden", "hidden", Masked(Identity(3), np.array([True, False, True]), 0.5), delay=2),
        out=rg.Projection("hidden", "spiking", Dense(jnp.ones((2, 3)))),
        last=link("spiking", "readout", (1, 2)),
        populations={
            "hidden": rg.neurons.LeakyRate(3, alpha=0.5, noise=0.1, initial=0.2),
            "spiking": rg.neurons.ALIF(2, threshold=0.3, refractory=1),
            "readout": rg.neurons.LeakyReadout(1, tau=3.0),
        },
    )


@pytest.mark.parametrize("rule", [None, rg.rules.BPTT()], ids=["none", "bptt"])
def test_a_network_may_be_an_argument_of_a_plain_jit(rule):
    network, inputs = noisy_network(), jr.normal(jr.key(0), (5, 2, 2))

    def objective(network, inputs):
        return jnp.sum(network.project()(inputs, rule=rule, key=jr.key(1)).outputs ** 2)

    expected = eqx.filter_jit(objective)(network, inputs)
    np.testing.assert_allclose(jax.jit(objective)(network, inputs), expected, rtol=1e-12)
    assert float(expected) > 0


def test_a_stack_of_networks_is_mapped_like_a_loop_over_them():
    keys = jr.split(jr.key(0), 3)
    make = lambda key: single_layer("lif", "spike_and_slab", key)  # noqa: E731
    stack = eqx.filter_vmap(make)(keys)
    inputs = trial(jr.key(1))[0]

    def value_and_grad(network, key):
        objective = lambda n: jnp.sum(n(inputs, rule=rg.rules.BPTT(), key=key).outputs ** 2)  # noqa: E731
        return eqx.filter_value_and_grad(objective)(network)

    noise_keys = jr.split(jr.key(2), 3)
    values, gradients = eqx.filter_jit(eqx.filter_vmap(value_and_grad))(stack, noise_keys)
    alone = eqx.filter_jit(value_and_grad)
    for index in range(3):
        value, gradient = alone(make(keys[index]), noise_keys[index])
        np.testing.assert_allclose(values[index], value, rtol=1e-10)
        for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(a[index], b, rtol=1e-9, atol=1e-10)
    assert len({float(v) for v in values}) == 3


def test_a_drive_is_a_current_and_its_gradient_the_credit():
    network = small()
    inputs, drive = jnp.zeros((3, 1, 2)), {"hidden": jnp.full((3, 1, 3), 0.3)}
    out = run(network, inputs, drive=drive).outputs
    first = np.tanh(0.3)
    second = np.tanh(0.3 + 3 * first)
    np.testing.assert_allclose(out[:2, 0, 0], [3 * first, 3 * second], **CLOSE)
    credit = jax.jit(jax.grad(lambda d: network(inputs, drive=d, rule=rg.rules.BPTT()).outputs[-1].sum()))(drive)
    third = np.tanh(0.3 + 3 * second)
    np.testing.assert_allclose(credit["hidden"][2, 0], np.full(3, 1 - third**2), **CLOSE)
    np.testing.assert_allclose(credit["hidden"][1, 0], np.full(3, 3 * (1 - third**2) * (1 - second**2)), **CLOSE)


def test_the_usual_network_in_one_line():
    task = rg.tasks.DelayedRecall(delay=2)
    network = rg.Network.single_layer(task, rg.neurons.LSTM(SIZE), synapse=SpikeAndSlab, key=jr.key(0))
    shapes = {n: p.synapse.shape for n, p in network.projections.items()}
    rows = 4 * SIZE
    assert shapes == {
        "input->hidden": (rows, task.inputs),
        "hidden->hidden": (rows, SIZE),
        "hidden->readout": (task.outputs, SIZE),
        "bias->hidden": (rows, 1),
    }
    recurrent = network.projections["hidden->hidden"].synapse
    for block in jnp.split(recurrent.m, 4):
        np.testing.assert_allclose(block @ block.T, np.eye(SIZE), atol=1e-12)
    assert not recurrent.pi.any() and recurrent.xi.min() > 0 and recurrent.xi.max() < 0.1 / SIZE
    relu = rg.Network.single_layer(task, rg.neurons.LeakyRate(SIZE, "relu"), key=jr.key(0))
    np.testing.assert_array_equal(relu.projections["hidden->hidden"].synapse.weight, np.eye(SIZE))


def test_the_usual_network_keeps_input_and_recurrent_current_of_a_gru_apart():
    task = rg.tasks.DelayedRecall(delay=2)
    network = rg.Network.single_layer(task, rg.neurons.GRU(SIZE), key=jr.key(0))
    parts = {n: (p.synapse.shape, p.ports) for n, p in network.projections.items()}
    assert parts == {
        "input->hidden": ((3 * SIZE, task.inputs), ("reset", "update", "candidate_input")),
        "hidden->hidden": ((3 * SIZE, SIZE), ("reset", "update", "candidate_recurrent")),
        "hidden->readout": ((task.outputs, SIZE), None),
        "bias->hidden": ((4 * SIZE, 1), None),
    }
    for block in jnp.split(network.projections["hidden->hidden"].synapse.weight, 3):
        np.testing.assert_allclose(block @ block.T, np.eye(SIZE), atol=1e-12)
