"""Forward pass and gradient of recurrent spiking networks, by BPTT, against a loop by hand and other libraries.

All have the same weights, inputs, surrogate derivative, linear readout and loss, in float32. Where a library has these
equations its loss and gradients must agree with ours, or nothing is reported; where it has not, its nearest cell runs,
and a note says what differs. Each runs at the best of one and all threads. Needs the extra `benchmarks`; peers that are
not installed are left out.

    python benchmarks/spiking_bptt.py [--json] [--repeats N] [--quick]
"""

from importlib.util import find_spec

import _measure
import _recurrent
from _measure import ready
from _recurrent import BETA, DAMPENING, DECAY, DECAY_ADAPT, answer, half_mean_square

NEURONS, STEPS, BATCH = 256, 200, 64
TOLERANCE = 1e-2  # a spike that rounding moves by a step changes its trial from there on
LIF, ATTACHED, ALIF = "LIF", "LIF, reset carries credit", "ALIF"
OURS, SCAN, SNNTORCH, NORSE = "retrograde", "lax.scan", "snnTorch", "Norse"
SPIKINGJELLY, SPYX = "SpikingJelly", "Spyx"
MODULES = {SNNTORCH: "snntorch", NORSE: "norse", SPIKINGJELLY: "spikingjelly", SPYX: "spyx"}
NOTES = {
    (LIF, SPIKINGJELLY): "subtracts the threshold before the leak instead of after it",
    (LIF, NORSE): "resets to zero instead of subtracting the threshold",
    (ALIF, NORSE): "`LSNNRecurrent` resets to zero, its currents arrive a step later, adaptation carries no credit",
    (ALIF, SPYX): "`ALIF` has no recurrent form, so its spikes are fed back one step later; its reset, which carries "
    "credit, subtracts the adapted threshold, and its adaptation has gain 1-ρ",
}


def scan(kind: str, neurons: int, steps: int, batch: int, *, inside: bool):
    """`jax.grad` of a `lax.scan` written by hand, the input product before the loop or inside it."""
    import jax
    import jax.numpy as jnp

    *weights, x, target = map(jnp.asarray, _recurrent.case(neurons, steps, batch))

    spike = _recurrent.spike()

    @jax.jit
    @jax.value_and_grad
    def run(weights, x, target):
        w_in, w_rec, w_out = weights

        def step(state, x):
            v, a, z = state
            reset = z if kind == ATTACHED else jax.lax.stop_gradient(z)
            current = x @ w_in.T if inside else x
            v = DECAY * v + current + z @ w_rec.T - reset
            if kind == ALIF:
                a = DECAY_ADAPT * a + z
                z = spike(v - 1 - BETA * a)
            else:
                z = spike(v - 1)
            return (v, a, z), z

        rest = jnp.zeros((batch, neurons))
        start = (rest, rest if kind == ALIF else None, rest)
        z = jax.lax.scan(step, start, x if inside else x @ w_in.T)[1]
        return half_mean_square(z @ w_out.T, target)

    def work():
        loss, gradient = ready(run(weights, x, target))
        return lambda: answer(loss, *gradient)

    return work


def scan_inside(*arguments):
    return scan(*arguments, inside=True)


def scan_before(*arguments):
    return scan(*arguments, inside=False)


def spyx(kind: str, neurons: int, steps: int, batch: int):
    """Spyx's cell in its loop; it returns the spikes of the step before."""
    import jax.numpy as jnp
    import spyx as peer
    from flax import nnx

    w_in, w_rec, w_out, x, target = map(jnp.asarray, _recurrent.case(neurons, steps, batch))
    surrogate = peer.axn.custom(lambda x: DAMPENING * jnp.maximum(0, 1 - jnp.abs(x)))
    rngs = nnx.Rngs(0)

    class FedBack(nnx.Module):
        """Their adaptive cell with all-to-all feedback."""

        def __init__(self):
            self.cell = peer.nn.ALIF(
                (neurons,), beta=DECAY, gamma=DECAY_ADAPT, threshold=1.0, activation=surrogate, rngs=rngs
            )
            self.recurrent_w = nnx.Param(w_rec.T)

        def __call__(self, x, state):
            memory, z = state
            z, memory = self.cell(x + z @ self.recurrent_w[...], memory)
            return z, (memory, z)

        def initial_state(self, batch_size):
            return self.cell.initial_state(batch_size), jnp.zeros((batch_size, neurons))

    class Whole(nnx.Module):
        def __init__(self):
            self.into = nnx.Linear(w_in.shape[1], neurons, use_bias=False, rngs=rngs)
            self.out = nnx.Linear(neurons, len(w_out), use_bias=False, rngs=rngs)
            self.into.kernel[...] = w_in.T
            self.out.kernel[...] = w_out.T
            if kind == ALIF:
                self.cell = FedBack()
            else:
                self.cell = peer.nn.RLIF((neurons,), beta=DECAY, threshold=1.0, activation=surrogate, rngs=rngs)
                self.cell.recurrent_w[...] = w_rec.T

        def __call__(self, x):
            currents = self.into(x)
            late = jnp.concatenate([currents, jnp.zeros_like(currents[:1])])
            return self.out(peer.nn.run(self.cell, late)[0][1:])

    @nnx.jit
    @nnx.value_and_grad
    def run(model, x, target):
        return half_mean_square(model(x), target)

    model = Whole()

    def work():
        loss, gradient = ready(run(model, x, target))
        matrices = (gradient["into"]["kernel"], gradient["cell"]["recurrent_w"], gradient["out"]["kernel"])
        return lambda: answer(loss, *(matrix[...].T for matrix in matrices))

    return work


def _torch_case(neurons, steps, batch, threads):
    import torch

    torch.set_num_threads(threads)

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x > 0).to(x.dtype)

        @staticmethod
        def backward(ctx, credit):
            (x,) = ctx.saved_tensors
            return credit * DAMPENING * (1 - x.abs()).clamp(min=0)

    return [torch.from_numpy(a) for a in _recurrent.case(neurons, steps, batch)], Spike.apply


def _linear(weight):
    """PyTorch's layer with these weights, no bias."""
    import torch

    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def _torch_work(forward, x, target, weights):
    """Loss, `backward`, and what is compared; `weights` are the input's, the recurrence's and the readout's."""

    def work():
        for weight in weights:
            weight.grad = None
        loss = half_mean_square(forward(x), target)
        loss.backward()
        return lambda: answer(loss.detach(), *(weight.grad.numpy() for weight in weights))

    return work


def snntorch(kind: str, neurons: int, steps: int, batch: int, threads: int):
    """The cell `RLeaky` of snnTorch, whose reset never carries credit."""
    import snntorch as peer
    import torch

    (w_in, w_rec, w_out, x, target), spike = _torch_case(neurons, steps, batch, threads)
    cell = peer.RLeaky(beta=DECAY, linear_features=neurons, threshold=1.0, spike_grad=spike)
    into, cell.recurrent, out = _linear(w_in), _linear(w_rec), _linear(w_out)

    def forward(x):
        z, v = torch.zeros(batch, neurons), torch.zeros(batch, neurons)
        spikes = []
        for current in into(x):
            z, v = cell(current, z, v)
            spikes.append(z)
        return out(torch.stack(spikes))

    return _torch_work(forward, x, target, (into.weight, cell.recurrent.weight, out.weight))


def spikingjelly(kind: str, neurons: int, steps: int, batch: int, threads: int):
    """SpikingJelly's `LIFNode` in its container for recurrence, in its mode of many steps."""
    from spikingjelly.activation_based import functional, layer
    from spikingjelly.activation_based import neuron as cells

    (w_in, w_rec, w_out, x, target), spike = _torch_case(neurons, steps, batch, threads)
    into, again, out = _linear(w_in), _linear(w_rec), _linear(w_out)
    node = cells.LIFNode(
        tau=1 / (1 - DECAY), decay_input=False, v_reset=None, surrogate_function=spike, detach_reset=True
    )
    loop = layer.ElementWiseRecurrentContainer(node, lambda y, x: x + again(y), step_mode="m")

    def forward(x):
        functional.reset_net(loop)
        return out(loop(into(x)))

    return _torch_work(forward, x, target, (into.weight, again.weight, out.weight))


def norse(kind: str, neurons: int, steps: int, batch: int, threads: int):
    """Norse's layers, their synaptic current without a memory."""
    import torch
    from norse.torch import LIFParameters, LIFRecurrent, LSNNParameters, LSNNRecurrent

    (w_in, w_rec, w_out, x, target), _ = _torch_case(neurons, steps, batch, threads)
    dt, gain = 1e-3, 1 - DECAY
    both = {
        "tau_syn_inv": torch.as_tensor(1 / dt),
        "tau_mem_inv": torch.as_tensor(gain / dt),
        "v_th": torch.as_tensor(1.0),
        "method": "triangle",
        "alpha": DAMPENING,
    }
    adaptive = {"tau_adapt_inv": torch.as_tensor((1 - DECAY_ADAPT) / dt), "beta": torch.as_tensor(BETA)}
    layer, parameters = (
        (LSNNRecurrent, LSNNParameters(**both, **adaptive)) if kind == ALIF else (LIFRecurrent, LIFParameters(**both))
    )
    weights = {
        "input_weights": torch.nn.Parameter(w_in / gain),
        "recurrent_weights": torch.nn.Parameter(w_rec / gain),
    }
    cell = layer(w_in.shape[1], neurons, p=parameters, autapses=True, dt=dt, **weights)
    out = _linear(w_out)
    return _torch_work(lambda x: out(cell(x)[0]), x, target, (cell.input_weights, cell.recurrent_weights, out.weight))


CASES = {
    LIF: {SNNTORCH: snntorch, SPIKINGJELLY: spikingjelly, NORSE: norse},
    ATTACHED: {SPYX: spyx},
    ALIF: {NORSE: norse, SPYX: spyx},
}


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting(*MODULES.values())
    size = (64, 50, 16) if options.quick else (NEURONS, STEPS, BATCH)
    repeats = options.repeats or (5 if options.quick else 15)
    rows, notes = [], []
    for kind, peers in CASES.items():
        peers = {name: make for name, make in peers.items() if find_spec(MODULES[name])}
        contenders = {
            **_measure.on_threads(OURS, _recurrent.library, (kind, "BPTT", None, *size)),
            **_measure.on_threads(f"{SCAN}, input product before", scan_before, (kind, *size)),
            **_measure.on_threads(f"{SCAN}, input product inside", scan_inside, (kind, *size)),
        }
        for name, make in peers.items():
            in_jax = make is spyx
            contenders |= _measure.on_threads(name, make, (kind, *size), tell=not in_jax)
        timings = _measure.race(contenders, repeats=repeats, warm=3)
        same = [name for name in peers if (kind, name) not in NOTES]
        off = _recurrent.check_agreement(timings, [OURS, *same], SCAN, TOLERANCE)
        best = {name: _measure.best(timings, name) for name in (OURS, SCAN, *peers)}
        for name, (key, seconds) in best.items():
            rows.append(
                {
                    "neurons": kind,
                    "contender": key,
                    "median ms": seconds * 1e3,
                    "fastest ms": min(timings[key].seconds) * 1e3,
                    "times retrograde": seconds / best[OURS][1],
                    "equations": "near" if (kind, name) in NOTES else "same",
                    "peak MB": timings[key].memory_mb,
                    "repeats": repeats,
                }
            )
        ratio = best[OURS][1] / best[SCAN][1]
        notes.append(
            f"{kind}: retrograde takes {ratio:.3g} times as long as the loop by hand (goal: at most 1.15); losses and "
            f"gradients of the contenders with the same equations differ by at most {off:.1g} of their norms."
        )
    for (kind, name), text in NOTES.items():
        if find_spec(MODULES[name]):
            notes.append(f"{name}, {kind}: {text}.")
    neurons, steps, batch = size
    notes += [
        f"{_recurrent.INPUTS} inputs, {neurons} neurons, {steps} steps, batch {batch}. Each at its best number of "
        "threads; `lax.scan` also at the better place of its input product. No peer compiles its loop but Spyx.",
        *(f"{name} is not installed: left out." for name, module in MODULES.items() if not find_spec(module)),
        "Left out: the ALIF of snnTorch and SpikingJelly, which have no cell whose threshold adapts.",
        "Limits: the products of the loops, one after the other in time.",
    ]
    _measure.report("spiking_bptt", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
