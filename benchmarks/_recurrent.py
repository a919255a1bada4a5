"""Recurrent networks that several benchmarks train: weights, trials, the library's network, and what is compared."""

import functools

import numpy as np

INPUTS, OUTPUTS = 100, 10
DECAY, DECAY_ADAPT, BETA = 0.953125, 0.99609375, 0.0703125  # few binary digits, so that rounding differs less
LEAK = 0.125  # of rate neurons
DAMPENING = 0.3
KEYS = ("loss", "input", "recurrent", "output")  # of an answer: a number, and gradients


def case(neurons: int, steps: int, batch: int, *, spiking: bool = True, inputs: int | None = None):
    """Weights `post pre` of input, recurrence and readout; inputs and targets `time batch channel`; all float32.

    Weights of spiking networks are multiples of 1/1024, and their inputs are spikes: sums of them are exact in any
    order, so that all contenders fire alike.
    """
    inputs = INPUTS if inputs is None else inputs
    rng = np.random.default_rng(0)
    w_in = rng.standard_normal((neurons, inputs)) * (0.1 if spiking else 1 / np.sqrt(inputs))
    w_rec = rng.standard_normal((neurons, neurons)) / np.sqrt(neurons)
    w_out = rng.standard_normal((OUTPUTS, neurons)) / np.sqrt(neurons)
    noise = rng.random((steps, batch, inputs)) < 0.1 if spiking else rng.standard_normal((steps, batch, inputs))
    target = rng.standard_normal((steps, batch, OUTPUTS))
    weights = [w_in, w_rec, w_out]
    if spiking:
        weights = [np.round(1024 * w) / 1024 for w in weights]
    return [a.astype(np.float32) for a in (*weights, noise, target)]


def spike(surrogate: str = "triangle"):
    """A spike of JAX with a triangle or a rectangle for its derivative, written by hand."""
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp
    def fire(x):
        return (x > 0).astype(x.dtype)

    @fire.defjvp
    def _(primals, tangents):
        (x,), (dx,) = primals, tangents
        slope = jax.nn.relu(1 - jnp.abs(x)) if surrogate == "triangle" else (jnp.abs(x) < 0.5).astype(x.dtype)
        return fire(x), DAMPENING * slope * dx

    return fire


def tau(decay: float) -> float:
    """Time constant of a decay per step [steps]."""
    return -1 / float(np.log(decay))


def neuron(kind: str, neurons: int):
    """The library's neuron: `"LIF"`, `"LIF, reset carries credit"`, `"ALIF"`, `"tanh"` or `"tanh, leaky activity"`."""
    import retrograde as rg

    surrogate = rg.neurons.Triangle(DAMPENING)
    if kind.startswith("LIF"):
        detach = "credit" not in kind
        return rg.neurons.LIF(neurons, tau_mem=tau(DECAY), detach_reset=detach, surrogate=surrogate)
    if kind == "ALIF":
        return rg.neurons.ALIF(
            neurons,
            tau_mem=tau(DECAY),
            tau_adapt=tau(DECAY_ADAPT),
            beta=BETA,
            detach_reset=True,
            surrogate=surrogate,
        )
    leak = "activity" if "activity" in kind else "current"
    return rg.neurons.LeakyRate(neurons, "tanh", alpha=LEAK, leak=leak)


def network(kind: str, w_in, w_rec, w_out):
    """The library's network: input → recurrent population → linear readout."""
    import jax.numpy as jnp

    import retrograde as rg

    def dense(w):
        return rg.synapses.Dense(jnp.asarray(w))

    return rg.Network(
        {"hidden": neuron(kind, len(w_rec)), "readout": rg.neurons.Linear(len(w_out))},
        [
            rg.Projection("input", "hidden", dense(w_in), name="input"),
            rg.Projection("hidden", "hidden", dense(w_rec), delay=1, name="recurrent"),
            rg.Projection("hidden", "readout", dense(w_out), name="output"),
        ],
        inputs=w_in.shape[1],
        readout="readout",
    )


def half_mean_square(outputs, target):
    """The loss of all contenders; works on arrays of every library."""
    return 0.5 * ((outputs - target) ** 2).mean()


def weights_of(gradient) -> list:
    """Input, recurrent and output weights of a gradient by the library."""
    return [gradient.projections[name].synapse.weight for name in ("input", "recurrent", "output")]


def answer(loss, of_input, of_recurrent, of_output) -> dict:
    """What contenders are compared by."""
    gradients = {"input": of_input, "recurrent": of_recurrent, "output": of_output}
    return {"loss": float(loss), **{name: np.asarray(g, np.float64) for name, g in gradients.items()}}


def library(kind: str, rule: str, form: str | None, neurons: int, steps: int, batch: int, inputs: int | None = None):
    """Loss and gradient by the library, all trials and steps in one call."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import retrograde as rg

    *weights, x, target = case(neurons, steps, batch, spiking="LIF" in kind, inputs=inputs)
    net, x, target = network(kind, *weights), jnp.asarray(x), jnp.asarray(target)
    how = getattr(rg.rules, rule)(*([] if form is None else [form]))

    @eqx.filter_jit
    @functools.partial(eqx.filter_value_and_grad, has_aux=True)
    def step(net, x, target):
        outputs = net(x, rule=how).outputs
        return half_mean_square(outputs, target), None

    def work():
        (loss, _), gradient = jax.block_until_ready(step(net, x, target))
        return lambda: answer(loss, *weights_of(gradient))

    return work


def check_agreement(timings, names, reference: str, tolerance: float, keys=KEYS) -> float:
    """Refuses to report times of contenders that computed different things; returns the largest difference.

    Args:
        timings: What `race` returned.
        names: Prefixes of the contenders that must agree.
        reference: Prefix of the one they must agree with.
        tolerance: Largest relative difference, of norms.
        keys: What of their answers must agree.
    """
    expected = next(timing.first for name, timing in timings.items() if name.startswith(reference))
    largest = 0.0
    for name, timing in timings.items():
        if not name.startswith(tuple(names)):
            continue
        for key in keys:
            norm = np.linalg.norm(expected[key]) + 1e-30
            value = float(np.linalg.norm(timing.first[key] - expected[key]) / norm)
            if not value < tolerance:
                raise SystemExit(f"{name} and {reference} differ by {value:.2g} in {key}: nothing to compare")
            largest = max(largest, value)
    return largest
