"""RTRL, RFLO, UORO and KF-RTRL, one batch of trials, against plain NumPy loops of the same rules, trial by trial.

The NumPy peer follows the published equations (in the notation of Marschall, Cho & Savin, JMLR 2020) as one writes
them: vectorised over the weights, loops over time and over trials, float32. Leaky tanh neurons whose rate is leaky, a
linear readout, half the mean square error in every step, the gradient of all weights summed over time. The gradients of
RTRL and RFLO must agree with NumPy's, or nothing is reported; UORO and KF-RTRL draw other random numbers.

    python benchmarks/online_rules.py [--json] [--repeats N] [--quick]
"""

import _measure
import _recurrent
import numpy as np
from _recurrent import LEAK, answer

NEURONS, INPUTS, BATCH, STEPS = 100, 32, 32, 20
KIND = "tanh, leaky activity"
TOLERANCE = 1e-4  # of float32, relative
FORMS = {"RTRL": None, "RFLO": "forward", "UORO": None, "KFRTRL": None}  # argument of the library's rule
OURS, NUMPY = "retrograde", "numpy"


def library(rule: str, neurons: int, steps: int, batch: int):
    """The library's rule over the trials of a batch at once; RFLO with exact feedback."""
    return _recurrent.library(KIND, rule, FORMS[rule], neurons, steps, batch, INPUTS)


def jacobian(w, d):
    """What a step makes of the rates before it: J = diag(D) W + (1-α) 1."""
    j = d[:, None] * w
    j[np.diag_indices(len(d))] += 1 - np.float32(LEAK)
    return j


class RTRL:
    """Carries the influence `M` of all weights on the rates, `neuron × (neuron · weight)`: M ← J M + D ⊗ â."""

    def __init__(self, neurons, weights, rng):
        self.m = np.zeros((neurons, neurons, weights), np.float32)
        self.own = np.arange(neurons)

    def push(self, w, d, a):
        n = len(d)
        self.m = (jacobian(w, d) @ self.m.reshape(n, -1)).reshape(self.m.shape)
        self.m[self.own, self.own] += np.outer(d, a)

    def gradient(self, q):
        return (q @ self.m.reshape(len(q), -1)).reshape(self.m.shape[1:])


class RFLO:
    """Carries a trace of each weight: B ← (1-α) B + D ⊗ â."""

    def __init__(self, neurons, weights, rng):
        self.b = np.zeros((neurons, weights), np.float32)

    def push(self, w, d, a):
        self.b *= 1 - np.float32(LEAK)
        self.b += np.outer(d, a)

    def gradient(self, q):
        return q[:, None] * self.b


class UORO:
    """Carries one outer product `A ⊗ B` with random signs."""

    def __init__(self, neurons, weights, rng):
        self.rng = rng
        self.a = rng.standard_normal(neurons, np.float32)
        self.b = rng.standard_normal((neurons, weights), np.float32)

    def push(self, w, d, a):
        nu = self.rng.choice(np.array([-1, 1], np.float32), len(d))
        forward, now = jacobian(w, d) @ self.a, np.outer(nu * d, a)
        p0 = np.sqrt(np.linalg.norm(self.b) / np.linalg.norm(forward))
        p1 = np.sqrt(np.linalg.norm(now) / np.linalg.norm(nu))
        self.a = p0 * forward + p1 * nu
        self.b = self.b / p0 + now / p1

    def gradient(self, q):
        return (q @ self.a) * self.b


class KFRTRL:
    """Carries a Kronecker product of `A` over what is read and `B` over the neurons, with two random signs."""

    def __init__(self, neurons, weights, rng):
        self.rng = rng
        self.a = rng.standard_normal(weights, np.float32)
        self.b = rng.standard_normal((neurons, neurons), np.float32) / np.float32(np.sqrt(neurons))

    def push(self, w, d, a):
        nu = self.rng.choice(np.array([-1, 1], np.float32), 2)
        forward = jacobian(w, d) @ self.b
        p0 = np.sqrt(np.linalg.norm(forward) / np.linalg.norm(self.a))
        p1 = np.sqrt(np.linalg.norm(d) / np.linalg.norm(a))
        self.a = nu[0] * p0 * self.a + nu[1] * p1 * a
        self.b = nu[0] / p0 * forward
        self.b[np.diag_indices(len(d))] += nu[1] / p1 * d

    def gradient(self, q):
        return np.outer(q @ self.b, self.a)


PEERS = {"RTRL": RTRL, "RFLO": RFLO, "UORO": UORO, "KFRTRL": KFRTRL}


def numpy_loop(rule: str, neurons: int, steps: int, batch: int):
    """The same, in loops over trials and time."""
    w_in, w_rec, w_out, x, target = _recurrent.case(neurons, steps, batch, spiking=False, inputs=INPUTS)
    alpha, rng = np.float32(LEAK), np.random.default_rng(0)
    both = np.concatenate([w_rec, w_in], 1)
    scale = np.float32(1 / target.size)

    def work():
        total, of_output, loss = np.zeros_like(both), np.zeros_like(w_out), 0.0
        for trial in range(batch):
            z, influence = np.zeros(neurons, np.float32), PEERS[rule](neurons, both.shape[1], rng)
            for t in range(steps):
                a = np.concatenate([z, x[t, trial]])
                phi = np.tanh(both @ a)
                z = (1 - alpha) * z + alpha * phi
                d = alpha * (1 - phi**2)
                influence.push(w_rec, d, a)
                error = w_out @ z - target[t, trial]
                loss += 0.5 * scale * float(error @ error)
                of_output += scale * np.outer(error, z)
                total += influence.gradient(scale * (error @ w_out))
        return lambda: answer(loss, total[:, neurons:], total[:, :neurons], of_output)

    return work


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting()
    size = (32, 10, 8) if options.quick else (NEURONS, STEPS, BATCH)
    repeats = options.repeats or (3 if options.quick else 9)
    neurons, steps, batch = size
    rows, notes = [], []
    for rule in PEERS:
        contenders = {
            **_measure.on_threads(OURS, library, (rule, *size)),
            **_measure.on_threads(NUMPY, numpy_loop, (rule, *size)),
        }
        timings = _measure.race(contenders, repeats=repeats, warm=2)
        keys = ("loss", "output") if rule in ("UORO", "KFRTRL") else _recurrent.KEYS
        off = _recurrent.check_agreement(timings, [OURS], NUMPY, TOLERANCE, keys)
        (our_key, ours), (their_key, theirs) = (_measure.best(timings, name) for name in (OURS, NUMPY))
        per_step = 1e6 / (steps * batch)
        rows.append(
            {
                "rule": rule,
                "retrograde ms": ours * 1e3,
                "numpy ms": theirs * 1e3,
                "numpy / retrograde": theirs / ours,
                "retrograde µs per trial and step": ours * per_step,
                "numpy µs": theirs * per_step,
                "retrograde runs on": our_key.split(", ")[1],
                "numpy runs on": their_key.split(", ")[1],
                "repeats": repeats,
            }
        )
        notes.append(f"{rule}: {', '.join(keys)} differ by at most {off:.1g} of their norms.")
    notes += [
        f"{neurons} neurons, {INPUTS} inputs, {_recurrent.OUTPUTS} outputs, {steps} steps, batch {batch}; NumPy runs "
        "one trial after the other. Goal: 100 times.",
        "The library runs the network once more for the outputs before the rule, as it does when it trains.",
        "Limits: RTRL is one product of (neurons × neurons) by (neurons × all weights) per trial and step, on which "
        "NumPy's BLAS is as good as any; the others are bound by memory, and in NumPy by the calls.",
    ]
    _measure.report("online_rules", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
