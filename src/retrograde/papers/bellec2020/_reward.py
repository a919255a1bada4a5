"""Learning from reward that comes late: a cue remembered over a delay, and Pong."""

# mypy: disable-error-code="call-arg"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key
from matplotlib.figure import Figure

from retrograde.losses import FiringRate
from retrograde.network import Network
from retrograde.neurons import ALIF, LeakyReadout
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.bellec2020._common import RULES, WORDS
from retrograde.plots import colour
from retrograde.reinforcement import ActorCritic, Atari, CuedChoice, Interface, learn, learn_gymnasium
from retrograde.rules import EProp

SOLVED = 0.9  # reward: 95 % of the choices are right
NEURONS, ACTORS = 50, 64
CONTROL = "lif"  # e-prop, symmetric, on neurons that do not adapt
ALL = {**WORDS, CONTROL: "no adaptation"}


def choice_network(key: Key[Array, ""], world: CuedChoice, adaptive: bool, detach_reset: bool) -> Network:
    """50 neurons, all to all, whose thresholds adapt over twice the length of an episode."""
    hidden = ALIF(
        NEURONS,
        threshold=0.5,
        tau_mem=20.0,
        tau_adapt=2.0 * world.steps,
        beta=0.2 if adaptive else 0.0,
        refractory=3,
        detach_reset=detach_reset,
    )
    readout = LeakyReadout(3, tau=20.0, normalised=True)
    return Network.single_layer(Interface(world), hidden, readout=readout, key=key)


def measure_delayed(lab: Lab) -> Finding:
    """Mean reward of the last tenth of the episodes, by rule and seed."""
    world = CuedChoice(delay=lab.pick(smoke=10.0, laptop=300.0, paper=300.0))
    updates = lab.pick(smoke=2, laptop=400, paper=400)
    values: dict[str, list[float]] = {}
    arrays = {}
    for kind in ALL:
        make, detach_reset = RULES["symmetric" if kind == CONTROL else kind]
        for seed in range(lab.seeds):
            key = lab.key(seed)

            def run(on_row, folder, kind=kind, key=key, make=make, detach_reset=detach_reset):
                return learn(
                    choice_network(key, world, kind != CONTROL, detach_reset),
                    world,
                    rule=make(1.0),
                    optimiser=optax.adam(5e-3),
                    agent=ActorCritic(discount=0.99, value_weight=0.5),
                    actors=ACTORS,
                    unroll=world.steps,
                    penalty=FiringRate(target=0.02, strength=1.0),
                    steps=updates * world.steps,
                    log_every=max(1, updates // 40) * world.steps,
                    key=key,
                    on_row=on_row,
                    folder=folder,
                )

            found = lab.learn(f"delayed-reward-{kind}-{seed}", run, updates * world.steps)
            arrays[f"{kind}.{seed}"] = np.stack([found["step"] / world.steps * ACTORS, found["reward"]])
            tail = found["step"] > 0.9 * found["step"][-1]
            values.setdefault(kind, []).append(float(found["reward"][tail].mean()))
    solved = {f"{kind}_solved": np.array(rewards) >= SOLVED for kind, rewards in values.items()}
    return Finding(
        {kind: np.array(rewards) for kind, rewards in values.items()}
        | {name: flags.astype(float) for name, flags in solved.items()},
        arrays,
    )


def draw_delayed(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Reward of every network against episodes."""
    ax = figure.subplots()
    for number, (kind, word) in enumerate(ALL.items()):
        for seed, name in enumerate(name for name in arrays if name.startswith(f"{kind}.")):
            episodes, reward = arrays[name]
            ax.plot(episodes / 1000, reward, color=colour(number), label=word if seed == 0 else None, linewidth=1)
    ax.axhline(SOLVED, color="grey", linestyle=":", linewidth=1)
    ax.set(xlabel="episodes (thousands)", ylabel="reward of an episode", ylim=(-0.3, 1.05))
    ax.legend(frameon=False)


PONG_ACTORS, FRAMES = 16, 4  # frames of a step


def pong_network(key: Key[Array, ""], game: Atari, size: int) -> Network:
    """LIF neurons and, two of five, ALIF with the authors' constants; weights of the sparse inputs are larger."""
    hidden = ALIF(
        size,
        threshold=1.0,
        tau_mem=15.0,
        tau_adapt=70.0,
        beta=jnp.where(jnp.arange(size) >= 0.6 * size, 0.1, 0.0),
        refractory=5,
        detach_reset=True,
        constants=("beta",),
    )
    readout = LeakyReadout(game.actions + 1, tau=4.0, normalised=True)
    network: Any = Network.single_layer(Interface(game), hidden, readout=readout, key=key)
    for name, factor in (("input->hidden", 3.0), ("hidden->hidden", 0.3)):
        weight = network.projections[name].synapse.weight
        network = eqx.tree_at(lambda n, name=name: n.projections[name].synapse.weight, network, factor * weight)
    return network


def measure_pong(lab: Lab) -> Finding:
    """Score of an episode along an hour of play, and frames in a second."""
    game = Atari()
    size = lab.pick(smoke=20, laptop=200, paper=200)
    steps, unroll = lab.pick(smoke=40, laptop=10**7, paper=10**7), 20
    every = lab.pick(smoke=20, laptop=1000, paper=1000)
    curves = []
    for seed in range(lab.seeds):
        key = lab.key(seed)

        def run(on_row, folder, key=key):
            worlds = game.worlds(PONG_ACTORS, most_frames=lab.pick(smoke=60, laptop=108_000, paper=108_000))
            try:
                return learn_gymnasium(
                    pong_network(key, game, size),
                    worlds,
                    encode=game.encode,
                    actions=game.choices,
                    rule=EProp(),
                    optimiser=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3, eps=1e-5)),
                    agent=ActorCritic(discount=0.99, trace=0.95, value_weight=0.5, entropy=0.01, substeps=5),
                    unroll=unroll,
                    steps=steps,
                    log_every=every,
                    key=key,
                    on_row=on_row,
                    folder=folder,
                )
            finally:
                worlds.close()

        found = lab.learn(f"pong-{seed}", run, steps, seconds=3600.0)
        curves.append(np.stack([found[name].astype(float) for name in ("step", "episodes", "reward", "seconds")]))
    values: dict[str, list[float]] = {"first": [], "last": [], "frames": []}
    for step, episodes, reward, seconds in curves:
        for name, rows in (("first", slice(0, len(step) // 10 + 1)), ("last", slice(-(len(step) // 10) - 1, None))):
            ended = episodes[rows] > 0
            values[name].append(float(np.average(reward[rows][ended], weights=episodes[rows][ended])))
        values["frames"].append(float(FRAMES * PONG_ACTORS * step[-1] / seconds[-1]))
    values["gain"] = [last - first for first, last in zip(values["first"], values["last"], strict=True)]
    return Finding(
        {name: np.array(found) for name, found in values.items()},
        {f"seed {seed}": curve for seed, curve in enumerate(curves)},
    )


def draw_pong(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Score against minutes, and against frames."""
    ax = figure.subplots()
    for number, (name, (step, _, reward, seconds)) in enumerate(arrays.items()):
        ax.plot(seconds / 60, reward, color=colour(number), label=name, linewidth=1)
        millions = FRAMES * PONG_ACTORS * step[-1] / 1e6
    ax.axhline(-21, color="grey", linestyle=":", linewidth=1)
    ax.set(xlabel=f"minutes ({millions:.1f} million frames in all)", ylabel="score of an episode (points)")
    if len(arrays) > 1:
        ax.legend(frameon=False)
