"""How the time of one gradient of an ensemble, noise included, grows with time steps, neurons and batch.

One size varies, the others stay; exponents by least squares on logarithms, over all sizes and over the upper half of
them (where overhead matters less). Draws a figure.

    python benchmarks/scaling.py [--json] [--repeats N] [--quick] [--figure FILE]
"""

import _ensemble
import _measure
import numpy as np
from _measure import RESULTS, Contender, ready

FIXED = {"steps": 56, "neurons": 100, "batch": 128}
VARIED = {
    "steps": (14, 28, 56, 112, 224, 448, 784),
    "neurons": (25, 50, 100, 200, 400, 800),
    "batch": (8, 16, 32, 64, 128, 256, 512),
}
EXPECTED = {"steps": 1, "neurons": 2, "batch": 1}  # exponents of the arithmetic
INPUTS = 28


def make(steps: int, neurons: int, batch: int):
    """Loss and gradient by the library."""
    import equinox as eqx
    import jax

    import retrograde as rg

    given = _ensemble.case(steps, INPUTS, neurons=neurons, batch=batch)
    network, key = _ensemble.library_network(given), jax.random.key(1)
    loss = _ensemble.library_loss(rg.rules.BPTT(), _ensemble.library_trials(given))
    run = eqx.filter_jit(eqx.filter_value_and_grad(loss))
    return lambda: {"loss": float(ready(run(network, key))[0])}


def exponent(sizes, seconds) -> float:
    """Slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def draw(curves, file):
    """Draws time against each size, log-log, with the fitted line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(9, 3), sharey=True, layout="constrained")
    names = {"steps": "time steps", "neurons": "neurons", "batch": "batch (trials)"}
    for ax, (varied, (sizes, seconds, low)) in zip(axes, curves.items(), strict=True):
        sizes, milliseconds = np.array(sizes), np.array(seconds) * 1e3
        slope, offset = np.polyfit(np.log(sizes), np.log(milliseconds), 1)
        ax.fill_between(sizes, np.array(low) * 1e3, milliseconds, color="#0072B2", alpha=0.2, lw=0)
        ax.loglog(sizes, milliseconds, "o", color="#0072B2", label="median (shade: down to the fastest)")
        ax.loglog(sizes, np.exp(offset) * sizes**slope, color="#000000", lw=1, label=f"fit, exponent {slope:.2f}")
        ax.set(xlabel=names[varied])
        ax.set_xticks(sizes, [str(size) for size in sizes], fontsize="small")
        ax.minorticks_off()
        others = ", ".join(
            f"{value} {names[key].split(' (')[0]}" for key, value in FIXED.items() if key != varied
        ).replace(" batch", " trials")
        ax.set_title(others, fontsize="small")
        ax.legend(fontsize="x-small", frameon=False)
    axes[0].set(ylabel="time of one gradient (ms)")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main():
    from pathlib import Path

    options = _measure.arguments(
        __doc__, figure={"type": Path, "default": RESULTS / "scaling.svg", "help": "PNG or SVG"}
    )
    where = _measure.setting()
    repeats = options.repeats or (3 if options.quick else 9)
    rows, notes, curves = [], [], {}
    for varied, sizes in VARIED.items():
        sizes = sizes[1:4] if options.quick else sizes
        contenders = {str(size): Contender(make, tuple((FIXED | {varied: size}).values())) for size in sizes}
        timings = _measure.race(contenders, repeats=repeats)
        seconds = [timings[str(size)].median for size in sizes]
        fastest = [min(timings[str(size)].seconds) for size in sizes]
        curves[varied] = (sizes, seconds, fastest)
        half = len(sizes) // 2
        rows.append(
            {
                "varied": varied,
                "from": sizes[0],
                "to": sizes[-1],
                "from ms": seconds[0] * 1e3,
                "to ms": seconds[-1] * 1e3,
                "exponent": exponent(sizes, seconds),
                "of the upper half": exponent(sizes[half:], seconds[half:]),
                "arithmetic": EXPECTED[varied],
                "repeats": repeats,
            }
        )
        notes.append(f"{varied}: " + ", ".join(f"{n} → {s * 1e3:.3g} ms" for n, s in zip(sizes, seconds, strict=True)))
    draw(curves, options.figure)
    fixed = ", ".join(f"{key} {value}" for key, value in FIXED.items())
    notes += [
        f"Otherwise {fixed}, {INPUTS} inputs. The arithmetic grows with neurons × (2·inputs + 3·2·neurons).",
        "Limits: overhead of a step at small sizes, products of matrices at large ones.",
        f"Figure: {options.figure.name}.",
    ]
    _measure.report("scaling", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
