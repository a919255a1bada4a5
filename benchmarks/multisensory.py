"""One training iteration of multisensory integration against NumPy and PyTorch loops of the same equations.

150 neurons, 125 steps, 30 trials, a loss at every step, noise on state and currents, RMSprop with a penalty, and the
projection: the training of Zou, Li & Huang (2023), whose notebook needs 73.65 s for 346 iterations on a machine that we
do not know. NumPy: the tests' reference, the hand-written equations, float64. PyTorch: automatic differentiation of the
same loop, float32 like ours.

    python benchmarks/multisensory.py [--json] [--repeats N] [--quick]
"""

import sys

import _measure
import numpy as np

OURS, NUMPY, TORCH = "retrograde", "numpy", "torch"
ALPHA, NOISE, DECAY, RATE = 0.2, 0.15, 1e-3, 1e-3
RATES = {"recurrent": 1.0, "output": 0.1}  # of π
THEIRS, ITERATIONS = 73.65, 346


def case():
    """Weights and trials, the same for all: `(layers, reads, inputs, targets, mask)`."""
    import jax
    import jax.random as jr

    import retrograde as rg
    from retrograde.papers.zou2023 import _multisensory as multisensory

    task = rg.tasks.Multisensory()
    network, trials = multisensory.ensemble(jr.key(0)), task.sample(jr.key(1), task.round)
    hidden, readout = (network.projections[name].synapse for name in ("hidden->hidden", "hidden->readout"))
    first = network.projections["input->hidden"].synapse
    layers = {
        "input": (first.synapse.weight,),
        "recurrent": (hidden.m, hidden.pi, hidden.xi),
        "output": (readout.m, readout.pi, readout.xi),
    }
    return network, trials, jax.tree.map(np.asarray, (layers, first.mask, trials.inputs, trials.targets, trials.mask))


def numpy_iteration():
    """The hand-written equations."""
    sys.path.insert(0, str(_measure.FOLDER.parent / "tests"))
    from reference import gbptt_numpy as gbptt

    _, _, (layers, reads, inputs, targets, mask) = case()
    inputs, targets, mask = (a.astype(float) for a in (inputs, targets, mask))
    weights = {name: gbptt.Weights(*(a.astype(float) for a in layer)) for name, layer in layers.items()}
    squares = {name: gbptt.Weights(*(np.zeros_like(a) for a in w if a is not None)) for name, w in weights.items()}
    rng, (time, batch, _) = np.random.default_rng(0), inputs.shape

    def work():
        nonlocal weights, squares
        neurons, outputs = len(weights["recurrent"].m), targets.shape[-1]
        trajectory = gbptt.forward(
            weights,
            inputs,
            rng.standard_normal((time, batch, neurons)),
            rng.standard_normal((time, batch, outputs)),
            alpha=ALPHA,
            initial_state=0.0,
            state_noise=np.sqrt(2 * ALPHA) * NOISE * rng.standard_normal((time, batch, neurons)),
        )
        difference = trajectory.outputs - targets
        # `backward` divides by nothing: so the loss's own factor is in the error
        error = mask[..., None] * difference / mask.size
        found = gbptt.backward(weights, inputs, trajectory, error, alpha=ALPHA)
        new, kept = {}, {}
        for name, w in weights.items():
            g = found[name]
            slopes = [g.m + DECAY * w.m] + ([g.pi, g.xi + DECAY * w.xi] if w.pi is not None else [])
            rates = [RATE, RATES.get(name, 0.0), RATE]
            values = [a for a in w if a is not None]
            old = [v for v in squares[name] if v is not None]
            kept[name] = gbptt.Weights(*(0.9 * v + 0.1 * s**2 for v, s in zip(old, slopes, strict=True)))
            moved = [
                a - rate * s / np.sqrt(v + 1e-8)
                for a, rate, s, v in zip(values, rates, slopes, kept[name], strict=False)
            ]
            new[name] = gbptt.Weights(*moved)
        new["input"] = gbptt.Weights(new["input"].m * reads)
        weights, squares = gbptt.project(new), kept
        return {"loss": float(0.5 * np.sum(mask[..., None] * difference**2) / mask.size)}

    return work


def torch_iteration():
    """Automatic differentiation of a loop in PyTorch."""
    import torch

    _, _, (layers, reads, inputs, targets, mask) = case()
    x, y, w = (torch.tensor(a) for a in (inputs, targets, mask))
    reads = torch.tensor(reads)
    params = {name: [torch.tensor(a, requires_grad=True) for a in layer] for name, layer in layers.items()}
    groups = []
    for name, layer in params.items():
        groups.append({"params": [layer[0]], "lr": RATE, "weight_decay": DECAY})
        if len(layer) == 3:
            groups.append({"params": [layer[1]], "lr": RATES[name]})
            groups.append({"params": [layer[2]], "lr": RATE, "weight_decay": DECAY})
    optimiser = torch.optim.RMSprop(groups, alpha=0.9, eps=1e-4)
    time, batch, _ = x.shape

    def moments(m, pi, xi):
        return (1 - pi) * m, (1 - pi) * xi + pi * (1 - pi) * m**2

    def root(variance):
        positive = variance > 0
        return torch.where(positive, torch.sqrt(torch.where(positive, variance, torch.ones_like(variance))), 0.0)

    def work():
        (mu, v), (mu_out, v_out) = moments(*params["recurrent"]), moments(*params["output"])
        mu_in = params["input"][0] * reads
        neurons, outputs = len(mu), y.shape[-1]
        drive = x @ mu_in.T + np.sqrt(2 / ALPHA) * NOISE * torch.randn(time, batch, neurons)
        eps, eps_out = torch.randn(time, batch, neurons), torch.randn(time, batch, outputs)
        s, rates = torch.zeros(batch, neurons), []
        z = torch.relu(s)
        for t in range(time):
            s = (1 - ALPHA) * s + ALPHA * (drive[t] + z @ mu.T + eps[t] * root(z**2 @ v.T))
            z = torch.relu(s)
            rates.append(z)
        z = torch.stack(rates)
        out = z @ mu_out.T + eps_out * root(z**2 @ v_out.T)
        loss = 0.5 * (w[..., None] * (out - y) ** 2).sum() / w.numel()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for name in ("recurrent", "output"):
                params[name][1].clamp_(0, 1)
                params[name][2].clamp_(min=0)
        return {"loss": loss.item()}

    return work


def library_iteration():
    """The library's own: what `fit` does for one update, on the same trials."""
    import equinox as eqx
    import jax

    import retrograde as rg
    from retrograde.papers.zou2023 import _multisensory as multisensory

    network, trials, _ = case()
    groups = {f"hidden->{'hidden' if name == 'recurrent' else 'readout'}.pi": rate for name, rate in RATES.items()}
    optimiser = rg.optimiser(
        network,
        "rmsprop",
        RATE,
        decay=0.0,
        clip_spectral=None,
        groups={pattern: {"learning_rate": rate} for pattern, rate in groups.items()},
    )
    trainable, rule = network.trainable(), rg.rules.BPTT()
    params, rest = eqx.partition(network, trainable)

    def objective(params, key):
        network = eqx.combine(params, rest)
        outputs = network(trials.inputs, rule=rule, key=key).outputs
        loss = multisensory.half_error(outputs, trials)
        return loss + multisensory.penalty(network), loss

    def step(params, state, key):
        key, noise_key = jax.random.split(key)
        (_, loss), slopes = jax.value_and_grad(objective, has_aux=True)(params, noise_key)
        updates, state = optimiser.update(slopes, state, params)
        network = eqx.combine(eqx.apply_updates(params, updates), rest).project()
        return eqx.filter(network, trainable), state, key, loss

    step = eqx.filter_jit(step, donate="all")
    state = (params, optimiser.init(params), jax.random.key(1))

    def work():
        nonlocal state
        *state, loss = _measure.ready(step(*state))
        return {"loss": float(loss)}

    return work


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting()
    repeats = options.repeats or (3 if options.quick else 21)
    timings = _measure.race(
        _measure.on_threads(OURS, library_iteration, ())
        | _measure.on_threads(NUMPY, numpy_iteration, ())
        | _measure.on_threads(TORCH, torch_iteration, ()),
        repeats=repeats,
    )
    losses = {name: timing.first["loss"] for name, timing in timings.items()}
    if max(losses.values()) > 1.2 * min(losses.values()):
        raise SystemExit(f"the contenders do not compute the same: first losses {losses}")
    name, seconds = _measure.best(timings, OURS)
    rows = [
        {
            "contender": contender,
            "ms per iteration": timing.median * 1e3,
            "fastest ms": min(timing.seconds) * 1e3,
            "times retrograde's best": timing.median / seconds,
            f"s for {ITERATIONS} iterations": ITERATIONS * timing.median,
            "first loss": timing.first["loss"],
            "peak MB": timing.memory_mb,
            "repeats": repeats,
        }
        for contender, timing in timings.items()
    ]
    peers = {peer: _measure.best(timings, peer) for peer in (NUMPY, TORCH)}
    ratios = ", ".join(f"{slow / seconds:.1f} times as fast as {peer}" for peer, (_, slow) in peers.items())
    notes = [
        f"{name}: {ratios}.",
        "150 neurons, 125 steps, 30 trials; noise is part of an iteration, making the trials is not. First losses are "
        "of the same weights and trials with noise of their own.",
        f"The authors' notebook, on a machine that we do not know: {1e3 * THEIRS / ITERATIONS:.0f} ms per iteration "
        f"({THEIRS} s for {ITERATIONS}); no ratio, as it was not measured here.",
        "Limits: the products of (trials × neurons) by (neurons × neurons), four in each step, one after the other.",
    ]
    _measure.report("multisensory", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
