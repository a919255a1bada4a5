"""One ensemble update, as the library, a plain scan, and NumPy make it: what several benchmarks time."""

import sys

import numpy as np
from _measure import FOLDER, ready

ALPHA, START = 0.1, 0.1
NEURONS, CLASSES, BATCH = 100, 10, 128


def case(time: int, inputs: int, *, neurons: int = NEURONS, batch: int = BATCH) -> dict:
    """Weights and trials with the constants of the digits: rows, or pixels where there is one input.

    With one input the input weights are plain numbers; else all three layers are spike-and-slab.

    Returns:
        `"layers"`: (m, pi, xi) by name, pi and xi `None` where deterministic; `"inputs"`, `time batch input`, four in
        five of them 0 like the pixels of a digit; `"labels"`, `batch`.
    """
    rng = np.random.default_rng(0)
    pixels = inputs == 1
    sd, xi = (0.1, 0.01) if pixels else (np.sqrt(28 / 100), 0.1)

    def layer(mean):
        return mean, np.zeros_like(mean), xi * rng.uniform(size=mean.shape)

    first = sd * rng.standard_normal((neurons, inputs))
    return {
        "layers": {
            "input": (first, None, None) if pixels else layer(first),
            "recurrent": layer(np.eye(neurons)),
            "output": layer(sd * rng.standard_normal((CLASSES, neurons))),
        },
        "inputs": rng.uniform(size=(time, batch, inputs)) * (rng.uniform(size=(time, batch, inputs)) < 0.2),
        "labels": rng.integers(CLASSES, size=batch),
    }


def numpy_update(time: int, inputs: int):
    """The hand-written equations in NumPy, float64: the reference of the tests."""
    sys.path.insert(0, str(FOLDER.parent / "tests"))
    from reference import gbptt_numpy as gbptt

    given = case(time, inputs)
    weights = {name: gbptt.Weights(*layer) for name, layer in given["layers"].items()}
    state, rng = gbptt.adam_init(weights), np.random.default_rng(1)

    def work():
        nonlocal weights, state
        weights, state, loss = gbptt.update(
            weights, state, given["inputs"], given["labels"][None], rng, alpha=ALPHA, initial_state=START
        )
        return {"loss": float(loss)}

    return work


def library_network(given: dict, *, frozen: tuple[str, ...] = ()):
    """The library's network with the weights of `case`; `frozen` names layers that are not trained."""
    import jax.numpy as jnp

    import retrograde as rg

    def synapse(m, pi, xi):
        if pi is None:
            return rg.synapses.Dense(jnp.asarray(m, jnp.float32))
        return rg.synapses.SpikeAndSlab(*(jnp.asarray(a, jnp.float32) for a in (m, pi, xi)))

    layers = given["layers"]
    neurons, inputs = layers["input"][0].shape
    ends = {"input": ("input", "hidden", 0), "recurrent": ("hidden", "hidden", 1), "output": ("hidden", "readout", 0)}
    projections = [
        rg.Projection(source, target, synapse(*layers[name]), delay=delay, frozen=name in frozen)
        for name, (source, target, delay) in ends.items()
    ]
    hidden = rg.neurons.LeakyRate(neurons, "relu", alpha=ALPHA, initial=START)
    populations = {"hidden": hidden, "readout": rg.neurons.Linear(CLASSES)}
    return rg.Network(populations, projections, inputs=inputs, readout="readout")


def library_trials(given: dict):
    """The trials of `case` as the library takes them."""
    import jax.numpy as jnp

    import retrograde as rg

    labels = jnp.asarray(given["labels"], jnp.int32)[None]
    return rg.tasks.Trials(jnp.asarray(given["inputs"], jnp.float32), labels, jnp.ones(labels.shape))


def library_loss(rule, trials):
    """The objective of one update, `(network, key, …) -> loss`; further options go to the network."""
    import retrograde as rg

    def loss(network, key, **given):
        outputs = network(trials.inputs, rule=rule, key=key, readout_steps=1, **given).outputs
        return rg.losses.cross_entropy(outputs, trials)

    return loss


def library_step(network, rule, trials):
    """Gradient, clip, Adam and projection by the library: `(params, optimiser state, key) -> the same, and the loss`.

    Returns:
        The step, and its first arguments.
    """
    import equinox as eqx
    import jax

    import retrograde as rg

    optimiser = rg.training.optimiser(network)
    trainable = network.trainable()
    params, rest = eqx.partition(network, trainable)
    loss = library_loss(rule, trials)

    def step(params, state, key):
        key, noise_key = jax.random.split(key)
        value, gradient = eqx.filter_value_and_grad(lambda p: loss(eqx.combine(p, rest), noise_key))(params)
        updates, state = optimiser.update(gradient, state, params)
        network = eqx.combine(eqx.apply_updates(params, updates), rest).project()
        return eqx.filter(network, trainable), state, key, value

    return step, (params, optimiser.init(params), jax.random.key(1))


def library_update(time: int, inputs: int, checkpoint: bool = False, neurons: int = NEURONS, batch: int = BATCH):
    """One update by the library, float32."""
    import equinox as eqx

    import retrograde as rg

    given = case(time, inputs, neurons=neurons, batch=batch)
    rule = rg.rules.BPTT(checkpoint=checkpoint)
    step, state = library_step(library_network(given), rule, library_trials(given))
    step = eqx.filter_jit(step, donate="all")

    def work():
        nonlocal state
        *state, loss = ready(step(*state))
        return {"loss": float(loss)}

    return work


def scan_update(time: int, inputs: int):
    """The same update as one writes it first in JAX, float32: `jax.grad` of a `lax.scan`, and `jax.random.normal`."""
    import jax
    import jax.numpy as jnp
    import optax

    given = case(time, inputs)
    weights = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), given["layers"])
    x, labels = jnp.asarray(given["inputs"], jnp.float32), jnp.asarray(given["labels"])
    decayed = {
        name: (True, False, True) if pi is not None else (True, None, None) for name, (_, pi, _) in weights.items()
    }
    optimiser = optax.chain(
        optax.scale_by_adam(), optax.add_decayed_weights(1e-4, decayed), optax.scale_by_learning_rate(1e-3)
    )

    def moments(m, pi, xi):
        return (m, None) if pi is None else ((1 - pi) * m, (1 - pi) * xi + pi * (1 - pi) * m**2)

    def current(mean, variance, eps):
        positive = variance > 0
        return mean + eps * jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0)

    def loss(weights, key):
        (mu_in, v_in), (mu, v), (mu_out, v_out) = (moments(*weights[k]) for k in ("input", "recurrent", "output"))
        hidden_key, out_key = jax.random.split(key)

        def step(s, now):
            x, eps = now
            z = jax.nn.relu(s)
            variance = z**2 @ v.T if v_in is None else z**2 @ v.T + x**2 @ v_in.T
            return (1 - ALPHA) * s + ALPHA * current(z @ mu.T + x @ mu_in.T, variance, eps), None

        eps = jax.random.normal(hidden_key, (*x.shape[:2], len(mu)))
        s, _ = jax.lax.scan(step, jnp.full(eps.shape[1:], START), (x, eps))
        z = jax.nn.relu(s)
        y = current(z @ mu_out.T, z**2 @ v_out.T, jax.random.normal(out_key, (len(labels), CLASSES)))
        return optax.softmax_cross_entropy_with_integer_labels(y, labels).mean()

    def clip(g):
        norm = jnp.linalg.norm(g)
        largest = jax.lax.cond(norm > 10, lambda: jnp.linalg.norm(g, 2), lambda: norm)
        return g * jnp.minimum(1, 10 / largest)

    @jax.jit
    def step(weights, state, key):
        key, noise_key = jax.random.split(key)
        value, gradient = jax.value_and_grad(loss)(weights, noise_key)
        updates, state = optimiser.update(jax.tree.map(clip, gradient), state, weights)
        weights = optax.apply_updates(weights, updates)
        weights = {
            name: (m, None, None) if pi is None else (m, jnp.clip(pi, 0, 1), jnp.maximum(xi, 0))
            for name, (m, pi, xi) in weights.items()
        }
        return weights, state, key, value

    state = (weights, optimiser.init(weights), jax.random.key(1))

    def work():
        nonlocal state
        *state, value = ready(step(*state))
        return {"loss": float(value)}

    return work
