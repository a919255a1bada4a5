"""One update of a spike-and-slab ensemble (noise, gradient, clip, Adam, projection) against NumPy.

The peer is the tests' reference: the hand-written equations vectorised over the batch with a Python loop over time,
float64, at the best of one and all threads. For orientation: `jax.grad` of a plain `lax.scan`, float32 like ours.

    python benchmarks/ensemble_update.py [--json] [--repeats N] [--quick]
"""

import _ensemble
import _measure

SIZES = ((784, 1), (28, 28))  # (steps, inputs): digits by pixels and by rows
OURS, CHECKPOINTED, SCAN, NUMPY = "retrograde", "retrograde checkpointed", "lax.scan", "numpy"


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting()
    rows, ratios = [], []
    for time, inputs in SIZES[1:] if options.quick else SIZES:
        repeats = options.repeats or (5 if options.quick else 9 if time > 100 else 31)
        size = (time, inputs)
        timings = _measure.race(
            _measure.on_threads(NUMPY, _ensemble.numpy_update, size)
            | _measure.on_threads(OURS, _ensemble.library_update, size)
            | {
                CHECKPOINTED: _measure.Contender(_ensemble.library_update, (*size, True)),
                SCAN: _measure.Contender(_ensemble.scan_update, size),
            },
            repeats=repeats,
        )
        peer, peer_seconds = _measure.best(timings, NUMPY)
        for name, timing in timings.items():
            rows.append(
                {
                    "steps": time,
                    "inputs": inputs,
                    "contender": name,
                    "median ms": timing.median * 1e3,
                    "fastest ms": min(timing.seconds) * 1e3,
                    "times NumPy's best": peer_seconds / timing.median,
                    "peak MB": timing.memory_mb,
                    "repeats": repeats,
                }
            )
        name, seconds = _measure.best(timings, OURS)
        ratios.append(f"T = {time}: {peer_seconds / seconds:.1f} times as fast as NumPy ({name}; {peer}).")
    notes = [
        *ratios,
        f"Batch {_ensemble.BATCH}, {_ensemble.NEURONS} neurons, {_ensemble.CLASSES} classes; six products of "
        "(batch × neurons) by (neurons × neurons) per step.",
        "Limits: see profile_update.py. The products of a loop's step are too small for a second thread.",
    ]
    _measure.report("ensemble_update", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
