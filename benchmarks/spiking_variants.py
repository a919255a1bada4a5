"""What makes BPTT of a recurrent LIF network faster: one change at a time, to the library's run and to a loop by hand.

The equations and sizes are those of `spiking_bptt.py`. Each variant runs in a process of its own, with all threads.

    python benchmarks/spiking_variants.py [--json] [--repeats N] [--quick]
"""

import os

import _measure
import _recurrent
from _measure import Contender
from _recurrent import DECAY, answer, half_mean_square

NEURONS, STEPS, BATCH = 256, 200, 64
TOLERANCE = 1e-2  # as in spiking_bptt.py
LIBRARY, LOOP = "retrograde", "loop by hand"
FAST_MATH = "--xla_cpu_enable_fast_math=true"
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


def split_over(devices: int, loss, weights, x, target):
    """`jax.value_and_grad` of a mean over trials, ready to be called; each device has its share of the trials."""
    import jax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    gradient = jax.value_and_grad(loss)
    if devices == 1:
        run = jax.jit(gradient)
        return lambda: jax.block_until_ready(run(weights, x, target))
    mesh, trials = jax.make_mesh((devices,), ("trial",)), P(None, "trial")

    def share(weights, x, target):
        return jax.tree.map(lambda value: jax.lax.pmean(value, "trial"), gradient(weights, x, target))

    run = jax.jit(jax.shard_map(share, mesh=mesh, in_specs=(P(), trials, trials), out_specs=P(), check_vma=False))
    weights = jax.device_put(weights, NamedSharding(mesh, P()))
    x, target = jax.device_put((x, target), NamedSharding(mesh, trials))
    return lambda: jax.block_until_ready(run(weights, x, target))


def prepare(flags: str, devices: int):
    """Settings that XLA reads when it starts."""
    count = f"--xla_force_host_platform_device_count={devices}" if devices > 1 else ""
    os.environ["XLA_FLAGS"] = f"{flags} {count}".strip()


def library(neurons: int, steps: int, batch: int, flags: str = "", devices: int = 1):
    """The library's BPTT."""
    prepare(flags, devices)
    import equinox as eqx
    import jax.numpy as jnp

    import retrograde as rg

    *weights, x, target = _recurrent.case(neurons, steps, batch)
    x, target = jnp.asarray(x), jnp.asarray(target)
    params, rest = eqx.partition(_recurrent.network("LIF", *weights), eqx.is_inexact_array)

    def loss(params, x, target):
        return half_mean_square(eqx.combine(params, rest)(x, rule=rg.rules.BPTT()).outputs, target)

    run = split_over(devices, loss, params, x, target)

    def work():
        loss, gradient = run()
        return lambda: answer(loss, *_recurrent.weights_of(gradient))

    return work


def loop(
    neurons: int,
    steps: int,
    batch: int,
    flags: str = "",
    devices: int = 1,
    unroll: int = 1,
    surrogate: str = "triangle",
    neurons_first: bool = False,
    one_product: bool = False,
):
    """`jax.grad` of a `lax.scan` by hand; `neurons_first`: states as `neuron batch`; `one_product`: of [x, z]."""
    prepare(flags, devices)
    import jax
    import jax.numpy as jnp

    *weights, x, target = map(jnp.asarray, _recurrent.case(neurons, steps, batch))

    spike = _recurrent.spike(surrogate)

    def loss(weights, x, target):
        w_in, w_rec, w_out = weights
        both = jnp.concatenate([w_in, w_rec], 1)

        def current(x, z):
            if neurons_first:
                return w_in @ x.T + w_rec @ z
            return jnp.concatenate([x, z], 1) @ both.T if one_product else x @ w_in.T + z @ w_rec.T

        def step(state, x):
            v, z = state
            v = DECAY * v + current(x, z) - jax.lax.stop_gradient(z)
            z = spike(v - 1)
            return (v, z), z

        rest = jnp.zeros((neurons, x.shape[1]) if neurons_first else (x.shape[1], neurons))
        z = jax.lax.scan(step, (rest, rest), x, unroll=unroll)[1]
        return half_mean_square(jnp.einsum("tnb,kn->tbk", z, w_out) if neurons_first else z @ w_out.T, target)

    run = split_over(devices, loss, weights, x, target)

    def work():
        loss, gradient = run()
        return lambda: answer(loss, *gradient)

    return work


CHANGES = {
    LIBRARY: (library, {}),
    f"{LIBRARY}, batch split over 2 devices": (library, {"devices": 2}),
    f"{LIBRARY}, fast math": (library, {"flags": FAST_MATH}),
    f"{LIBRARY}, products on one thread": (library, {"flags": ONE_THREAD}),
    LOOP: (loop, {}),
    f"{LOOP}, batch split over 2 devices": (loop, {"devices": 2}),
    f"{LOOP}, scan unrolled twice": (loop, {"unroll": 2}),
    f"{LOOP}, scan unrolled four times": (loop, {"unroll": 4}),
    f"{LOOP}, states as neurons × batch": (loop, {"neurons_first": True}),
    f"{LOOP}, one product of input and spikes": (loop, {"one_product": True}),
    f"{LOOP}, rectangle for the surrogate": (loop, {"surrogate": "rectangle"}),
    f"{LOOP}, fast math": (loop, {"flags": FAST_MATH}),
}


def keyword(make, size, options):
    """Calls `make` by keywords, in the process of its own."""
    return make(*size, **options)


def main():
    options = _measure.arguments(__doc__)
    where = _measure.setting()
    size = (64, 50, 16) if options.quick else (NEURONS, STEPS, BATCH)
    repeats = options.repeats or (5 if options.quick else 15)
    contenders = {name: Contender(keyword, (make, size, given)) for name, (make, given) in CHANGES.items()}
    timings = _measure.race(contenders, repeats=repeats, warm=3)
    same = [name for name in contenders if "rectangle" not in name]
    off = _recurrent.check_agreement({n: timings[n] for n in same}, same, LOOP, TOLERANCE)
    rows = [
        {
            "variant": name,
            "median ms": timing.median * 1e3,
            "fastest ms": min(timing.seconds) * 1e3,
            "times as it is": timings[LIBRARY if name.startswith(LIBRARY) else LOOP].median / timing.median,
            "peak MB": timing.memory_mb,
            "repeats": repeats,
        }
        for name, timing in timings.items()
    ]
    neurons, steps, batch = size
    notes = [
        f"{_recurrent.INPUTS} inputs, {neurons} neurons, {steps} steps, batch {batch}, float32; input product inside "
        f"the loop by hand. Gradients differ by at most {off:.1g} of their norms, but for the other surrogate's.",
        "`times as it is`: how many times as fast as the library, or as the loop by hand, without the change.",
        "Tried before, in the library itself: a backward loop transposed by hand, which keeps states and currents and "
        "makes the neurons' derivatives anew. It takes less memory, and is what runs; in time it gave nothing.",
        "Limits: a step's product is too small for two threads, so what helps is two halves of the batch at once.",
    ]
    _measure.report("spiking_variants", rows, where=where, notes=notes, as_json=options.json)


if __name__ == "__main__":
    main()
