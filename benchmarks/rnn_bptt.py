"""Forward pass and gradient of a plain tanh network against `torch.nn.RNN` on the CPU.

All contenders have the same weights and inputs, float32, no biases, and the loss is half the mean square of the outputs
of all steps; unless their losses and gradients agree nothing is reported. Each runs at the best of one and all threads.
Needs the extra `benchmarks` (PyTorch).

    python benchmarks/rnn_bptt.py [--json] [--repeats N] [--quick]
"""

import _measure
import numpy as np
from _measure import ready

NEURONS, STEPS, BATCH, INPUTS = (64, 256, 1024), (100, 200), 64, 100
OURS, SCAN, TORCH = "retrograde", "lax.scan", "torch.nn.RNN"


def case(neurons: int, time: int):
    """Weights `post pre` and inputs `time batch input`, float32."""
    rng = np.random.default_rng(0)
    arrays = (
        rng.standard_normal((neurons, INPUTS)) / np.sqrt(INPUTS),
        rng.standard_normal((neurons, neurons)) / np.sqrt(neurons),
        rng.standard_normal((time, BATCH, INPUTS)),
    )
    return [a.astype(np.float32) for a in arrays]


def summary(loss, of_input, of_recurrent):
    """What is compared between contenders."""
    norms = (float(np.linalg.norm(np.asarray(g))) for g in (of_input, of_recurrent))
    return dict(zip(("loss", "input gradient", "recurrent gradient"), (float(loss), *norms), strict=True))


def library(neurons: int, time: int):
    """The library's BPTT on a network of one population, which is its own readout."""
    import equinox as eqx
    import jax.numpy as jnp

    import retrograde as rg

    w_in, w_rec, x = map(jnp.asarray, case(neurons, time))
    network = rg.Network(
        {"hidden": rg.neurons.LeakyRate(neurons, "tanh")},
        [
            rg.Projection("input", "hidden", rg.synapses.Dense(w_in), name="input"),
            rg.Projection("hidden", "hidden", rg.synapses.Dense(w_rec), delay=1, name="recurrent"),
        ],
        inputs=INPUTS,
        readout="hidden",
    )

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def step(network, x):
        return 0.5 * jnp.mean(network(x, rule=rg.rules.BPTT()).outputs ** 2)

    def work():
        loss, gradient = ready(step(network, x))
        by_name = gradient.projections
        return lambda: summary(loss, by_name["input"].synapse.weight, by_name["recurrent"].synapse.weight)

    return work


def scan(neurons: int, time: int):
    """`jax.grad` of a `lax.scan` written by hand, the input product inside the loop."""
    import jax
    import jax.numpy as jnp

    w_in, w_rec, x = map(jnp.asarray, case(neurons, time))

    @jax.jit
    @jax.value_and_grad
    def step(weights, x):
        w_in, w_rec = weights

        def step(h, x):
            h = jnp.tanh(x @ w_in.T + h @ w_rec.T)
            return h, h

        return 0.5 * jnp.mean(jax.lax.scan(step, jnp.zeros((BATCH, neurons)), x)[1] ** 2)

    def work():
        loss, gradient = ready(step((w_in, w_rec), x))
        return lambda: summary(loss, *gradient)

    return work


def torch_rnn(neurons: int, time: int, threads: int):
    """PyTorch's module and its autograd."""
    import torch

    torch.set_num_threads(threads)
    w_in, w_rec, x = map(torch.from_numpy, case(neurons, time))
    rnn = torch.nn.RNN(INPUTS, neurons, bias=False)
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(w_in)
        rnn.weight_hh_l0.copy_(w_rec)

    def work():
        rnn.zero_grad(set_to_none=True)
        loss = 0.5 * (rnn(x)[0] ** 2).mean()
        loss.backward()
        return lambda: summary(loss.detach(), rnn.weight_ih_l0.grad, rnn.weight_hh_l0.grad)

    return work


def check_agreement(timings):
    """Refuses to report times of contenders that computed different things."""
    expected = next(timing.first for name, timing in timings.items() if name.startswith(TORCH))
    for name, timing in timings.items():
        for key, value in timing.first.items():
            if not np.isclose(value, expected[key], rtol=2e-3):
                raise SystemExit(f"{name} has {key} = {value:.6g}, {TORCH} {expected[key]:.6g}: nothing to compare")


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting()
    sizes = [(n, t) for n in NEURONS for t in STEPS]
    rows = []
    for size in sizes[:1] if options.quick else sizes:
        repeats = options.repeats or (5 if options.quick else 31 if size[0] < 256 else 15 if size[0] < 1024 else 7)
        contenders = {
            **_measure.on_threads(OURS, library, size),
            **_measure.on_threads(SCAN, scan, size),
            **_measure.on_threads(TORCH, torch_rnn, size, tell=True),
        }
        timings = _measure.race(contenders, repeats=repeats)
        check_agreement(timings)
        best = {name: _measure.best(timings, name) for name in (OURS, SCAN, TORCH)}
        neurons, time = size
        products = 3 * neurons**2 + 2 * neurons * INPUTS  # multiply-adds per trial and step
        rows.append(
            {
                "neurons": neurons,
                "steps": time,
                "retrograde ms": best[OURS][1] * 1e3,
                "lax.scan ms": best[SCAN][1] * 1e3,
                "torch ms": best[TORCH][1] * 1e3,
                "torch / retrograde": best[TORCH][1] / best[OURS][1],
                "torch / lax.scan": best[TORCH][1] / best[SCAN][1],
                "retrograde GFLOP/s": 2e-9 * products * time * BATCH / best[OURS][1],
                "threads": " ".join(name.split(", ")[1].split()[0] for name, _ in best.values()),
                "repeats": repeats,
            }
        )
    notes = [
        f"Batch {BATCH}, {INPUTS} inputs. `threads`: the best number for retrograde, lax.scan and torch. Medians.",
        "Limits: the products of the loops, one after the other in time; the weight gradients are one product.",
    ]
    _measure.report("rnn_bptt", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
