"""E-prop: offline against our own BPTT, forward in time against braintrace, and how its time grows.

Offline, e-prop is BPTT without the products of its backward loop, on the same network. Forward, it carries traces:
unrolled (`EProp("forward")` over whole trials) and as a stream (`start`, `step`, `gradient` in every step), against
braintrace's `EProp` (its D-RTRL) with the same network and loss. Losses and gradients must agree, or nothing is
reported: all forms of e-prop among each other and with braintrace. Growth is a least-squares exponent on logarithms.
Needs the extra `benchmarks`; without braintrace that part runs alone.

    python benchmarks/eprop.py [--json] [--repeats N] [--quick]
"""

from importlib.util import find_spec

import _measure
import _recurrent
import numpy as np
from _measure import Contender, ready
from _recurrent import BETA, DECAY, DECAY_ADAPT, LEAK, answer, half_mean_square

SIZE = {"neurons": 256, "steps": 200, "batch": 64}
FORWARD = {"neurons": 128, "steps": 100, "batch": 16}  # braintrace's traces are `batch neuron (input + neuron)`
VARIED = {"steps": (25, 50, 100, 200, 400), "neurons": (64, 128, 256, 512), "batch": (8, 16, 32, 64, 128)}
QUICK = {"neurons": 48, "steps": 30, "batch": 8}
KINDS = ("LIF", "ALIF", "tanh")
TOLERANCE = 1e-2  # a spike that rounding moves by a step changes its trial from there on
OFFLINE, BPTT, UNROLLED, STREAM = "e-prop", "BPTT", "e-prop forward", "e-prop stream"
PEER = "braintrace"


def stream(kind: str, neurons: int, steps: int, batch: int):
    """The library's rule one step at a time, the gradient taken in every step."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import retrograde as rg

    *weights, x, target = _recurrent.case(neurons, steps, batch, spiking="LIF" in kind)
    network, x, target = _recurrent.network(kind, *weights), jnp.asarray(x), jnp.asarray(target)
    rule = rg.rules.EProp()

    @eqx.filter_jit
    def run(network, x, target):
        def advance(carry, now):
            stream, total, loss = carry
            x, target = now
            stream, y = rule.step(network, stream, x)
            now, credit = jax.value_and_grad(lambda y: half_mean_square(y, target) / steps)(y)
            stream, gradient = rule.gradient(network, stream, credit)
            return (stream, jax.tree.map(jnp.add, total, gradient), loss + now), None

        start = rule.start(network, batch, key=jax.random.key(0))
        none = jax.tree.map(jnp.zeros_like, eqx.filter(network, network.trainable()))
        (_, total, loss), _ = jax.lax.scan(advance, (start, none, jnp.zeros(())), (x, target))
        return loss, total

    def work():
        loss, gradient = ready(run(network, x, target))
        return lambda: answer(loss, *_recurrent.weights_of(gradient))

    return work


def braintrace(kind: str, neurons: int, steps: int, batch: int, vmap: bool):
    """Braintrace's e-prop, trials as a batch or by its `vmap`."""
    import brainstate
    import braintrace as peer
    import jax
    import jax.numpy as jnp

    w_in, w_rec, w_out, x, target = map(jnp.asarray, _recurrent.case(neurons, steps, batch, spiking="LIF" in kind))

    spike = _recurrent.spike()

    class Cell(brainstate.nn.Module):
        """Input and recurrence as one product, as in their own cells."""

        def __init__(self):
            super().__init__()
            self.w = brainstate.ParamState(jnp.concatenate([w_in.T, w_rec.T]))

        def init_state(self, batch_size=None, **_):
            shape = (neurons,) if batch_size is None else (batch_size, neurons)
            self.v = brainstate.HiddenState(jnp.zeros(shape))
            if kind == "ALIF":
                self.a = brainstate.HiddenState(jnp.zeros(shape))

        def update(self, x):
            v, z = self.v.value, self.activity()
            current = peer.matmul(jnp.concatenate([x, z], -1), self.w.value)
            if kind == "tanh":
                self.v.value = (1 - LEAK) * v + LEAK * current
            else:
                self.v.value = DECAY * v + current - jax.lax.stop_gradient(z)
            if kind == "ALIF":
                self.a.value = DECAY_ADAPT * self.a.value + z
            return self.activity()

        def activity(self):
            v = self.v.value
            if kind == "tanh":
                return jnp.tanh(v)
            return spike(v - 1 - BETA * self.a.value) if kind == "ALIF" else spike(v - 1)

    cell, readout = Cell(), brainstate.ParamState(w_out.T)
    learner = peer.compile(cell, peer.EProp, x[0], batch_size=batch, vmap=vmap)
    fresh = [(state, state.value) for state in learner.states().values()]

    def loss_of(x, target):
        return half_mean_square(learner(x) @ readout.value, target) / steps

    @brainstate.transform.jit
    def run(x, target):
        weights = {("w",): cell.w, ("out",): readout}
        return learner.etrace_grad(
            x, target, step_fn=loss_of, weights=weights, reduction="sum", loss_output="scalar", return_value=True
        )

    def work():
        for state, value in fresh:  # a new batch of trials
            state.value = value
        gradient, loss = ready(run(x, target))
        both = gradient[("w",)].T
        inputs = w_in.shape[1]
        return lambda: answer(loss, both[:, :inputs], both[:, inputs:], gradient[("out",)].T)

    return work


def row(part, kind, size, timings, name, other, goal, repeats):
    """One line: the best of `name`, against the best of `other`."""
    key, seconds = _measure.best(timings, name)
    against = None if other is None else _measure.best(timings, other)[1]
    return {
        "part": part,
        "neurons": kind,
        "contender": key,
        "ms": seconds * 1e3,
        "µs per step": seconds * 1e6 / size["steps"],
        "against": other or "–",
        "ratio": None if against is None else seconds / against,
        "goal": goal,
        "peak MB": timings[key].memory_mb,
        "repeats": repeats,
    }


def offline(kinds, size, repeats):
    """Offline e-prop against BPTT."""
    rows = []
    for kind in kinds:
        contenders = {
            **_measure.on_threads(OFFLINE, _recurrent.library, (kind, "EProp", None, *size.values())),
            **_measure.on_threads(BPTT, _recurrent.library, (kind, "BPTT", None, *size.values())),
        }
        timings = _measure.race(contenders, repeats=repeats, warm=3)
        _recurrent.check_agreement(timings, [OFFLINE], BPTT, TOLERANCE, ("loss", "output"))
        rows.append(row("offline", kind, size, timings, OFFLINE, BPTT, "≤ 0.7", repeats))
        rows.append(row("offline", kind, size, timings, BPTT, None, "", repeats))
    return rows


def forward(kinds, size, repeats):
    """Forward e-prop against braintrace."""
    rows, notes = [], []
    with_peer = find_spec(PEER) is not None
    for kind in kinds:
        contenders = {
            **_measure.on_threads(UNROLLED, _recurrent.library, (kind, "EProp", "forward", *size.values())),
            **_measure.on_threads(STREAM, stream, (kind, *size.values())),
            OFFLINE: Contender(_recurrent.library, (kind, "EProp", None, *size.values())),
        }
        if with_peer:
            for name, vmap in ((f"{PEER}, batched", False), (f"{PEER}, vmap", True)):
                contenders |= _measure.on_threads(name, braintrace, (kind, *size.values(), vmap))
        timings = _measure.race(contenders, repeats=repeats, warm=2)
        names = [UNROLLED, STREAM, *([PEER] if with_peer else [])]
        off = _recurrent.check_agreement(timings, names, OFFLINE, TOLERANCE)
        other = PEER if with_peer else None
        rows += [row("forward", kind, size, timings, n, other, "≤ 0.1" if other else "", repeats) for n in names[:2]]
        if with_peer:
            rows.append(row("forward", kind, size, timings, PEER, None, "", repeats))
        notes.append(
            f"{kind}, forward: {', '.join(names)} differ from offline e-prop by at most {off:.1g} of the norms."
        )
    if not with_peer:
        notes.append(f"{PEER} is not installed: left out.")
    return rows, notes


def growth(fixed, varied, repeats):
    """Exponents of offline and forward e-prop on LIF neurons."""
    notes = []
    for name, form in ((OFFLINE, None), (UNROLLED, "forward")):
        for key, sizes in varied.items():
            contenders = {
                str(size): Contender(_recurrent.library, ("LIF", "EProp", form, *(fixed | {key: size}).values()))
                for size in sizes
            }
            timings = _measure.race(contenders, repeats=repeats, warm=2)
            seconds = [timings[str(size)].median for size in sizes]
            slope = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
            upper = float(np.polyfit(np.log(sizes[-3:]), np.log(seconds[-3:]), 1)[0])
            points = ", ".join(f"{n} → {s * 1e3:.3g} ms" for n, s in zip(sizes, seconds, strict=True))
            notes.append(f"{name}, LIF, grows with {key} to the power {slope:.2f} (upper sizes {upper:.2f}): {points}.")
    return notes


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting(PEER)
    repeats = options.repeats or (3 if options.quick else 15)
    kinds = KINDS[1:2] if options.quick else KINDS
    rows = offline(kinds, QUICK if options.quick else SIZE, repeats)
    small = QUICK if options.quick else FORWARD
    more, notes = forward(kinds, small, repeats)
    varied = {"steps": VARIED["steps"][:2]} if options.quick else VARIED
    notes += growth(small, varied, min(repeats, 9))
    sizes = "; ".join(
        f"{part}: " + ", ".join(f"{value} {key}" for key, value in size.items())
        for part, size in (("offline", QUICK if options.quick else SIZE), ("forward and growth", small))
    )
    notes += [
        f"{_recurrent.INPUTS} inputs, {_recurrent.OUTPUTS} outputs. {sizes}. `ratio`: time by the time of `against`. "
        "Each at its best number of threads, braintrace also at the better of a batch and its `vmap`.",
        "The cells for braintrace are written with its product and its hidden states, one product for input and "
        "recurrence, from the library's equations; its readout stands outside the learner.",
        "Limits: offline, the products before and after the loops; forward, the traces of ALIF neurons. LIF and leaky "
        "tanh neurons filter what they read alike, so that the library carries one trace per input, not per weight.",
    ]
    _measure.report("eprop", [*rows, *more], where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
