"""Where the time of one ensemble update goes, by leaving parts out.

| part | measured as |
| --- | --- |
| noise | the generator alone, segment by segment |
| input product | the loss at all inputs less at one input |
| forward loop | the loss with given noise, at one input |
| backward loop | the gradient with respect to the initial state, hidden projections frozen, less the loss |
| weight products | the gradient less that |
| optimiser | the whole update less the gradient: clip, Adam, projection |

Parts overlap and share the cache, so that the sum need not be the whole.

    python benchmarks/profile_update.py [--json] [--repeats N] [--quick]
"""

import _ensemble
import _measure
from _measure import Contender, ready

SIZES = ((784, 1), (28, 28))
HIDDEN = ("input", "recurrent")


def make(time: int, inputs: int, part: str):
    """The update, or a part of it."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import retrograde as rg
    from retrograde.noise import normal
    from retrograde.unroll import segment_length

    if part == "update":
        return _ensemble.library_update(time, inputs)
    given = _ensemble.case(time, inputs)
    key = jax.random.key(1)
    shape = (time, _ensemble.BATCH, _ensemble.NEURONS)
    if part == "noise":
        length = segment_length(time, shape[1] * shape[2])

        @jax.jit
        def draw(key):
            def segment(total, start):
                # the sum of products keeps the compiler from drawing less than all
                return total + jnp.vdot(drawn := normal(key, start, (length, *shape[1:])), drawn), None

            return jax.lax.scan(segment, 0.0, jnp.arange(0, time, length))[0]

        return lambda: {"sum": float(ready(draw(key)))}
    if part == "loss at one input":
        given["inputs"] = given["inputs"][..., :1]
        given["layers"]["input"] = tuple(a if a is None else a[:, :1] for a in given["layers"]["input"])
    network = _ensemble.library_network(given, frozen=HIDDEN if part == "adjoint" else ())
    loss = _ensemble.library_loss(rg.rules.BPTT(), _ensemble.library_trials(given))
    if part == "gradient":
        run = eqx.filter_jit(eqx.filter_value_and_grad(loss))
        return lambda: {"loss": float(ready(run(network, key))[0])}
    if part == "adjoint":
        state = network.initial_state(shape[1], jnp.float32)

        @eqx.filter_jit
        @eqx.filter_value_and_grad
        def run(state):
            return loss(network, key, state=state)

        return lambda: {"loss": float(ready(run(state))[0])}
    noise = None
    if part != "loss":
        noise = {"hidden": normal(key, 0, shape), "readout": normal(key, 0, (time, shape[1], _ensemble.CLASSES))}
    run = eqx.filter_jit(lambda network, key, noise: loss(network, key, noise=noise))
    return lambda: {"loss": float(ready(run(network, key, noise)))}


PARTS = ("update", "gradient", "adjoint", "loss", "loss, noise given", "loss at one input", "noise")


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting()
    rows, notes = [], []
    for time, inputs in SIZES[1:] if options.quick else SIZES:
        repeats = options.repeats or (5 if options.quick else 9 if time > 100 else 31)
        timings = _measure.race({part: Contender(make, (time, inputs, part)) for part in PARTS}, repeats=repeats)
        ms = {part: timing.median * 1e3 for part, timing in timings.items()}
        parts = {
            "noise": ms["noise"],
            "input product": ms["loss, noise given"] - ms["loss at one input"] if inputs > 1 else None,
            "forward loop": ms["loss at one input"],
            "backward loop": ms["adjoint"] - ms["loss"],
            "weight products": ms["gradient"] - ms["adjoint"],
            "optimiser": ms["update"] - ms["gradient"],
            "whole update": ms["update"],
        }
        rows += [
            {"steps": time, "inputs": inputs, "part": part, "ms": value, "share %": _share(value, ms["update"])}
            for part, value in parts.items()
        ]
        notes.append(f"T = {time}, medians of {repeats}: " + ", ".join(f"{k} {v:.3g} ms" for k, v in ms.items()))
    notes += [
        f"Batch {_ensemble.BATCH}, {_ensemble.NEURONS} neurons, {_ensemble.CLASSES} classes. Differences of medians: "
        "read a few per cent, either sign, as nothing.",
        "`adjoint` is the gradient with respect to the initial state, hidden projections frozen: no weight products.",
    ]
    _measure.report("profile_update", rows, where=where, notes=notes, as_json=options.json)


def _share(value, whole):
    return None if value is None else round(100 * value / whole)


if __name__ == "__main__":
    main()
