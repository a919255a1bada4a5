"""A short check that an installation works: the mathematics, the data, the folders, and learning itself."""

import dataclasses
import importlib.metadata
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("retrograde", "jax", "equinox", "optax", "orbax-checkpoint", "numpy")


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: What.
        ok: Whether it is as it should be.
        detail: What was found.
        seconds: How long it took [s].
    """

    name: str
    ok: bool
    detail: str
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Gives the check as a table of plain values."""
        return dataclasses.asdict(self) | {"seconds": round(self.seconds, 3)}


def check_installation() -> list[Check]:
    """Checks this installation, in about half a minute.

    Returns:
        What was checked; nothing is raised.
    """
    return [
        _check("versions", _versions),
        _check("devices", _devices),
        _check("gradient, float64", lambda: _gradient("float64", 1e-6)),
        _check("gradient, float32", lambda: _gradient("float32", 2e-2)),
        _check("shipped digits", _digits),
        _check("cache folder", _cache),
        _check("20 updates learn", _learning),
    ]


def _check(name: str, find_out: Callable[[], str]) -> Check:
    started = time.perf_counter()
    try:
        detail, ok = find_out(), True
    except Exception as error:  # whatever is broken, the other checks go on
        detail, ok = f"{type(error).__name__}: {error}", False
    return Check(name, ok, detail, time.perf_counter() - started)


def _versions() -> str:
    versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES]
    return ", ".join([f"Python {platform.python_version()}", *versions])


def _devices() -> str:
    import jax

    return ", ".join(f"{device.platform} ({device.device_kind})" for device in jax.devices())


def _gradient(dtype: str, tolerance: float) -> str:
    """Compares BPTT through a tiny ensemble with central finite differences along a random direction."""
    import equinox as eqx
    import jax

    from retrograde.network import Network, Projection
    from retrograde.neurons import LeakyRate, Linear
    from retrograde.rules import BPTT
    from retrograde.synapses import SpikeAndSlab

    jnp, jr = jax.numpy, jax.random
    with jax.enable_x64(dtype == "float64"):
        keys = jr.split(jr.key(0), 8)

        def synapse(key, shape):
            m_key, pi_key, xi_key = jr.split(key, 3)
            return SpikeAndSlab(
                jr.normal(m_key, shape), jr.uniform(pi_key, shape, maxval=0.5), jr.uniform(xi_key, shape, maxval=0.2)
            )

        network = Network(
            {"hidden": LeakyRate(4, "tanh", alpha=0.5), "readout": Linear(2)},
            [
                Projection("input", "hidden", synapse(keys[0], (4, 3))),
                Projection("hidden", "hidden", synapse(keys[1], (4, 4)), delay=1),
                Projection("hidden", "readout", synapse(keys[2], (2, 4))),
            ],
            inputs=3,
            readout="readout",
        )
        inputs = jr.normal(keys[3], (5, 2, 3))
        trained, rest = eqx.partition(network, network.trainable())
        direction = jax.tree.map(lambda leaf: jr.normal(keys[4], leaf.shape), trained)

        @jax.jit
        def loss(step):
            moved = jax.tree.map(lambda leaf, slope: leaf + step * slope, trained, direction)
            outputs = eqx.combine(moved, rest)(inputs, rule=BPTT(), key=keys[5]).outputs
            return (outputs**2).sum()

        width = 1e-5 if dtype == "float64" else 1e-2
        exact = float(jax.jit(jax.grad(loss))(jnp.zeros(())))
        measured = float((loss(jnp.asarray(width)) - loss(jnp.asarray(-width))) / (2 * width))
    error = abs(exact - measured) / abs(exact)
    if not error <= tolerance:
        raise ArithmeticError(f"BPTT gives {exact:.6g}, finite differences {measured:.6g}")
    return f"BPTT = finite differences to {error:.0e}"


def _digits() -> str:
    from retrograde.data import load_digits

    digits = load_digits()
    return f"{len(digits.train_labels):,} + {len(digits.test_labels):,}, digest {digits.digest()[:12]}…"


def _cache() -> str:
    from retrograde.training import compile_cache

    folder = compile_cache()
    if folder is None:
        raise PermissionError("no cache can be written, so every start compiles anew; set XDG_CACHE_HOME to a folder")
    with tempfile.NamedTemporaryFile(dir=folder):
        pass
    return str(Path(folder))


def _learning() -> str:
    from retrograde import recipes

    overrides = ["training.steps=20", "training.log_every=5", "training.validate_every=0", "evaluation.samples=1"]
    overrides += ["neuron.size=32", "training.batch=64"]
    with tempfile.TemporaryDirectory() as folder:
        outcome = recipes.run(recipes.build(recipes.read("digits", overrides)), Path(folder) / "run")
        _, losses = outcome.result.history.measured("loss")
    first, last = float(losses[0, 0]), float(losses[0, -1])
    if not last < first:
        raise ArithmeticError(f"the loss did not fall: {first:.3f} to {last:.3f}")
    return f"loss {first:.2f} to {last:.2f}"
