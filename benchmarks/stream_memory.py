"""Memory held while a network learns from an endless stream: a million steps, a weight update in each.

Online rules with `start`, `step` and `gradient`: RFLO on leaky tanh neurons, e-prop on LIF neurons, UORO on leaky tanh
neurons; 32 neurons, one trial. A compiled function of 10,000 steps is called 100 times. Resident memory after each call
must not grow. Draws a figure.

    python benchmarks/stream_memory.py [--json] [--quick] [--figure FILE]
"""

import multiprocessing
import os
import sys
import time
from pathlib import Path

import _measure
import _recurrent
import numpy as np
from _measure import RESULTS, ready

NEURONS, INPUTS, BATCH = 32, 16, 1
CHUNK, CHUNKS = 10_000, 100
RATE = 1e-4  # of learning
SETTLED = 0.1  # the fraction of the stream after which memory must not grow
RULES = {"RFLO": "tanh", "e-prop": "LIF", "UORO": "tanh"}
COLOURS = {"RFLO": "#0072B2", "e-prop": "#D55E00", "UORO": "#009E73"}


def resident() -> float:
    """Memory that this process holds now [MiB]; where that is unknown, the most it has held."""
    try:
        import psutil

        return psutil.Process().memory_info().rss / 2**20
    except ImportError:
        pass
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes or kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def stream(name: str, chunk: int, chunks: int) -> dict:
    """Learns from a stream and returns seconds and resident MiB of each chunk, the first with compilation."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    import retrograde as rg

    rule = {"RFLO": rg.rules.RFLO, "e-prop": rg.rules.EProp, "UORO": rg.rules.UORO}[name]()
    is_spiking = RULES[name] == "LIF"
    *weights, _, _ = _recurrent.case(NEURONS, 1, BATCH, spiking=is_spiking, inputs=INPUTS)
    network = rule.prepare(_recurrent.network(RULES[name], *weights), key=jr.key(0))

    @eqx.filter_jit(donate="all")
    def run(network, stream, key):
        arrays, rest = eqx.partition(network, eqx.is_array)

        def advance(carry, key):
            arrays, stream = carry
            network = eqx.combine(arrays, rest)
            x = jr.bernoulli(key, 0.2, (BATCH, INPUTS)).astype(jnp.float32)
            stream, y = rule.step(network, stream, x)
            error = y - x[:, :1]  # reproduce the first channel
            stream, gradient = rule.gradient(network, stream, error)
            network = eqx.apply_updates(network, jax.tree.map(lambda g: -RATE * g, gradient))
            return (eqx.filter(network, eqx.is_array), stream), 0.5 * jnp.mean(error**2)

        (arrays, stream), losses = jax.lax.scan(advance, (arrays, stream), jr.split(key, chunk))
        return eqx.combine(arrays, rest), stream, jnp.mean(losses)

    now = jax.tree.map(lambda a: jnp.array(a) if eqx.is_array(a) else a, rule.start(network, BATCH, key=jr.key(1)))
    seconds, held, losses = [], [], []
    for number in range(chunks):
        start = time.perf_counter()
        network, now, loss = ready(run(network, now, jr.fold_in(jr.key(2), number)))
        seconds.append(time.perf_counter() - start)
        held.append(resident())
        losses.append(float(loss))
    if not np.isfinite(losses).all():
        raise SystemExit(f"{name}: the loss is not finite: memory of nothing")
    return {"seconds": seconds, "held": held, "losses": losses}


def draw(curves: dict[str, dict], chunk: int, file: Path):
    """Draws resident memory against steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for name, curve in curves.items():
        steps = chunk * np.arange(1, len(curve["held"]) + 1)
        ax.plot(steps, curve["held"], color=COLOURS[name], label=f"{name}, {RULES[name]}")
    top = 1.15 * max(max(curve["held"]) for curve in curves.values())
    ax.set(xlabel="steps", ylabel="resident memory (MiB)", xlim=(0, None), ylim=(0, top))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    ax.legend(fontsize="small", frameon=False, loc="lower right")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main():
    options = _measure.arguments(
        __doc__, figure={"type": Path, "default": RESULTS / "stream_memory.svg", "help": "PNG or SVG"}
    )
    where = _measure.setting("psutil")
    chunk, chunks = (200, 20) if options.quick else (CHUNK, CHUNKS)
    rows, curves = [], {}
    for name, kind in RULES.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process of its own
            curves[name] = curve = pool.apply(stream, (name, chunk, chunks))
        settled = curve["held"][int(SETTLED * chunks) :]
        rows.append(
            {
                "rule": name,
                "neurons": kind,
                "steps": chunk * chunks,
                "MiB at first": curve["held"][0],
                f"MiB after {SETTLED:.0%}": settled[0],
                "MiB at last": settled[-1],
                "MiB gained since": settled[-1] - settled[0],
                "µs per step": float(np.median(curve["seconds"][1:])) / chunk * 1e6,
                "mean loss, first": curve["losses"][0],
                "last": curve["losses"][-1],
            }
        )
    draw(curves, chunk, options.figure)
    most = max(rows, key=lambda row: row["MiB gained since"])
    notes = [
        f"{NEURONS} neurons, {INPUTS} inputs, {_recurrent.OUTPUTS} outputs, batch {BATCH}, float32; each step updates "
        f"all weights by gradient descent. Memory after each of {chunks} calls of {chunk:,} steps, in a process for "
        "each rule; with Python, JAX and compiler it is some hundreds of MiB before the first step.",
        f"Most gained between the first {SETTLED:.0%} of the steps and the last: {most['MiB gained since']:.2g} MiB "
        f"({most['rule']}). Time per step: median over the calls after the first, which compiles.",
        "Limits: the overhead of each of a step's many small operations.",
        f"Figure: {options.figure.name}.",
    ]
    _measure.report("stream_memory", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
