"""One list of small networks for the identities: every neuron × every kind of weight × several graphs."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import retrograde as rg

INPUTS, SIZE, OUTPUTS = 3, 4, 2
STEPS, BATCH = 7, 2

NEURONS = {
    "leaky_current": lambda n: rg.neurons.LeakyRate(n, "tanh", alpha=0.3, initial=0.1),
    "leaky_relu": lambda n: rg.neurons.LeakyRate(n, "relu", alpha=0.3, initial=0.1),
    "leaky_activity": lambda n: rg.neurons.LeakyRate(n, "tanh", alpha=jnp.linspace(0.2, 0.7, n), leak="activity"),
    "vanilla": lambda n: rg.neurons.LeakyRate(n, "tanh"),
    "lif": lambda n: rg.neurons.LIF(n, threshold=1.0, surrogate=rg.neurons.Triangle(0.8)),
    "lif_refractory": lambda n: rg.neurons.LIF(n, threshold=1.0, refractory=2, detach_reset=True),
    "alif": lambda n: rg.neurons.ALIF(n, tau_mem=jnp.linspace(5.0, 30.0, n), threshold=1.0, beta=0.1, tau_adapt=30.0),
    "lstm": lambda n: rg.neurons.LSTM(n),
    "gru": lambda n: rg.neurons.GRU(n),
}
SMOOTH = ("leaky_current", "leaky_activity", "vanilla", "lstm", "gru")


def _dense(key, shape):
    return rg.synapses.Dense((0.4 + jr.normal(key, shape)) / shape[1] ** 0.5)


def _spike_and_slab(key, shape):
    m_key, pi_key, xi_key = jr.split(key, 3)
    return rg.synapses.SpikeAndSlab(
        (0.4 + jr.normal(m_key, shape)) / shape[1] ** 0.5,
        jr.uniform(pi_key, shape) * 0.9,
        jr.uniform(xi_key, shape) * 0.3,
    )


def _masked(key, shape):
    mask = np.arange(shape[0])[:, None] % shape[1] != np.arange(shape[1])[None]
    return rg.synapses.Masked(_dense(key, shape), mask)


SYNAPSES = {"dense": _dense, "spike_and_slab": _spike_and_slab, "masked": _masked}


def single_layer(neuron, synapse, key):
    neuron = NEURONS[neuron](SIZE)
    make, rows = SYNAPSES[synapse], SIZE * len(neuron.ports)
    into, again = neuron.input_ports, neuron.recurrent_ports
    keys = jr.split(key, 4)
    return rg.Network(
        {"hidden": neuron, "readout": rg.neurons.Linear(OUTPUTS)},
        [
            rg.Projection("input", "hidden", make(keys[0], (SIZE * len(into or neuron.ports), INPUTS)), ports=into),
            rg.Projection(
                "hidden", "hidden", make(keys[1], (SIZE * len(again or neuron.ports), SIZE)), delay=1, ports=again
            ),
            rg.Projection("bias", "hidden", rg.synapses.Dense(0.2 * jr.normal(keys[2], (rows, 1)))),
            rg.Projection("hidden", "readout", make(keys[3], (OUTPUTS, SIZE))),
        ],
        inputs=INPUTS,
        readout="readout",
    )


def two_layers(neuron, synapse, key):
    """Two recurrent layers with taps on the input, a skip, and a leaky readout."""
    lower, upper = NEURONS[neuron](SIZE), NEURONS[neuron](SIZE - 1)
    make, ports = SYNAPSES[synapse], len(lower.ports)
    keys = jr.split(key, 7)
    return rg.Network(
        {"lower": lower, "upper": upper, "readout": rg.neurons.LeakyReadout(OUTPUTS, tau=5.0)},
        [
            rg.Projection("input", "lower", make(keys[0], (SIZE * ports, INPUTS))),
            rg.Projection("input", "lower", make(keys[1], (SIZE * ports, INPUTS)), delay=2),
            rg.Projection("lower", "lower", make(keys[2], (SIZE * ports, SIZE)), delay=1),
            rg.Projection("lower", "upper", make(keys[3], ((SIZE - 1) * ports, SIZE))),
            rg.Projection("upper", "upper", make(keys[4], ((SIZE - 1) * ports, SIZE - 1)), delay=1),
            rg.Projection("upper", "readout", make(keys[5], (OUTPUTS, SIZE - 1))),
            rg.Projection("lower", "readout", make(keys[6], (OUTPUTS, SIZE)), delay=1),
        ],
        inputs=INPUTS,
        readout="readout",
    )


def loop(neuron, synapse, key):
    """Excitatory and inhibitory populations, with undelayed and long-delayed connections in the cycle."""
    e, i = NEURONS[neuron](SIZE), NEURONS[neuron](SIZE - 2)
    make, ports = SYNAPSES[synapse], len(e.ports)
    keys = jr.split(key, 6)
    return rg.Network(
        {"e": e, "i": i, "readout": rg.neurons.Linear(OUTPUTS)},
        [
            rg.Projection("input", "e", make(keys[0], (SIZE * ports, INPUTS))),
            rg.Projection("e", "i", make(keys[1], ((SIZE - 2) * ports, SIZE))),
            rg.Projection("e", "e", make(keys[2], (SIZE * ports, SIZE)), delay=1),
            rg.Projection("i", "e", make(keys[3], (SIZE * ports, SIZE - 2)), delay=3),
            rg.Projection("i", "i", make(keys[4], ((SIZE - 2) * ports, SIZE - 2)), delay=2),
            rg.Projection("e", "readout", make(keys[5], (OUTPUTS, SIZE))),
        ],
        inputs=INPUTS,
        readout="readout",
    )


GRAPHS = {"single": single_layer, "two_layers": two_layers, "loop": loop}


def trial(key, steps=STEPS, batch=BATCH):
    """Inputs strong enough to make spiking neurons fire, and target outputs for every step."""
    inputs_key, targets_key = jr.split(key)
    return jr.uniform(inputs_key, (steps, batch, INPUTS)), jr.normal(targets_key, (steps, batch, OUTPUTS))


def loss(network, inputs, targets, rule=None, key=None):
    """Squared error in every step: a loss at the end only would hide what a rule ignores."""
    key = jr.key(7) if key is None else key
    outputs = network(inputs, rule=rule, key=key).outputs
    return jnp.sum((outputs - targets) ** 2)


def difference(a, b):
    """Largest difference between two pytrees, relative to the largest entry of the second."""
    leaves = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    scale = max(float(jnp.abs(y).max()) for _, y in leaves)
    return max(float(jnp.abs(x - y).max()) for x, y in leaves) / scale
