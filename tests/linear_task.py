"""A linear readout of orthogonal inputs, trained trial by trial: the task that `retrograde.theory` is about."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import retrograde as rg

WEIGHT = "input->readout"
TARGET = 0.1  # of every weight that is used


def basis(steps):
    """Orthonormal traces, `"trace time"`: a constant, then sines and cosines, fastest last."""
    time = np.arange(steps) / steps
    waves = [np.ones(steps)]
    for k in range(1, (steps + 1) // 2):
        waves += [np.sin(2 * np.pi * k * time), np.cos(2 * np.pi * k * time)]
    if steps % 2 == 0:
        waves.append(np.cos(np.pi * np.arange(steps)))  # the sine of this frequency is 0 in every step
    waves = np.stack(waves)
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)


def network(task, inputs):
    return rg.Network(
        {"readout": rg.neurons.Linear(task.outputs)},
        [rg.Projection("input", "readout", rg.synapses.Dense(jnp.zeros((task.outputs, inputs))))],
        inputs=inputs,
        readout="readout",
    )


def weight(network):
    return network.projections[WEIGHT].synapse.weight


def wanted(task, inputs):
    row = jnp.where(jnp.arange(inputs) < task.task_inputs, TARGET, 0.0)
    return jnp.broadcast_to(row, (task.outputs, inputs))


def error_before_learning(task):
    return 0.5 * task.power * task.shown * task.outputs * TARGET**2 + task.unrealisable


def trial(task, inputs, key):
    """One trial: inputs and targets `"time 1 channel"`."""
    traces = basis(task.steps) * task.steps**0.5
    if task.shown == task.task_inputs:
        shown = jnp.arange(inputs) < task.task_inputs
    else:
        chosen = jr.permutation(key, jnp.arange(task.task_inputs) < task.shown)
        shown = jnp.concatenate([chosen, jnp.zeros(inputs - task.task_inputs, bool)])
    r = jnp.where(shown[None, None], task.power**0.5 * traces[:inputs].T[:, None], 0.0)
    targets = r @ wanted(task, inputs).T
    if task.unrealisable:  # in a direction that no input takes
        targets += (2 * task.unrealisable / task.outputs) ** 0.5 * traces[task.task_inputs + 1][:, None, None]
    return r, targets


def objective(inputs, targets, regulariser=None):
    """The error of one trial: mean over time, sum over outputs, halved."""

    def evaluate(network, rule, key):
        outputs = network(inputs, rule=rule, key=key).outputs
        loss = 0.5 * jnp.mean(jnp.sum((outputs - targets) ** 2, axis=2))
        return loss if regulariser is None else loss + regulariser(network), outputs

    return evaluate


def learn(task, rule, rate, *, inputs, trials, runs, key, every=1):
    """Trains by plain steps, from weights of 0.

    Returns:
        Mean error over all trials that could come, before training and after every `every` trials, `"run point"`;
        the last weights, `"run output input"`.
    """
    target = wanted(task, inputs)
    used = jnp.arange(inputs) < task.task_inputs

    def error(network):
        missed = jnp.where(used[None], weight(network) - target, 0.0)
        return 0.5 * task.share * task.power * jnp.sum(missed**2) + task.unrealisable

    def run(key):
        draw = lambda key: objective(*trial(task, inputs, key))  # noqa: E731
        errors, trained = descend(network(task, inputs), draw, rule, rate, error, trials=trials, every=every, key=key)
        return errors, weight(trained)

    return jax.jit(jax.vmap(run))(jr.split(key, runs))


def descend(network, draw, rule, rate, error, *, trials, every, key):
    """Trains a network by plain steps on the objectives of trials that `draw` gives for keys.

    Returns:
        `error` of the network before training and after every `every` trials; the network.
    """

    def one(network, key):
        trial_key, rule_key = jr.split(key)
        _, gradient, _ = rule.value_and_grad(draw(trial_key), network, key=rule_key)
        return jax.tree.map(lambda w, g: w - rate * g, network, gradient), None

    def some(network, keys):
        network, _ = jax.lax.scan(one, network, keys)
        return network, error(network)

    last, errors = jax.lax.scan(some, network, jr.split(key, (trials // every, every)))
    return jnp.concatenate([error(network)[None], errors]), last
