"""e-prop 3 against BPTT, e-prop and its own definition, in float64; and what its synthetic gradients learn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
import zoo

import retrograde as rg
from retrograde.rules import BPTT, EProp, EProp3, TruncatedBPTT

gradient = eqx.filter_jit(eqx.filter_grad(zoo.loss))

# Several state variables; a stack with a leaky readout; delays of several steps in a cycle, and parameters of neurons.
CASES = [("single", "alif", "dense"), ("two_layers", "leaky_current", "masked"), ("loop", "leaky_activity", "dense")]


@pytest.mark.parametrize("graph_neuron_synapse", CASES, ids="-".join)
def test_one_window_is_bptt_and_windows_of_a_step_without_guess_are_eprop(graph_neuron_synapse):
    graph, neuron, synapse = graph_neuron_synapse
    network = zoo.GRAPHS[graph](neuron, synapse, jr.key(0)).with_feedback("random", key=jr.key(3))
    inputs, targets = zoo.trial(jr.key(1))
    guess = jr.normal(jr.key(5), EProp3().init(network).shape)
    exact, local = (gradient(network, inputs, targets, rule) for rule in (BPTT(), EProp()))
    assert zoo.difference(gradient(network, inputs, targets, EProp3(zoo.STEPS, learnt=guess)), exact) < 1e-12
    assert zoo.difference(gradient(network, inputs, targets, EProp3(1)), local) < 1e-12
    assert zoo.difference(local, exact) > 1e-3


def test_learning_signals_of_windows_times_traces_that_are_never_cut():
    """The definition: L_t by perturbing spikes, window by window; e_t by e-prop, over the whole trial."""
    network, window, steps = zoo.single_layer("alif", "dense", jr.key(0)), 3, 10
    inputs, targets = zoo.trial(jr.key(1), steps)
    weights = {name: p.synapse.weight for name, p in network.projections.items()}
    cell, rule = network.populations["hidden"], EProp3(window)
    guess = 0.3 * jr.normal(jr.key(5), rule.init(network).shape)

    def step(state, z, x):
        current = x @ weights["input->hidden"].T + z @ weights["hidden->hidden"].T + weights["bias->hidden"].T
        return cell.step(state, current)

    def rows(state):
        return jnp.concatenate(jax.tree.leaves(state), axis=1)

    def window_loss(extra, state, z, begin):
        """Loss of a window, and guess × state in the step after it; `extra` is added to the spikes that others see."""
        loss = 0.0
        for t in range(begin, min(begin + window, steps)):
            state = step(state, z, inputs[t])
            z = cell.activity(state) + extra[t - begin]
            loss += jnp.sum((z @ weights["hidden->readout"].T - targets[t]) ** 2)
        if begin + window < steps:
            after = step(state, z, inputs[begin + window])
            outputs = cell.activity(after) @ weights["hidden->readout"].T
            seen = [rows(after), 2 * (outputs - targets[begin + window]), jnp.ones((zoo.BATCH, 1))]
            loss += jnp.sum(jax.lax.stop_gradient(jnp.concatenate(seen, axis=1) @ guess.T) * rows(after))
        return loss, (state, z)

    @jax.jit
    def learning_signals():
        state, z, signals = cell.initial_state(zoo.BATCH), jnp.zeros((zoo.BATCH, zoo.SIZE)), []
        for begin in range(0, steps, window):
            still = jnp.zeros((min(window, steps - begin), zoo.BATCH, zoo.SIZE))
            found, (state, z) = jax.grad(window_loss, has_aux=True)(still, state, z, begin)
            signals.append(found)
        return jnp.concatenate(signals)

    signals = learning_signals()

    @eqx.filter_jit
    @eqx.filter_grad
    def credited(network):
        return jnp.sum(signals * network(inputs, rule=EProp(), record=("hidden",)).activity["hidden"])

    expected = credited(network).projections
    found = gradient(network, inputs, targets, EProp3(window, learnt=guess)).projections
    cut = gradient(network, inputs, targets, TruncatedBPTT(window)).projections
    for name in ("input->hidden", "hidden->hidden", "bias->hidden"):
        assert zoo.difference(found[name].synapse, expected[name].synapse) < 1e-12, name
        assert zoo.difference(cut[name].synapse, expected[name].synapse) > 1e-3, name


def linear_network():
    """Linear, contracting, driven by noise: the future's credit is a linear map of the state."""
    network = rg.Network(
        {"hidden": rg.neurons.LeakyRate(3, "identity", alpha=0.5), "readout": rg.neurons.Linear(2)},
        [
            rg.Projection("input", "hidden", rg.synapses.Dense(jnp.eye(3))),
            rg.Projection("hidden", "hidden", rg.synapses.Dense(0.8 * jr.orthogonal(jr.key(0), 3)), delay=1),
            rg.Projection("hidden", "readout", rg.synapses.Dense(jr.normal(jr.key(1), (2, 3)))),
        ],
        inputs=3,
        readout="readout",
    )
    return network


def half_square(network, rule, key):
    inputs = jr.normal(key, (60, 16, 3))
    return 0.5 * jnp.mean(jnp.sum(network(inputs, rule=rule).outputs ** 2, (0, 2))), None


def test_the_guess_makes_up_for_short_windows():
    """Credit from beyond the window comes to be known: the gradient's error falls to less than a third."""
    network, rule = linear_network(), EProp3(2, rate=0.2)

    def learn(guess, key):
        _, _, guess = rule.value_and_grad(half_square, network, rule_state=guess, key=key)
        return guess, None

    def recurrent(rule, guess, key):
        _, found, _ = rule.value_and_grad(half_square, network, rule_state=guess, key=key)
        return found.projections["hidden->hidden"].synapse.weight

    @jax.jit
    def errors(guess):
        keys = jr.split(jr.key(9), 8)
        exact = jax.lax.map(lambda key: recurrent(BPTT(), None, key), keys)
        off = jax.lax.map(lambda key: recurrent(rule, guess, key), keys) - exact
        return jnp.linalg.norm(off) / jnp.linalg.norm(exact)

    start = rule.init(network)
    learnt, _ = jax.jit(lambda guess, keys: jax.lax.scan(learn, guess, keys))(start, jr.split(jr.key(2), 150))
    assert errors(learnt) < errors(start) / 3


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 0}, r"EProp3\(window=.*1 or more"), ({"rate": -1.0}, r"EProp3\(rate=-1.0\).*negative")],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EProp3(**options)
