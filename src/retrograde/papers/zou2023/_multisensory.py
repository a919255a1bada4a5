"""Multisensory integration: an ensemble of 150 neurons, its choices, its connections, and its units."""

# mypy: disable-error-code="call-arg"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from retrograde import analysis
from retrograde.network import Network, Projection
from retrograde.neurons import LeakyRate, Linear
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.zou2023._common import RECURRENT, selectivity, slab
from retrograde.plots import (
    MARKERS,
    colour,
    plot_curves,
    plot_distribution,
    plot_psychometric,
    plot_removal,
    plot_trajectories,
    plot_variance,
)
from retrograde.rules import BPTT
from retrograde.synapses import Dense, Masked, SpikeAndSlab
from retrograde.tasks import Multisensory, Trials
from retrograde.training import EarlyStop, optimiser

NEURONS, NOISE = 150, 0.15
LOSS, FIRST, LAST = 0.0020, 100, 500  # stop rule: loss to reach, not before, and not after
DECAY = 1e-3
SENSES = ("visual", "auditory", "both")


def ensemble(key: Key[Array, ""], task: Multisensory | None = None) -> Network:
    """Makes the network: a third of its neurons hears, a third sees, and all get the cue."""
    task = Multisensory() if task is None else task
    in_key, rec_key, out_key, xi_rec, xi_out = jr.split(key, 5)
    reads, third = np.zeros((NEURONS, task.inputs), bool), NEURONS // 3
    reads[:third, [1, 3]] = True  # auditory
    reads[third : 2 * third, [0, 2]] = True  # visual
    reads[:, 4] = True  # cue

    def drawn(key, xi_key, post):
        shape = (post, NEURONS)
        return SpikeAndSlab(jr.normal(key, shape) * NEURONS**-0.5, jnp.zeros(shape), 0.01 * jr.uniform(xi_key, shape))

    weight = jr.normal(in_key, (NEURONS, task.inputs)) * task.inputs**-0.5
    return Network(
        {"hidden": LeakyRate(NEURONS, "relu", alpha=task.dt / task.tau, noise=NOISE), "readout": Linear(task.outputs)},
        [
            Projection("input", "hidden", Masked(Dense(jnp.where(reads, weight, 0)), jnp.asarray(reads))),
            Projection("hidden", "hidden", drawn(rec_key, xi_rec, NEURONS), delay=1),
            Projection("hidden", "readout", drawn(out_key, xi_out, task.outputs)),
        ],
        inputs=task.inputs,
        readout="readout",
    )


def half_error(outputs: Float[Array, "steps batch output"], trials: Trials) -> Float[Array, ""]:
    """Half the squared error under the mask, over the number of all steps and trials: as the paper's programs do."""
    return 0.5 * jnp.sum(trials.mask[..., None] * (outputs - trials.targets) ** 2) / trials.mask.size


def penalty(network: Network) -> Float[Array, ""]:
    """Has the gradient `DECAY` · θ, which the paper's programs add for every m and Ξ."""
    slabs = [slab(network, name) for name in (RECURRENT, "hidden->readout")]
    masked: Any = network.projections["input->hidden"].synapse
    everything = [masked.synapse.weight, *(synapse.m for synapse in slabs), *(synapse.xi for synapse in slabs)]
    return 0.5 * DECAY * jnp.stack([jnp.sum(array**2) for array in everything]).sum()


def entropies(network: Network) -> dict[str, Array]:
    """Mean entropies of the recurrent connections, those of a neuron with itself left out."""
    synapse = slab(network, RECURRENT)
    others = ~jnp.eye(NEURONS, dtype=bool)
    found = {
        "S_pi": synapse.discrete_entropy(),
        "S_xi": synapse.continuous_entropy(),
        "S": synapse.entropy(jr.key(0), 100),
    }
    return {name: jnp.mean(value, where=others) for name, value in found.items()}


def trained(lab: Lab) -> list[tuple[Any, dict[str, np.ndarray]]]:
    """The trained networks with their histories, and the entropies on the way; one for each seed."""
    last, task = lab.pick(smoke=30, laptop=LAST, paper=LAST), Multisensory()
    slow = {"halve_every": 100, "halve_first": 99}
    chosen = optimiser(
        ensemble(lab.key()),
        "rmsprop",
        1e-3,
        decay=0.0,  # the penalty does it, before the normalisation
        clip_spectral=None,
        groups={
            f"{RECURRENT}.pi": {"learning_rate": 1.0, **slow},
            "hidden->readout.pi": {"learning_rate": 0.1, **slow},
        },
    )
    return [
        lab.train(
            f"multisensory-{seed}",
            ensemble,
            task,
            watch=eqx.filter_jit(entropies),
            at=range(0, last + 1, 10),
            rule=BPTT(),
            optimiser=chosen,
            steps=last,
            key=lab.key(seed),
            batch=task.round,
            loss=half_error,
            regulariser=penalty,
            log_every=1,
            early_stop=EarlyStop("loss", threshold=LOSS, after=FIRST),
        )
        for seed in range(lab.seeds)
    ]


def testing(dt: float) -> Multisensory:
    """The task as it tests: a longer fixation, no catch trials, and an end with the decision."""
    return Multisensory(dt=dt, fixation=500.0, duration=1800.0, catch=0)


def at_step(network: Network, dt: float) -> Network:
    """The same network at another time step."""
    neuron = LeakyRate(NEURONS, "relu", alpha=dt / Multisensory().tau, noise=NOISE)
    return eqx.tree_at(lambda n: n.populations["hidden"], network, neuron)


@eqx.filter_jit
def _choices(network, task, keys, weights):
    def one(key):
        trial_key, noise_key = jr.split(key)
        trials = task.sample(trial_key, task.round, "test")
        run = network(trials.inputs, key=noise_key, weights=weights, readout_steps=1)
        return run.outputs[0, :, 0] > run.outputs[0, :, 1]

    return jax.lax.map(one, keys)


def high_choices(
    network: Network, task: Multisensory, key: Key[Array, ""], rounds: int, weights: str = "mean-field"
) -> np.ndarray:
    """Shares of trials in which the network says "high", `"round sense rate"`."""
    chosen = np.asarray(_choices(network, task, jr.split(key, rounds), weights), float)
    return chosen.reshape(rounds, len(SENSES), len(task.rates))


def accuracy(shares: np.ndarray, task: Multisensory) -> np.ndarray:
    """Share of right answers, over all rates: the last axis of `shares`."""
    return np.where(np.array(task.rates) > task.boundary, shares, 1 - shares).mean(axis=-1)


def tested(lab: Lab) -> dict[str, np.ndarray]:
    """Choices with the time step of training, for each way to run the ensemble: `"seed round sense rate"`."""
    rounds, task = lab.pick(smoke=4, laptop=50, paper=100), testing(20.0)
    return {
        weights: np.stack(
            [
                high_choices(result.network, task, lab.key(100 + seed), rounds, weights)
                for seed, (result, _) in enumerate(lab.once(trained))
            ]
        )
        for weights in ("mean-field", "annealed", "quenched")
    }


def measure_training(lab: Lab) -> Finding:
    """How long training takes."""
    results = [result for result, _ in lab.once(trained)]
    losses = np.full((lab.seeds, LAST), np.nan)
    for seed, result in enumerate(results):
        losses[seed, : result.step] = result.history.loss[0]
    return Finding(
        {
            "stopped": np.array([float(result.stopped_early) for result in results]),
            "iterations": np.array([float(result.step) for result in results]),
            "loss": np.array([result.history.loss[0, -1] for result in results]),
        },
        {"losses": losses},
    )


def draw_training(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Loss against iterations."""
    ax = figure.subplots()
    for seed, losses in enumerate(arrays["losses"]):
        ax.plot(np.arange(1, len(losses) + 1), losses, color=colour(seed), linewidth=1, label=f"seed {seed}")
    ax.axhline(LOSS, color="black", linestyle=":", linewidth=1)
    ax.annotate("stop", (1, LOSS), fontsize=8, va="bottom")
    ax.set(xlabel="iteration", ylabel="training loss", yscale="log")
    ax.legend(frameon=False, fontsize=8)


def measure_accuracy(lab: Lab) -> Finding:
    """Right answers, with the time step of training."""
    task, choices = testing(20.0), lab.once(tested)
    by_sense = {weights: accuracy(shares.mean(axis=1), task) for weights, shares in choices.items()}
    visual, auditory, both = by_sense["mean-field"].T
    shares = choices["mean-field"].mean(axis=1)
    wrong = np.where(np.array(task.rates) > task.boundary, 1 - shares, shares)
    near = np.isin(task.rates, (12.0, 13.0))
    return Finding(
        {
            "accuracy": by_sense["mean-field"].mean(axis=1),
            "gain": both - np.maximum(visual, auditory),
            "far_errors": wrong[..., ~near].mean(axis=(1, 2)),
            "annealed": by_sense["annealed"].mean(axis=1),
            "quenched": by_sense["quenched"].mean(axis=1),
        },
        by_sense,
    )


def draw_accuracy(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Accuracy by sense and by way to run the ensemble."""
    ax = figure.subplots()
    for number, (weights, found) in enumerate(arrays.items()):
        place = np.arange(len(SENSES)) + 0.2 * (number - 1)
        ax.errorbar(
            place, 100 * found.mean(0), 100 * found.std(0), fmt="os^"[number], color=colour(number), label=weights
        )
    ax.set_xticks(range(len(SENSES)), SENSES)
    top = 100 + 0.15 * (100 - ax.get_ylim()[0])  # room for the legend
    ax.set(ylabel="right answers (%)", xlabel="modality shown", ylim=(None, top))
    ax.legend(frameon=False, fontsize=8, loc="upper left", ncols=len(arrays))


def psychometric(lab: Lab) -> np.ndarray:
    """Choices at the paper's fine time step: shares of "high", `"seed sense rate"`."""
    dt, rounds = lab.pick(smoke=(20.0, 4), laptop=(0.5, 40), paper=(0.5, 100))
    found = [
        high_choices(at_step(result.network, dt), testing(dt), lab.key(200 + seed), rounds)
        for seed, (result, _) in enumerate(lab.once(trained))
    ]
    return np.mean(found, axis=1)


def measure_psychometric(lab: Lab) -> Finding:
    """How sharp the choices are."""
    shares, rates = lab.once(psychometric), np.array(testing(20.0).rates)
    fits = np.array([[analysis.fit_psychometric(rates, one) for one in by_sense] for by_sense in shares])
    spreads = fits[..., 1]
    best = np.array([analysis.combined_spread(*spread[:2]) for spread in spreads])
    at = {rate: np.flatnonzero(rates == rate)[0] for rate in (12.0, 13.0)}
    steps = np.diff(shares, axis=-1)
    return Finding(
        {
            "at_12": shares[:, :, at[12.0]].mean(axis=1),
            "at_13_alone": shares[:, :2, at[13.0]].mean(axis=1),
            "at_13_both": shares[:, 2, at[13.0]],
            "rising": (steps >= -0.05).all(axis=(1, 2)).astype(float),
            "ratio": spreads[:, 2] / spreads[:, :2].min(axis=1),
            "to_best": spreads[:, 2] / best,
        },
        {"rates": rates, "shares": shares, "fits": fits},
    )


def draw_psychometric(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Share of high choices against rate, by sense; and the fitted spreads."""
    left, right = figure.subplots(1, 2)
    rates, fits = arrays["rates"], arrays["fits"]
    shares = {name: arrays["shares"][:, sense] for sense, name in enumerate(SENSES)}
    curves = {name: analysis.fit_psychometric(rates, share.mean(axis=0)) for name, share in shares.items()}
    plot_psychometric(rates, shares, fits=curves, boundary=12.5, xlabel="rate (events/s)", ax=left)
    for sense in range(len(SENSES)):
        right.plot(np.full(len(fits), sense), fits[:, sense, 1], MARKERS[sense], color=colour(sense))
    best = [analysis.combined_spread(*fit[:2, 1]) for fit in fits]
    right.plot(np.full(len(best), 3), best, "kx")
    right.set_xticks(range(4), [*SENSES, "optimal"])
    right.set(ylabel="spread σ (events/s)", ylim=(0, None))


def measure_connections(lab: Lab) -> Finding:
    """How many recurrent connections are very important, and how π and Ξ are distributed."""
    synapses = [slab(result.network, RECURRENT) for result, _ in lab.once(trained)]
    return Finding(
        {
            "important": np.array([float(synapse.important().mean()) for synapse in synapses]),
            "certain": np.array([float(synapse.certain().mean()) for synapse in synapses]),
            "pi": np.array([float(synapse.pi.mean()) for synapse in synapses]),
        },
        {name: np.stack([np.asarray(getattr(synapse, name)) for synapse in synapses]) for name in ("m", "pi", "xi")},
    )


def draw_connections(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Histograms of m, π and Ξ."""
    labels = {"m": "mean m (current per rate)", "pi": "absence π", "xi": "variance Ξ (current² per rate²)"}
    for ax, (name, label) in zip(figure.subplots(1, 3), labels.items(), strict=True):
        plot_distribution({f"seed {seed}": one for seed, one in enumerate(arrays[name])}, xlabel=label, ax=ax)


def measure_removal(lab: Lab) -> Finding:
    """Accuracy as important, random and unimportant connections go."""
    task = testing(20.0)
    rounds, repeats = lab.pick(smoke=(2, 1), laptop=(10, 3), paper=(20, 10))
    fractions = lab.pick(smoke=(0.0, 1.0), laptop=np.linspace(0, 1, 11).tolist(), paper=np.linspace(0, 1, 11).tolist())
    curves = []
    for seed, (result, _) in enumerate(lab.once(trained)):
        synapse = slab(result.network, RECURRENT)
        important = np.asarray(synapse.important())
        if lab.scale == "smoke" and not important.any():  # after so few iterations: to see that it runs
            important = np.asarray(synapse.m) > np.quantile(synapse.m, 0.99)
        unimportant = np.asarray(synapse.pi) >= np.quantile(synapse.pi, 1 - important.mean())

        def score(network, key):
            return float(accuracy(high_choices(network, task, key, rounds), task).mean())

        if not important.any():  # nothing to remove: not a number, so not reached
            curves.append(np.full((3, len(fractions)), np.nan))
            continue
        sets = {"important": important, "random": np.ones_like(important), "unimportant": unimportant}
        found = analysis.removal_curves(
            result.network, RECURRENT, sets, score, key=lab.key(300 + seed), fractions=fractions, repeats=repeats
        )
        curves.append(np.stack([found.scores[name] for name in sets]).mean(axis=-1))
    curve = np.stack(curves)  # "seed set fraction"
    drop = curve[:, :, 0] - curve[:, :, -1]
    return Finding(
        {"important": drop[:, 0], "random": drop[:, 1], "unimportant": drop[:, 2]},
        {"fractions": np.array(fractions), "accuracy": curve},
    )


def draw_removal(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Accuracy against the share that was removed."""
    names = ("very important", "as many at random", "as many unimportant")
    plot_removal(
        arrays["fractions"],
        {name: 100 * arrays["accuracy"][:, number] for number, name in enumerate(names)},
        xlabel="removed (% of the number of very important connections)",
        ylabel="right answers (%)",
        chance=50.0,
        ax=figure.subplots(),
    )


@eqx.filter_jit
def _activity(network, task, keys):
    def one(key):
        trial_key, noise_key = jr.split(key)
        trials = task.sample(trial_key, task.round, "test")
        return network(trials.inputs, key=noise_key, record=("hidden",)).activity["hidden"]

    return jax.lax.map(one, keys)


def recorded(lab: Lab) -> list[np.ndarray]:
    """Activity of all units in every condition, `"round time condition neuron"`, for each seed."""
    rounds = lab.pick(smoke=2, laptop=20, paper=50)
    return [
        np.asarray(_activity(result.network, testing(20.0), jr.split(lab.key(500 + seed), rounds)))
        for seed, (result, _) in enumerate(lab.once(trained))
    ]


def measure_selectivity(lab: Lab) -> Finding:
    """How many units respond to one stimulus, to some, or to all alike."""
    task = testing(20.0)
    begin = round(task.fixation / task.dt)
    places = [task.conditions.index(((sense,), rate)) for sense in task.modalities for rate in (14.0, 11.0)]
    traces = [activity.mean(axis=0)[:, places] for activity in lab.once(recorded)]  # "time stimulus neuron"
    responses = [trace[begin:].mean(axis=0).T for trace in traces]
    values, index = selectivity(responses)
    largest = responses[0].max(axis=1)
    is_loud = largest > 0.1 * largest.max()  # of those that can be seen, the nearest to each kind
    chosen = [int(np.nanargmin(np.where(is_loud, np.abs(index[0] - wanted), np.nan))) for wanted in (0.0, 0.5, 1.0)]
    return Finding(
        values,
        {
            "index": index,
            "traces": traces[0][:, :, chosen],
            "chosen": index[0][chosen],
            "time": task.dt * np.arange(len(traces[0])) - task.fixation,
        },
    )


def draw_selectivity(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Three units' responses, and the distribution of the index."""
    axes = figure.subplots(1, 4)
    names = ("visual high", "visual low", "auditory high", "auditory low")
    for number, ax in enumerate(axes[:3]):
        for stimulus, name in enumerate(names):
            look: dict[str, Any] = {"color": colour(stimulus // 2), "linestyle": "-:"[stimulus % 2]}
            ax.plot(arrays["time"], arrays["traces"][:, stimulus, number], label=name, linewidth=1, **look)
        ax.set(xlabel="time from stimulus (ms)", ylabel="rate" if number == 0 else "")
        ax.set_title(f"index {arrays['chosen'][number]:.2f}", fontsize=9)
    axes[0].legend(frameon=False, fontsize=7)
    edges = np.linspace(0, 1, 11)
    for seed, index in enumerate(arrays["index"]):
        counts, _ = np.histogram(index[np.isfinite(index)], edges)
        axes[3].stairs(counts, edges, color=colour(seed), label=f"seed {seed}")
    axes[3].set(xlabel="selectivity index", ylabel="units")


def measure_components(lab: Lab) -> Finding:
    """How many dimensions the activity needs."""
    found = [analysis.principal_components(activity.mean(axis=0)) for activity in lab.once(recorded)]
    single = [analysis.principal_components(activity[0]) for activity in lab.once(recorded)]
    shares = {
        "average": np.stack([one.shares[:10] for one in found]),
        "single": np.stack([one.shares[:10] for one in single]),
    }
    three = {name: share[:, :3].sum(axis=1) for name, share in shares.items()}
    return Finding(three, {**shares, "path": found[0].project(lab.once(recorded)[0].mean(axis=0), 3)})


def draw_components(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Share of variance against components, and trajectories along the first three."""
    shares = {"mean of trials": arrays["average"], "single trials": arrays["single"]}
    plot_variance(shares, line=0.85, ax=figure.add_subplot(1, 2, 1))
    task = testing(20.0)
    kinds = ["high rate" if rate > task.boundary else "low rate" for _, rate in task.conditions]
    plot_trajectories(arrays["path"], kinds, ax=figure.add_subplot(1, 2, 2, projection="3d"))


def measure_entropy(lab: Lab) -> Finding:
    """How uncertain connections are, over training."""
    seen = [watched for _, watched in lab.once(trained)]
    length = min(len(watched["step"]) for watched in seen)
    arrays = {name: np.stack([watched[name][:length] for watched in seen]) for name in ("S_pi", "S_xi", "S")}
    return Finding(
        {
            "slab": np.array([watched["S_xi"][-1] - watched["S_xi"][0] for watched in seen]),
            "spike": np.array([watched["S_pi"][-1] - watched["S_pi"][0] for watched in seen]),
        },
        {"step": seen[0]["step"][:length], **arrays},
    )


def draw_entropy(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Three entropies against iterations."""
    names = {"S": "whole distribution S", "S_pi": "presence S_π", "S_xi": "slab S_Ξ"}
    for ax, (name, label) in zip(figure.subplots(1, 3), names.items(), strict=True):
        plot_curves({label: (arrays["step"], arrays[name])}, ylabel=f"{label} (nat)", ax=ax)
