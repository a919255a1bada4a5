"""Rules that run forward in time against those that run backward, in float64."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

import retrograde as rg
from retrograde.rules import BPTT, DNI, KFRTRL, RFLO, RKFRTRL, RTRL, UORO, EProp, KeRNL, SnAp, TruncatedBPTT
from retrograde.rules._traces import why_not_local
from retrograde.stepping import from_state

gradient = eqx.filter_jit(eqx.filter_grad(zoo.loss))


def case(graph, neuron, synapse, readout=None):
    network = zoo.GRAPHS[graph](neuron, synapse, jr.key(0))
    if readout is not None:
        populations = {**network.populations, "readout": readout}
        network = rg.Network(populations, network.projections.values(), inputs=zoo.INPUTS, readout="readout")
    return network


def check(network, rule, reference, differs_from=None):
    inputs, targets = zoo.trial(jr.key(1))
    expected = gradient(network, inputs, targets, reference)
    assert zoo.difference(gradient(network, inputs, targets, rule), expected) < 1e-12
    if differs_from is not None:
        assert zoo.difference(expected, gradient(network, inputs, targets, differs_from)) > 1e-4


EVERY_NEURON = [("single", neuron, "dense") for neuron in zoo.NEURONS]
SOME = [("single", "alif", "spike_and_slab"), ("two_layers", "leaky_activity", "masked"), ("loop", "lif", "dense")]


@pytest.mark.parametrize("graph_neuron_synapse", [*EVERY_NEURON, *SOME], ids="-".join)
def test_rtrl_is_bptt(graph_neuron_synapse):
    check(case(*graph_neuron_synapse), RTRL(), BPTT())


@pytest.mark.parametrize("graph_neuron_synapse", [*EVERY_NEURON, *SOME], ids="-".join)
def test_eprop_by_traces_is_eprop_backward(graph_neuron_synapse):
    network = case(*graph_neuron_synapse).with_feedback("random", key=jr.key(3))
    check(network, EProp("forward"), EProp("backward"), differs_from=BPTT())


@pytest.mark.parametrize("neuron", ["leaky_relu", "leaky_activity", "lif_refractory", "alif", "lstm"])
def test_eprop_filters_its_traces_in_place_of_a_leaky_readout(neuron):
    network = case("single", neuron, "dense", rg.neurons.LeakyReadout(zoo.OUTPUTS, tau=5.0, normalised=True))
    assert why_not_local(network) is None
    check(network, EProp("forward"), EProp("backward"), differs_from=BPTT())


def test_eprop_carries_whole_influences_where_traces_would_lose_credit():
    per_unit = rg.neurons.LeakyReadout(zoo.OUTPUTS, tau=jnp.array([3.0, 9.0]))
    for network in (
        case("single", "leaky_relu", "dense", per_unit),
        case("single", "leaky_relu", "spike_and_slab", rg.neurons.LeakyReadout(zoo.OUTPUTS, tau=5.0)),
    ):
        assert why_not_local(network) is not None
        check(network, EProp("forward"), EProp("backward"))


@pytest.mark.parametrize("neuron", ["leaky_current", "alif", "gru"])
def test_eprop_is_bptt_with_the_recurrent_activity_detached(neuron):
    """Against a loop written by hand, with `stop_gradient` on what the recurrent weights read."""
    network = case("single", neuron, "dense")
    inputs, targets = zoo.trial(jr.key(1))

    def loss(network):
        weights = {name: p.synapse.weight for name, p in network.projections.items()}
        cell = network.populations["hidden"]
        state = cell.initial_state(zoo.BATCH)
        total = 0.0
        for x, target in zip(inputs, targets, strict=True):
            z = jax.lax.stop_gradient(cell.activity(state))
            ports = dict.fromkeys(cell.ports, 0.0)
            for name, pre in (("input->hidden", x), ("hidden->hidden", z), ("bias->hidden", jnp.ones((1, 1)))):
                reached = network.projections[name].ports or cell.ports
                for port, block in zip(reached, jnp.split(weights[name], len(reached)), strict=True):
                    ports[port] = ports[port] + pre @ block.T
            currents = tuple(jnp.broadcast_to(c, (zoo.BATCH, cell.size)) for c in ports.values())
            state = cell.step(state, currents if len(currents) > 1 else currents[0])
            total += jnp.sum((cell.activity(state) @ weights["hidden->readout"].T - target) ** 2)
        return total

    expected = eqx.filter_jit(eqx.filter_grad(loss))(network)
    for form in ("backward", "forward"):
        assert zoo.difference(gradient(network, inputs, targets, EProp(form)), expected) < 1e-12


SELF_CONNECTED = [("single", "gru", "spike_and_slab"), ("single", "leaky_current", "spike_and_slab"), *SOME]


@pytest.mark.parametrize("graph_neuron_synapse", SELF_CONNECTED, ids="-".join)
def test_snap1_forward_is_bptt_with_only_the_self_connections_open(graph_neuron_synapse):
    network = case(*graph_neuron_synapse)
    check(network, SnAp(1, form="forward"), SnAp(1), differs_from=BPTT())
    inputs, targets = zoo.trial(jr.key(1))
    snap, eprop = (gradient(network, inputs, targets, rule) for rule in (SnAp(1), EProp()))
    has_self_connections = "masked" not in graph_neuron_synapse
    assert (zoo.difference(snap, eprop) > 1e-4) == has_self_connections


@pytest.mark.parametrize("neuron", ["leaky_current", "lstm"])
def test_snap1_filters_its_traces_in_place_of_a_leaky_readout(neuron):
    network = case("single", neuron, "dense", rg.neurons.LeakyReadout(zoo.OUTPUTS, tau=5.0, normalised=True))
    assert why_not_local(network, diagonal=True) is None
    check(network, SnAp(1, form="forward"), SnAp(1), differs_from=EProp())


@pytest.mark.parametrize(
    ("population", "synapse", "options", "is_local"),
    [
        ("hidden", rg.synapses.Diagonal(jnp.linspace(0.2, 0.9, zoo.SIZE)), {}, True),
        ("hidden", rg.synapses.Dense(jnp.eye(2)), {"source_slice": (0, 2), "target_slice": (0, 2)}, True),
        ("hidden", rg.synapses.Diagonal(jnp.linspace(0.2, 0.9, zoo.SIZE)), {"delay": 2}, False),
        ("readout", rg.synapses.Dense(0.5 * jnp.eye(zoo.OUTPUTS)), {}, False),
    ],
    ids=["one_to_one", "slices", "delay", "readout"],
)
def test_snap1_forward_follows_self_connections_of_any_kind(population, synapse, options, is_local):
    network = case("single", "vanilla", "dense")
    own = rg.Projection(population, population, synapse, name="own", **{"delay": 1, **options})
    network = rg.Network(
        network.populations, [*network.projections.values(), own], inputs=zoo.INPUTS, readout="readout"
    )
    assert (why_not_local(network, diagonal=True) is None) == is_local
    check(network, SnAp(1, form="forward"), SnAp(1), differs_from=EProp())


@pytest.mark.parametrize(
    "rule",
    [BPTT(), TruncatedBPTT(3), EProp(), EProp("forward"), RFLO(), SnAp(1, form="forward"), RTRL()],
    ids=lambda rule: f"{type(rule).__name__}-{getattr(rule, 'form', '')}",
)
def test_distributions_without_spread_learn_as_plain_weights(rule):
    """Spike-and-slab weights with π = Ξ = 0: the same gradient by m as `Dense`, whatever the noise."""
    plain = case("single", "leaky_activity", "dense").with_feedback("random", key=jr.key(3))
    weights = {name: p.synapse.weight for name, p in plain.projections.items() if name != "bias->hidden"}

    def certain(network):
        slabs = [rg.synapses.SpikeAndSlab(m, jnp.zeros_like(m), jnp.zeros_like(m)) for m in weights.values()]
        return eqx.tree_at(lambda n: [n.projections[name].synapse for name in weights], network, slabs)

    inputs, targets = zoo.trial(jr.key(1))
    expected = gradient(plain, inputs, targets, rule)
    found = gradient(certain(plain), inputs, targets, rule)
    for name in weights:
        m, weight = found.projections[name].synapse.m, expected.projections[name].synapse.weight
        assert zoo.difference(m, weight) < 1e-12, name


def test_snap_n_grows_into_rtrl():
    """On a ring each connection is one hop: n steps reach n - 1 neurons further."""
    ring = np.roll(np.eye(zoo.SIZE, dtype=bool), 1, axis=0)
    network = case("single", "leaky_activity", "dense")
    weight = network.projections["hidden->hidden"].synapse
    network = eqx.tree_at(lambda n: n.projections["hidden->hidden"].synapse, network, rg.synapses.Masked(weight, ring))
    inputs, targets = zoo.trial(jr.key(1))
    expected = gradient(network, inputs, targets, BPTT())
    errors = [zoo.difference(gradient(network, inputs, targets, SnAp(n)), expected) for n in range(1, zoo.SIZE + 1)]
    assert errors[-1] < 1e-12
    assert all(error > 1e-5 for error in errors[:-1])
    assert errors == sorted(errors, reverse=True)
    dense = case("single", "leaky_activity", "dense")
    check(dense, SnAp(2), RTRL())


def test_rflo_is_the_paper_written_by_hand():
    """Murray (2019), eqs 5-6: one trace of a synapse, one random projection of the error."""
    network = case("single", "leaky_activity", "dense").with_feedback("random", key=jr.key(3), scale=1.0)
    inputs, targets = zoo.trial(jr.key(1))
    w = {name: p.synapse.weight for name, p in network.projections.items()}
    b, alpha = network.projections["hidden->readout"].feedback.weight, network.populations["hidden"].alpha
    expected = {name: jnp.zeros_like(weight) for name, weight in w.items()}
    for x, target in zip(inputs.swapaxes(0, 1), targets.swapaxes(0, 1), strict=True):
        h = jnp.zeros(zoo.SIZE)
        p, q, r = jnp.zeros((zoo.SIZE, zoo.SIZE)), jnp.zeros((zoo.SIZE, zoo.INPUTS)), jnp.zeros((zoo.SIZE, 1))
        for t in range(zoo.STEPS):
            u = w["hidden->hidden"] @ h + w["input->hidden"] @ x[t] + w["bias->hidden"][:, 0]
            slope = 1 - jnp.tanh(u) ** 2
            keep, gain = (1 - alpha)[:, None], alpha * slope
            p, q = keep * p + jnp.outer(gain, h), keep * q + jnp.outer(gain, x[t])
            r = keep * r + gain[:, None]
            h = (1 - alpha) * h + alpha * jnp.tanh(u)
            error = 2 * (w["hidden->readout"] @ h - target[t])
            signal = (b.T @ error)[:, None]
            for name, trace in (("hidden->hidden", p), ("input->hidden", q), ("bias->hidden", r)):
                expected[name] += signal * trace
            expected["hidden->readout"] += jnp.outer(error, h)
    for form in ("backward", "forward"):
        found = gradient(network, inputs, targets, RFLO(form)).projections
        for name, value in expected.items():
            assert jnp.allclose(found[name].synapse.weight, value, rtol=1e-12, atol=1e-13), name
    without_recurrence = eqx.tree_at(
        lambda n: n.projections["hidden->hidden"].synapse.weight, network, jnp.zeros((zoo.SIZE, zoo.SIZE))
    )
    check(without_recurrence, RFLO(), BPTT())


def test_local_rules_of_a_memoryless_network_are_one_step_of_bptt():
    network = case("single", "vanilla", "dense")
    check(network, RFLO(feedback="exact"), TruncatedBPTT(1), differs_from=BPTT())


def test_sliding_windows():
    network = case("single", "leaky_current", "spike_and_slab")
    check(network, TruncatedBPTT(zoo.STEPS, sliding=True), BPTT())
    check(case("loop", "lif", "dense"), TruncatedBPTT(zoo.STEPS, sliding=True), BPTT())
    inputs, targets = zoo.trial(jr.key(1))
    window = 3

    def reached(network):
        """Each step's loss, with everything before its window held."""
        total = 0.0
        held = jax.lax.stop_gradient(eqx.filter(network, eqx.is_inexact_array))
        held = eqx.combine(held, eqx.filter(network, eqx.is_inexact_array, inverse=True))
        for t in range(zoo.STEPS):
            start, state = max(t - window + 1, 0), None
            if start:
                state = held(inputs[:start], key=jr.key(7)).state
            outputs = network(inputs[start : t + 1], key=jr.key(7), state=state).outputs
            total += jnp.sum((outputs[-1] - targets[t]) ** 2)
        return total

    expected = eqx.filter_jit(eqx.filter_grad(reached))(network)
    assert zoo.difference(gradient(network, inputs, targets, TruncatedBPTT(window, sliding=True)), expected) < 1e-12
    assert zoo.difference(gradient(network, inputs, targets, TruncatedBPTT(window)), expected) > 1e-4


UNBIASED = [UORO(), KFRTRL(), RKFRTRL()]


@pytest.mark.parametrize("rule", UNBIASED, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("graph_neuron_synapse", [("single", "alif", "spike_and_slab"), ("loop", "vanilla", "dense")])
def test_random_influences_are_unbiased(rule, graph_neuron_synapse):
    """The mean over draws is the exact gradient within its standard error, which falls as 1/√n."""
    network = case(*graph_neuron_synapse)
    steps = 5
    inputs, targets = zoo.trial(jr.key(1), steps)
    noise = {
        name: jr.normal(jr.key(9), (steps, zoo.BATCH, neuron.size * len(neuron.ports)))
        for name, neuron in network.populations.items()
        if graph_neuron_synapse[2] == "spike_and_slab"
    }

    def flat(network, rule, key):
        def loss(network):
            return jnp.sum((network(inputs, rule=rule, key=key, noise=noise).outputs - targets) ** 2)

        return ravel_pytree(eqx.filter(eqx.filter_grad(loss)(network), eqx.is_inexact_array))[0]

    exact = eqx.filter_jit(flat)(network, BPTT(), jr.key(0))
    draw = eqx.filter_jit(lambda keys: jax.lax.map(lambda key: flat(network, rule, key), keys, batch_size=100))
    draws = np.asarray(draw(jr.split(jr.key(5), 2000)))
    error = draws.std(0) / np.sqrt(len(draws))
    is_random = error > 1e-10
    assert is_random.any()
    assert np.abs(draws.mean(0) - exact)[~is_random].max(initial=0) < 1e-9
    z = ((draws.mean(0) - exact) / np.where(is_random, error, 1))[is_random]
    assert np.abs(z).max() < 4.5
    groups = draws.reshape(20, 100, -1).mean(1)
    assert 6 < np.median(draws.std(0)[is_random] / groups.std(0)[is_random]) < 16  # √100 = 10, from 20 groups


def test_kernl_with_a_frozen_kernel_is_rflo():
    network = case("single", "leaky_activity", "dense")
    hidden = rg.neurons.LeakyRate(zoo.SIZE, "tanh", alpha=0.3, leak="activity")
    network = eqx.tree_at(lambda n: n.populations["hidden"], network, hidden)
    check(network, KeRNL(rate=0.0, decay=0.3), RFLO(feedback="exact"))
    rule = KeRNL(rate=0.01, decay=0.3)
    inputs, targets = zoo.trial(jr.key(1))

    @eqx.filter_jit
    def learn(state, key):
        _, _, state = rule.value_and_grad(
            lambda network, rule, key: (zoo.loss(network, inputs, targets, rule, key), None),
            network,
            rule_state=state,
            key=key,
        )
        return state

    state = rule.init(network)
    for seed in range(100):
        state = learn(state, jr.key(seed))
    exact = gradient(network, inputs, targets, BPTT())
    learnt = gradient(network, inputs, targets, KeRNL(rate=0.0, learnt=state))
    naive = gradient(network, inputs, targets, KeRNL(rate=0.0, decay=0.3))
    assert zoo.difference(learnt, exact) < 0.5 * zoo.difference(naive, exact)


def linear_network():
    """Linear, contracting, driven by noise: the future's credit is a linear map of the state."""
    recurrent, readout = 0.7 * jr.orthogonal(jr.key(0), 3), jr.normal(jr.key(1), (2, 3))
    network = rg.Network(
        {"hidden": rg.neurons.LeakyRate(3, "identity"), "readout": rg.neurons.Linear(2)},
        [
            rg.Projection("input", "hidden", rg.synapses.Dense(jnp.eye(3))),
            rg.Projection("hidden", "hidden", rg.synapses.Dense(recurrent), delay=1),
            rg.Projection("hidden", "readout", rg.synapses.Dense(readout)),
        ],
        inputs=3,
        readout="readout",
    )
    return network, recurrent, readout


def test_dni_learns_the_true_map_of_future_credit():
    """Half the squared output, summed over an endless stream: credit Σ_{k≥1} (Jᵏ)ᵀ WᵀW Jᵏ s, a Lyapunov equation."""
    network, recurrent, readout = linear_network()
    rule = DNI(rate=0.02)

    def advance(stream, inputs):
        stream, outputs = rule.step(network, stream, inputs)
        stream, _ = rule.gradient(network, stream, outputs)
        return stream, None

    inputs = jr.normal(jr.key(3), (6000, 16, 3))
    stream, _ = jax.jit(lambda s, x: jax.lax.scan(advance, s, x))(rule.start(network, 16, key=jr.key(2)), inputs)
    guess = stream.learnt.guess
    found = guess[:, :3] + guess[:, 3:5] @ readout  # the outputs are linear in the state too
    expected, power = jnp.zeros((3, 3)), jnp.eye(3)
    for _ in range(80):
        power = power @ recurrent
        expected += power.T @ readout.T @ readout @ power
    assert jnp.abs(found - expected).max() < 0.25 * jnp.abs(expected).max()
    assert jnp.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98


STREAMED = [
    RTRL(),
    SnAp(1, form="forward"),
    EProp("forward"),
    RFLO("forward"),
    UORO(),
    KFRTRL(),
    RKFRTRL(),
    DNI(),
    KeRNL(),
]


@pytest.mark.parametrize("rule", STREAMED, ids=lambda rule: type(rule).__name__)
def test_streaming_gives_the_gradient_of_the_unrolled_pass(rule):
    network = case("single", "leaky_activity", "spike_and_slab").with_feedback("random", key=jr.key(3))
    inputs, targets = zoo.trial(jr.key(1))
    key = jr.key(7)
    expected = gradient(network, inputs, targets, rule)
    _, noise_key = jr.split(key)  # as a call of the network does

    @eqx.filter_jit
    def run(network):
        def advance(carry, given):
            stream, total = carry
            stream, outputs = rule.step(network, stream, given[0])
            stream, found = rule.gradient(network, stream, 2 * (outputs - given[1]))
            return (stream, jax.tree.map(jnp.add, total, found)), outputs

        start = rule.start(network, zoo.BATCH, key=noise_key)
        zero = jax.tree.map(jnp.zeros_like, eqx.filter(network, network.trainable()))
        (_, total), outputs = jax.lax.scan(advance, (start, zero), (inputs, targets))
        return total, outputs

    total, outputs = run(network)
    trainable = eqx.filter(expected, network.trainable())
    assert zoo.difference(total, trainable) < 1e-12
    assert jnp.allclose(outputs, network(inputs, key=key).outputs, rtol=1e-12)


@settings(max_examples=8, deadline=None)
@given(steps=st.integers(1, 4), batch=st.integers(1, 3), seed=st.integers(0, 2**31 - 1))
def test_rtrl_is_bptt_for_any_shape(steps, batch, seed):
    network = zoo.single_layer("leaky_current", "dense", jr.key(seed))
    inputs, targets = zoo.trial(jr.key(seed + 1), steps, batch)
    expected = gradient(network, inputs, targets, BPTT())
    assert zoo.difference(gradient(network, inputs, targets, RTRL()), expected) < 1e-11


@pytest.mark.parametrize(
    ("rule", "reference", "graph_neuron_synapse"),
    [
        (RTRL(), BPTT(), ("single", "alif", "spike_and_slab")),
        (EProp("forward"), EProp(), ("two_layers", "lif", "dense")),
        (SnAp(1, form="forward"), SnAp(1), ("single", "lstm", "dense")),
    ],
)
def test_trials_in_turn_give_the_gradient_of_all_at_once(rule, reference, graph_neuron_synapse, monkeypatch):
    """What a CPU does with influences that exceed its cache."""
    network = case(*graph_neuron_synapse)
    inputs, targets = zoo.trial(jr.key(1), batch=6)

    def find(rule):
        return eqx.filter_jit(eqx.filter_grad(lambda network: zoo.loss(network, inputs, targets, rule)))(network)

    expected = find(reference)
    online = sys.modules["retrograde.rules._online"]
    turns = set()
    decide = online._trials_at_once
    monkeypatch.setattr(online, "_trials_at_once", lambda *given: turns.add(decide(*given)) or decide(*given))
    for cache in (1, 10**9):
        monkeypatch.setattr(online, "_CACHE", cache)
        assert zoo.difference(find(rule), expected) < 1e-12
    assert turns == {1, 6}
    memory = jax.eval_shape(
        lambda: rule.begin(network, network.moments(), from_state(network, network.initial_state(6)))
    )
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(memory))
    monkeypatch.setattr(online, "_CACHE", size * 2 / 5)  # two trials of six, and a bit
    assert zoo.difference(find(rule), expected) < 1e-12
    assert turns == {1, 2, 6}


def test_adaptive_feedback_comes_to_equal_the_weights():
    """Kolen & Pollack: same gradient, same decay, so the difference dies out as (1 - c)ⁿ."""
    network = case("single", "leaky_activity", "dense").with_feedback("adaptive", key=jr.key(3), decay=0.1)
    inputs, targets = zoo.trial(jr.key(1))
    for form in ("backward", "forward"):
        projection = gradient(network, inputs, targets, EProp(form)).projections["hidden->readout"]
        assert jnp.array_equal(projection.feedback.weight, projection.synapse.weight)
        assert jnp.abs(projection.synapse.weight).max() > 1e-3

    @eqx.filter_jit
    def update(network):
        found = eqx.filter(gradient(network, inputs, targets, EProp()), network.trainable())
        return eqx.apply_updates(network, jax.tree.map(lambda g: -1e-3 * g, found)).project()

    def gap(network):
        projection = network.projections["hidden->readout"]
        return projection.feedback.weight - projection.synapse.weight

    first = gap(network)
    for _ in range(20):
        network = update(network)
    assert jnp.allclose(gap(network), 0.9**20 * first, rtol=1e-9)


def test_kinds_of_feedback():
    network = case("single", "leaky_activity", "dense")
    mean = network.moments()["hidden->readout"].mean
    made = {kind: network.with_feedback(kind, key=jr.key(3)) for kind in ("random", "adaptive", "sign", "uniform")}
    matrices = {kind: n.projections["hidden->readout"].feedback.matrix(mean) for kind, n in made.items()}
    assert jnp.array_equal(jnp.sign(matrices["sign"]), jnp.sign(mean))
    assert jnp.unique(jnp.abs(matrices["sign"])).size == 1
    assert jnp.allclose(matrices["uniform"], zoo.SIZE**-0.5)
    assert jnp.array_equal(matrices["random"], matrices["adaptive"])
    exact = made["random"].with_feedback("exact", key=jr.key(0))
    assert exact.projections["hidden->readout"].feedback is None
    inputs, targets = zoo.trial(jr.key(1))
    found = [gradient(n, inputs, targets, EProp()).projections["input->hidden"].synapse for n in made.values()]
    assert zoo.difference(found[0], found[1]) == 0
    assert zoo.difference(found[0], found[2]) > 1e-3 and zoo.difference(found[2], found[3]) > 1e-3


def test_recorded_activity_carries_credit_too():
    """A firing-rate regulariser reaches the weights by the traces as it does backwards."""
    network = case("single", "alif", "dense", rg.neurons.LeakyReadout(zoo.OUTPUTS, tau=5.0))
    inputs, _ = zoo.trial(jr.key(1))

    def loss(network, rule):
        out = network(inputs, rule=rule, record=("hidden",), readout_steps=2)
        return jnp.sum(out.outputs**2) + jnp.sum((out.activity["hidden"].mean((0, 1)) - 0.1) ** 2)

    find = eqx.filter_jit(eqx.filter_grad(loss))
    expected = find(network, EProp())
    assert zoo.difference(find(network, EProp("forward")), expected) < 1e-12
    assert zoo.difference(find(network, RTRL()), find(network, BPTT())) < 1e-12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EProp("sideways"), "EProp.form='sideways'.*'backward' or 'forward'"),
        (lambda: EProp(feedback="psychic"), "EProp.feedback='psychic'.*'exact', 'random'"),
        (lambda: RFLO(feedback="psychic"), "RFLO.feedback='psychic'"),
        (lambda: SnAp(0), r"SnAp.n=.*1 or more, got 0"),
        (lambda: SnAp(2, form="backward"), "only n=1 has a backward form"),
        (lambda: DNI(rate=0.0), "DNI.rate=0.0.*positive"),
        (lambda: KeRNL(decay=1.5), r"`decay` lie in \[0, 1\]"),
        (lambda: rg.feedback.Adaptive(jnp.zeros((1, 1)), decay=1.0), r"Adaptive.decay=.*\[0, 1\)"),
    ],
)
def test_bad_hyperparameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("rule", "network", "message"),
    [
        (RFLO(), ("single", "lif", "dense"), "made of LIF.*EProp"),
        (KeRNL(), ("single", "alif", "dense"), "ALIF.*has 2"),
        (KeRNL(), ("loop", "vanilla", "dense"), "delays of more than one step"),
        (KeRNL(), ("single", "vanilla", "dense", rg.neurons.LeakyReadout(zoo.OUTPUTS)), "memoryless readout"),
        (RTRL(limit_gib=1e-9), ("single", "vanilla", "dense"), r"influence of .* GiB.*limit_gib=1e-09"),
        (EProp("forward", limit_gib=1e-9), ("two_layers", "vanilla", "dense"), "influence of .* GiB"),
    ],
    ids=["rflo", "kernl-states", "kernl-delays", "kernl-readout", "rtrl-size", "eprop-size"],
)
def test_pairings_without_meaning_are_refused(rule, network, message):
    with pytest.raises(ValueError, match=message):
        case(*network)(*zoo.trial(jr.key(1))[:1], rule=rule)


class Crowd(rg.neurons.AbstractNeuron):
    """Neurons that see their mean: no population of the library does."""

    size: int = eqx.field(static=True)

    def initial_state(self, batch, dtype=None):
        return rg.neurons.LeakyRate(self.size).initial_state(batch, dtype)

    def step(self, state, current):
        return eqx.tree_at(lambda s: s.value, state, jnp.tanh(current + state.value.mean(-1, keepdims=True)))

    def activity(self, state):
        return state.value


@pytest.mark.parametrize("rule", [EProp(), RFLO()], ids=lambda rule: type(rule).__name__)
def test_neurons_that_see_each_other_are_refused(rule):
    network = case("single", "vanilla", "dense")
    mixed = eqx.tree_at(lambda n: n.populations["hidden"], network, Crowd(zoo.SIZE))
    with pytest.raises(
        ValueError, match=r"'hidden' .Crowd. neuron . changes by .* when state and current of neuron 0 do"
    ):
        rule.prepare(mixed, key=jr.key(0))
    assert rule.prepare(network, key=jr.key(0)).populations == network.populations


def test_a_number_of_numpy_is_a_constant_as_one_of_python_is():
    network = case("single", "lif", "dense", rg.neurons.LeakyReadout(zoo.OUTPUTS, tau=5.0))
    populations = {
        "hidden": rg.neurons.LIF(zoo.SIZE, tau_mem=np.float64(20.0), surrogate=rg.neurons.Triangle(0.8)),
        "readout": rg.neurons.LeakyReadout(zoo.OUTPUTS, tau=np.float64(5.0)),
    }
    given = rg.Network(populations, network.projections.values(), inputs=zoo.INPUTS, readout="readout")
    assert not jax.tree.leaves(eqx.filter(given.populations, eqx.is_inexact_array))
    check(given, EProp("forward"), EProp())


def test_a_stream_keeps_its_shapes():
    network = case("single", "vanilla", "dense")
    stream = RTRL().start(network, 2, key=jr.key(0))
    with pytest.raises(ValueError, match=r"`inputs` must have shape \(2, 3\) in this stream, got \(4, 3\)"):
        RTRL().step(network, stream, jnp.ones((4, zoo.INPUTS)))
    with pytest.raises(ValueError, match=r"`credit` must have shape \(2, 2\) in this stream, got \(4, 2\)"):
        RTRL().gradient(network, stream, jnp.ones((4, zoo.OUTPUTS)))


def test_feedback_that_is_not_finite_is_refused():
    network = case("single", "vanilla", "dense")
    readout = network.projections["hidden->readout"]
    broken = rg.feedback.Random(jnp.full(readout.synapse.shape, jnp.nan))
    projections = [p for name, p in network.projections.items() if name != "hidden->readout"]
    projections.append(rg.Projection("hidden", "readout", readout.synapse, feedback=broken))
    with pytest.raises(
        rg.network.NetworkError, match="'hidden->readout': `feedback` holds numbers that are not finite"
    ):
        rg.Network(network.populations, projections, inputs=zoo.INPUTS, readout="readout")


def test_credit_that_online_rules_cannot_give_is_refused():
    network = case("single", "vanilla", "dense")
    inputs, _ = zoo.trial(jr.key(1))
    with pytest.raises(ValueError, match="gives no credit to inputs"):
        jax.grad(lambda x: jnp.sum(network(x, rule=RTRL()).outputs))(inputs)
    with pytest.raises(ValueError, match="fixed weights"):
        slab = case("single", "vanilla", "spike_and_slab")
        slab(inputs, rule=RTRL(), key=jr.key(0), weights="annealed")


@pytest.mark.parametrize("one_to_one", [KFRTRL(), RKFRTRL()], ids=lambda rule: type(rule).__name__)
def test_kronecker_factors_need_matrices(one_to_one):
    network = case("single", "vanilla", "dense")
    diagonal = rg.Projection("hidden", "hidden", rg.synapses.Diagonal(jnp.ones(zoo.SIZE)), delay=1, name="own")
    network = rg.Network(
        network.populations, [*network.projections.values(), diagonal], inputs=zoo.INPUTS, readout="readout"
    )
    with pytest.raises(ValueError, match="'own' are one-to-one"):
        network(zoo.trial(jr.key(1))[0], rule=one_to_one)
    check(network, RTRL(), BPTT())
    check(network, EProp("forward"), EProp())
