"""Sixteen seeds at once against one: what error bars cost.

One ensemble update (digits by rows, 28 steps) of one network, and of sixteen networks with their own weights and noise:
one after the other by `lax.map`, as `rg.fit(..., seeds=16)` does it on a CPU, and by `vmap`. A smaller network shows
how the answer depends on the size: `vmap` saves what a step costs besides its arithmetic.

    python benchmarks/seeds.py [--json] [--repeats N] [--quick]
"""

import _ensemble
import _measure
from _measure import Contender, ready

SEEDS, STEPS, INPUTS = 16, 28, 28
SIZES = ((16, 16), (32, 32), (100, 128))  # (neurons, batch)


def make(neurons: int, batch: int, how: str):
    """One update of one network (`how="one"`), or of all."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import retrograde as rg

    given = _ensemble.case(STEPS, INPUTS, neurons=neurons, batch=batch)
    trials = _ensemble.library_trials(given)
    step, (params, optimiser_state, key) = _ensemble.library_step(
        _ensemble.library_network(given), rg.rules.BPTT(), trials
    )
    state = (params, optimiser_state)
    if how != "one":
        state = jax.tree.map(lambda a: jnp.tile(a[None], (SEEDS,) + (1,) * a.ndim) if eqx.is_array(a) else a, state)
        key = jax.random.split(key, SEEDS)
    many = {
        "one": lambda *a: step(*a),
        "vmap": lambda *a: jax.vmap(step)(*a),
        "map": lambda *a: jax.lax.map(lambda one: step(*one), a),
    }
    update = jax.jit(many[how], donate_argnums=(0, 1, 2))
    state = (*state, key)

    def work():
        nonlocal state
        *state, loss = ready(update(*state))
        return {"loss": float(jnp.mean(loss))}

    return work


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting()
    rows = []
    for size in SIZES[:1] if options.quick else SIZES:
        repeats = options.repeats or (5 if options.quick else 15)
        timings = _measure.race({how: Contender(make, (*size, how)) for how in ("one", "vmap", "map")}, repeats=repeats)
        one, vmap, mapped = (timings[how].median for how in ("one", "vmap", "map"))
        rows.append(
            {
                "neurons": size[0],
                "batch": size[1],
                "one seed ms": one * 1e3,
                f"{SEEDS} by vmap ms": vmap * 1e3,
                f"{SEEDS} by lax.map ms": mapped * 1e3,
                "vmap / one": vmap / one,
                "lax.map / one": mapped / one,
                "repeats": repeats,
            }
        )
    notes = [
        f"{STEPS} steps, {INPUTS} inputs, {_ensemble.CLASSES} classes; noise, gradient, clip, Adam, projection.",
        "Limits: where one seed already keeps the processor busy, sixteen cost sixteen times as much, shared by the "
        "cores; arrays of all seeds no longer fit into its cache.",
    ]
    _measure.report("seeds", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
