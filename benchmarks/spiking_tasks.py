"""One iteration at the sizes of two tasks, forward pass and gradient: evidence accumulation, and electrocardiograms.

Evidence accumulation (2,250 steps, 100 ALIF neurons): e-prop and BPTT by the library, e-prop by braintrace, and both in
PyTorch, written by hand. Electrocardiograms (1,301 steps, 36 LIF neurons): BPTT by the library, snnTorch and Norse.
Inputs are random spikes, the readout is linear. Losses and gradients of the contenders with the same equations must
agree, or nothing is reported. Needs the extra `benchmarks`; peers that are not installed are left out.

    python benchmarks/spiking_tasks.py [--json] [--repeats N] [--quick]
"""

from importlib.util import find_spec

import _measure
import _recurrent
import eprop
import spiking_bptt
from _recurrent import BETA, DECAY, DECAY_ADAPT, half_mean_square

TOLERANCE = 1e-2  # a spike that rounding moves by a step changes its trial from there on
EVIDENCE, ECG = "evidence accumulation", "electrocardiograms"
INPUTS = {EVIDENCE: 40, ECG: 4}
SIZES = {EVIDENCE: (100, 2250, 64), ECG: (36, 1301, 64)}  # neurons, steps, batch
QUICK = (20, 60, 8)
OURS_EPROP, OURS_BPTT = "retrograde, e-prop", "retrograde, BPTT"
TORCH_EPROP, TORCH_BPTT = "PyTorch, e-prop", "PyTorch, BPTT"
BRAINTRACE, SNNTORCH, NORSE = "braintrace, e-prop", "snnTorch, BPTT", "Norse, BPTT"
MODULES = {BRAINTRACE: "braintrace", SNNTORCH: "snntorch", NORSE: "norse", TORCH_EPROP: "torch", TORCH_BPTT: "torch"}


def with_inputs(inputs: int, make, *arguments):
    """Prepares a contender's work with another number of inputs, in the contender's own process."""
    _recurrent.INPUTS = inputs
    return make(*arguments)


def torch_alif(neurons: int, steps: int, batch: int, local: bool, threads: int):
    """A loop over time by hand; with `local`, recurrent spikes carry no credit: that is e-prop."""
    import torch

    (w_in, w_rec, w_out, x, target), spike = spiking_bptt._torch_case(neurons, steps, batch, threads)
    weights = [w.requires_grad_() for w in (w_in, w_rec, w_out)]

    def forward(x):
        v = a = z = torch.zeros(batch, neurons)
        spikes = []
        for current in x @ w_in.T:
            read = z.detach() if local else z
            a = DECAY_ADAPT * a + z
            v = DECAY * v + current + read @ w_rec.T - z.detach()
            z = spike(v - 1 - BETA * a)
            spikes.append(z)
        return torch.stack(spikes) @ w_out.T

    def work():
        for weight in weights:
            weight.grad = None
        loss = half_mean_square(forward(x), target)
        loss.backward()
        return lambda: _recurrent.answer(loss.detach(), *(weight.grad.numpy() for weight in weights))

    return work


def evidence(size):
    """Contenders of the first task, and who must agree with whom."""
    inputs = INPUTS[EVIDENCE]

    def on_threads(name, *arguments, tell=False):
        return _measure.on_threads(name, with_inputs, (inputs, *arguments), tell=tell)

    contenders = {
        **on_threads(OURS_EPROP, _recurrent.library, "ALIF", "EProp", None, *size),
        **on_threads(OURS_BPTT, _recurrent.library, "ALIF", "BPTT", None, *size),
    }
    if find_spec("braintrace"):
        contenders |= on_threads(BRAINTRACE, eprop.braintrace, "ALIF", *size, False)
    if find_spec("torch"):
        contenders |= on_threads(TORCH_EPROP, torch_alif, *size, True, tell=True)
        contenders |= on_threads(TORCH_BPTT, torch_alif, *size, False, tell=True)
    return contenders, {OURS_EPROP: [BRAINTRACE, TORCH_EPROP], OURS_BPTT: [TORCH_BPTT]}


def ecg(size):
    """The same of the second."""
    inputs = INPUTS[ECG]

    def on_threads(name, *arguments, tell=False):
        return _measure.on_threads(name, with_inputs, (inputs, *arguments), tell=tell)

    contenders = on_threads(OURS_BPTT, _recurrent.library, "LIF", "BPTT", None, *size)
    if find_spec("snntorch"):
        contenders |= on_threads(SNNTORCH, spiking_bptt.snntorch, "LIF", *size, tell=True)
    if find_spec("norse"):
        contenders |= on_threads(NORSE, spiking_bptt.norse, "LIF", *size, tell=True)
    return contenders, {OURS_BPTT: [SNNTORCH]}


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting(*sorted(set(MODULES.values())))
    repeats = options.repeats or 5
    rows, notes = [], []
    for task, make in {EVIDENCE: evidence, ECG: ecg}.items():
        size = QUICK if options.quick else SIZES[task]
        contenders, same = make(size)
        timings = _measure.race(contenders, repeats=repeats, warm=1)
        names = list(dict.fromkeys(key.rpartition(", ")[0] for key in contenders))
        worst = 0.0
        for reference, peers in same.items():
            there = [peer for peer in peers if peer in names]
            if there:
                worst = max(worst, _recurrent.check_agreement(timings, there, reference, TOLERANCE))
        best = {name: _measure.best(timings, name) for name in names}
        for name, (key, seconds) in best.items():
            ours = best[OURS_EPROP if "e-prop" in name else OURS_BPTT][1]
            rows.append(
                {
                    "task": task,
                    "contender": key,
                    "median ms": seconds * 1e3,
                    "times retrograde": seconds / ours,
                    "peak MB": timings[key].memory_mb,
                    "repeats": repeats,
                }
            )
        neurons, steps, batch = size
        notes.append(
            f"{task}: {INPUTS[task]} inputs, {neurons} neurons, {steps} steps, batch {batch}; contenders with the same "
            f"equations differ by at most {worst:.1g} of their norms."
        )
    notes += [
        "`times retrograde`: against the library's e-prop or BPTT, whichever the contender computes. Each at its best "
        "number of threads. braintrace carries traces forward, in memory that does not grow with time.",
        "Norse resets to zero instead of subtracting the threshold.",
        *(f"{name} is not installed: left out." for name in sorted(set(MODULES.values())) if not find_spec(name)),
        "Limits: the steps of the loop, one after the other, whose products are small.",
    ]
    _measure.report("spiking_tasks", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
