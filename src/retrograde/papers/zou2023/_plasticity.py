"""What fluctuating synapses are good for: trained with one kind of noise, tested with others. The protocol is ours."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from retrograde import analysis, losses
from retrograde.network import Network
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.zou2023._common import RECURRENT
from retrograde.papers.zou2023._digits import rows, rows_recipe
from retrograde.rules import BPTT
from retrograde.synapses import Moments
from retrograde.training import Result
from retrograde.unroll import State, Trajectory

Kind = Literal["annealed", "shared", "quenched", "off"]


class FluctuatingBPTT(BPTT):
    r"""Back-propagation through time through other fluctuations than the mean field's.

    Attributes:
        kind: `"annealed"`, the mean field's own: fresh noise in each step; `"shared"`: one draw for each neuron and
            trial, the same in all steps; `"quenched"`: one draw $\mu + \sqrt V \eta$ of every weight, the same in all
            steps and trials; `"off"`: none.
        gain: By how much the standard deviation of the fluctuations is larger than the ensemble's [1].
    """

    kind: Kind = eqx.field(static=True, default="annealed")
    gain: float | Float[Array, ""] = 1.0

    def unroll(
        self,
        network: Network,
        moments: dict[str, Moments],
        state: State,
        inputs: Float[Array, "time batch input"],
        *,
        key: Key[Array, ""] | None,
        noise: dict[str, Float[Array, "time batch channel"]],
        **options: Any,
    ) -> Trajectory:
        """Runs the network with these fluctuations."""
        if key is None:
            raise ValueError("`FluctuatingBPTT` draws noise: pass `key=` to the network.")
        fluctuating = [name for name, moment in moments.items() if moment.variance is not None]
        if self.kind == "off":
            moments = {name: Moments(moment.mean) for name, moment in moments.items()}
        elif self.kind == "quenched":
            moments = dict(moments)
            for number, name in enumerate(fluctuating):
                mean, variance = moments[name].mean, self.gain**2 * jnp.asarray(moments[name].variance)
                # with value and slope 0 where nothing fluctuates
                spread = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
                moments[name] = Moments(mean + spread * jr.normal(jr.fold_in(key, number), mean.shape, mean.dtype))
        else:
            moments = {
                name: moment if moment.variance is None else Moments(moment.mean, self.gain**2 * moment.variance)
                for name, moment in moments.items()
            }
        if self.kind == "shared":
            time, batch, _ = inputs.shape
            targets = {network.projections[name].target for name in fluctuating}
            noise = dict(noise)
            for number, target in enumerate(sorted(targets)):
                one = jr.normal(jr.fold_in(key, number), (batch, network.populations[target].size), inputs.dtype)
                noise[target] = jnp.broadcast_to(one[None], (time, *one.shape))
        return super().unroll(network, moments, state, inputs, key=key, noise=noise, **options)


# What is done in training beside the paper's own: kind and gain.
TRAININGS: dict[str, tuple[Kind, float]] = {
    "half as much": ("annealed", 0.5),
    "twice as much": ("annealed", 2.0),
    "shared in time": ("shared", 1.0),
    "quenched": ("quenched", 1.0),
    "off": ("off", 1.0),
}
TESTS = ("off", "annealed", "quenched", "a quarter removed", "noisy input")
REMOVED, INPUT_NOISE = 0.25, 0.3


def trained(lab: Lab) -> dict[str, list[Result]]:
    """Ensembles trained with each kind of fluctuation, from the same weights on the same trials."""
    found = {"annealed": lab.once(rows)[0]}
    for name in lab.pick(smoke=("quenched", "off"), laptop=tuple(TRAININGS), paper=tuple(TRAININGS)):
        kind, gain = TRAININGS[name]
        rule = FluctuatingBPTT(kind=kind, gain=jnp.asarray(gain))  # an array, so that one program serves all gains
        runs = lab.train_recipe(f"rows-{name.replace(' ', '-')}", rows_recipe(lab), rule=rule)
        found[name] = [result for result, _ in runs]
    return found


@eqx.filter_jit
def _accuracy(network, trials, noise, key, weights):
    noise_key, input_key = jr.split(key)
    inputs = trials.inputs + noise * jr.normal(input_key, trials.inputs.shape, trials.inputs.dtype)
    return losses.accuracy(network(inputs, key=noise_key, weights=weights, readout_steps=1).outputs, trials)


def accuracies(results: Sequence[Result], lab: Lab) -> np.ndarray:
    """Accuracy of each seed in each of `TESTS`, mean over draws."""
    trials = results[0].task.take(jnp.arange(lab.pick(smoke=100, laptop=1000, paper=1000)), "test")
    draws = lab.pick(smoke=1, laptop=10, paper=20)
    found = np.zeros((len(results), len(TESTS), draws))
    for seed, network in enumerate(result.network for result in results):
        everything = np.ones(network.projections[RECURRENT].synapse.shape, bool)
        for draw in range(draws):
            key = jr.fold_in(lab.key(800 + seed), draw)
            gone = analysis.choose_connections(everything, round(REMOVED * everything.size), key)
            for place, (one, noise, weights) in enumerate(
                [
                    (network, 0.0, "mean"),
                    (network, 0.0, "mean-field"),
                    (network, 0.0, "quenched"),
                    (analysis.remove_connections(network, RECURRENT, gone), 0.0, "mean"),
                    (network, INPUT_NOISE, "mean"),
                ]
            ):
                found[seed, place, draw] = _accuracy(one, trials, jnp.asarray(noise), key, weights)
    return found.mean(axis=-1)


def measure_plasticity(lab: Lab) -> Finding:
    """Every training by every test."""
    table = {name: accuracies(results, lab) for name, results in lab.once(trained).items()}

    def gain(test: str, one: str, other: str) -> np.ndarray:
        place = TESTS.index(test)
        return table[one][:, place] - table[other][:, place]

    return Finding(
        {
            "withstands": gain("annealed", "annealed", "off"),
            "costs": gain("off", "annealed", "off"),
            "fixed": gain("quenched", "quenched", "annealed"),
            "removal": gain("a quarter removed", "annealed", "off"),
        },
        {"accuracy": np.stack(list(table.values())), "training": np.array(list(table))},
    )


def draw_plasticity(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """A table of accuracies, trainings by tests, in colours."""
    ax, accuracy = figure.subplots(), 100 * arrays["accuracy"]
    mean, sd = accuracy.mean(axis=1), accuracy.std(axis=1)
    image = ax.imshow(mean, cmap="cividis", aspect="auto")
    middle = 0.5 * (mean.min() + mean.max())
    for row in range(mean.shape[0]):
        for column in range(mean.shape[1]):
            words = f"{mean[row, column]:.1f} ± {sd[row, column]:.1f}"
            ink = "black" if mean[row, column] > middle else "white"
            ax.text(column, row, words, ha="center", va="center", fontsize=7, color=ink)
    ax.set_xticks(range(len(TESTS)), TESTS, fontsize=8)
    ax.set_yticks(range(len(mean)), arrays["training"].tolist(), fontsize=8)
    ax.set(xlabel="fluctuations in the test", ylabel="in training")
    figure.colorbar(image, label="test accuracy (%)")
