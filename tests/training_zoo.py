"""A tiny problem to train on; as a program, one run of it in a folder, to be killed and resumed."""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

import retrograde as rg
from retrograde import training
from retrograde.tasks import AbstractTask, Trials

TRIALS, TIME, INPUTS, CLASSES, NEURONS = 40, 3, 2, 2, 4


class Sign(AbstractTask):
    """Is the sum of the inputs positive? A finite set of trials, the same in both splits."""

    data: Float[Array, "trial time input"]
    labels: Int[Array, " trial"]
    inputs: int = eqx.field(static=True, default=INPUTS)
    outputs: int = eqx.field(static=True, default=CLASSES)
    steps: int = eqx.field(static=True, default=TIME)
    target_steps: int = eqx.field(static=True, default=1)
    loss: str = eqx.field(static=True, default="cross_entropy")
    splits: tuple[str, ...] = eqx.field(static=True, default=("train", "test"))

    def size(self, split: str = "train") -> int | None:
        return self.labels.size

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        targets = self.labels[index][None]
        return Trials(jnp.moveaxis(self.data[index], 1, 0), targets, jnp.ones(targets.shape, self.data.dtype))


def sign_task(trials: int = TRIALS) -> Sign:
    data = jr.normal(jr.key(100), (trials, TIME, INPUTS))
    return Sign(data, (data.sum((1, 2)) > 0).astype(jnp.int32))


def ensemble(key) -> rg.Network:
    """Spike-and-slab weights: its passes are noisy."""

    def synapse(key, *shape):
        m_key, xi_key = jr.split(key)
        return rg.synapses.SpikeAndSlab(jr.normal(m_key, shape) / 2, jnp.zeros(shape), 0.1 * jr.uniform(xi_key, shape))

    return _network(synapse, key)


def plain(key) -> rg.Network:
    """Plain weights: no noise anywhere."""
    return _network(lambda key, *shape: rg.synapses.Dense(jr.normal(key, shape) / 2), key)


def _network(synapse, key) -> rg.Network:
    keys = jr.split(key, 3)
    return rg.Network(
        {"hidden": rg.neurons.LeakyRate(NEURONS, "tanh", alpha=0.5), "readout": rg.neurons.Linear(CLASSES)},
        [
            rg.Projection("input", "hidden", synapse(keys[0], NEURONS, INPUTS)),
            rg.Projection("hidden", "hidden", synapse(keys[1], NEURONS, NEURONS), delay=1),
            rg.Projection("hidden", "readout", synapse(keys[2], CLASSES, NEURONS)),
        ],
        inputs=INPUTS,
        readout="readout",
    )


# Made once: a program compiled for one test then serves the others.
TASK = sign_task()
ENSEMBLE = ensemble(jr.key(1))
PLAIN = plain(jr.key(1))
ADAM = training.optimiser(ENSEMBLE, learning_rate=0.01, groups={"*.pi": {"learning_rate": 0.05}})
SGD = training.optimiser(PLAIN, "sgd", 0.1, decay=0.01)


def fit(network=ENSEMBLE, task=TASK, **options) -> training.Result:
    defaults = {"rule": rg.rules.BPTT(), "optimiser": ADAM, "steps": 20, "key": jr.key(2), "batch": 8}
    return rg.fit(network, task, **(defaults | options))


def arrays(tree) -> list:
    """All arrays of a network or result, as NumPy."""
    return jax.device_get(jax.tree.leaves(eqx.filter(tree, eqx.is_array)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--cache", required=True)
    options = parser.parse_args()
    training.compile_cache(options.cache)
    fit(
        steps=options.steps,
        folder=options.folder,
        resume=True,
        log_every=7,
        validate_every=30,
        checkpoint_every=20,
    )


if __name__ == "__main__":
    main()
