"""A movement of an arm, learnt from one look at it: learning signals come from a network that has learnt to teach."""

# mypy: disable-error-code="call-arg"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from retrograde import encoders
from retrograde.losses import FiringRate
from retrograde.network import Network, Projection
from retrograde.neurons import LIF, LeakyReadout
from retrograde.papers._claim import Finding
from retrograde.papers._lab import Lab
from retrograde.papers.bellec2020._common import recurrent
from retrograde.plots import colour, plot_curves
from retrograde.report import save_arrays, write_file
from retrograde.rules import BPTT
from retrograde.synapses import Dense

CLOCK, GROUPS, SINES = 10, 5, 5
TAU, REST = 20.0, (0.0, np.pi / 2)  # time constant of all filters [ms]; the joints at the start [rad]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Sizes of the study.

    Attributes:
        neurons: Neurons of the network that moves the arm.
        teachers: Neurons of the network that teaches it.
        code: Neurons that show one coordinate of the end point.
        steps: Duration of a movement [ms].
        batch: Movements in an update.
        updates: Updates of the outer loop.
        inner: Learning rate of the inner update.
        outer: Learning rate of the outer loop.
        reach: Size of the first readout weights, times √neurons.
    """

    neurons: int = 400
    teachers: int = 300
    code: int = 100
    steps: int = 500
    batch: int = 100
    updates: int = 20_000
    inner: float = 1e-4
    outer: float = 1e-3
    reach: float = 0.05


class Movement(eqx.Module):
    """What the arm is to do.

    Attributes:
        speed: Angular velocities of both joints, `"time batch joint"` [rad/s].
        point: End point of the arm, `"time batch coordinate"` [length of the arm].
    """

    speed: Float[Array, "time batch joint"]
    point: Float[Array, "time batch coordinate"]


def end_point(speed: Float[Array, "time batch joint"]) -> Float[Array, "time batch coordinate"]:
    """Where an arm of two links of length ½ ends, if its joints turn with given velocities, in steps of 1 ms."""
    angle = jnp.array(REST, speed.dtype)[None, None] + jnp.cumsum(speed, axis=0) / 1000
    links = jnp.cumsum(angle, axis=-1)  # the second joint's angle is relative to the first link
    return 0.5 * jnp.stack([jnp.cos(links).sum(-1), jnp.sin(links).sum(-1)], axis=-1)


def movements(key: Key[Array, ""], batch: int, steps: int) -> Movement:
    """Sums of sines for both joints; a joint that would turn by more than π/2 turns more slowly."""
    keys = jr.split(key, 3)
    shape = (1, batch, 2, SINES)
    time = jnp.linspace(0, 2 * jnp.pi, steps)[:, None, None, None]
    period = jr.uniform(keys[0], shape, minval=0.3, maxval=1.0)
    wave = jnp.sin(time / period + jr.uniform(keys[1], shape, maxval=2 * jnp.pi))
    first = wave[:, :, :1] * jr.uniform(keys[2], (1, batch, 1, SINES), maxval=30.0)
    second = 20 * wave[:, :, 1:] / (wave.max(0, keepdims=True) - wave.min(0, keepdims=True))[:, :, 1:]
    speed = jnp.concatenate([first, second], axis=2).sum(-1)
    turned = jnp.abs(jnp.cumsum(speed, axis=0) / 1000).max(0, keepdims=True)
    speed = speed / jnp.maximum(1, turned / (jnp.pi / 2))
    return Movement(speed, end_point(speed))


def clock(steps: int) -> Float[Array, "time input"]:
    """Five groups of neurons that are active in turn, each with a spike every 10 ms."""
    time = np.arange(steps)
    group = time * GROUPS // steps
    is_active = (np.arange(CLOCK) * GROUPS // CLOCK == group[:, None]) & (time % 10 == 0)[:, None]
    return jnp.asarray(is_active, jnp.zeros(0).dtype)


class Pupil(eqx.Module):
    """A network and its teacher, both of which the outer loop trains.

    Attributes:
        main: Moves the arm; reads the clock.
        teacher: Makes a learning signal for each neuron of `main`; reads the clock, the movement and `main`.
    """

    main: Network
    teacher: Network

    def trainable(self) -> "Pupil":
        """What an optimiser may touch."""
        return Pupil(self.main.trainable(), self.teacher.trainable())


def pupil(key: Key[Array, ""], setting: Setting) -> Pupil:
    """Both networks as the authors draw them."""
    main_key, teacher_key = jr.split(key)
    seen = CLOCK + 2 * setting.code + setting.neurons
    return Pupil(
        spiking(main_key, CLOCK, setting.neurons, 2, setting.reach),
        spiking(teacher_key, seen, setting.teachers, setting.neurons, 1.0),
    )


def spiking(key: Key[Array, ""], inputs: int, neurons: int, outputs: int, scale: float) -> Network:
    """LIF neurons with a refractory period, and a leaky readout whose first weights have a given size."""
    in_key, rec_key, out_key = jr.split(key, 3)
    return Network(
        {"hidden": LIF(neurons, tau_mem=TAU, threshold=0.4, refractory=5), "readout": LeakyReadout(outputs, tau=TAU)},
        [
            Projection("input", "hidden", Dense(jr.normal(in_key, (neurons, inputs)) * inputs**-0.5)),
            Projection("hidden", "hidden", recurrent(rec_key, neurons), delay=1),
            Projection("hidden", "readout", Dense(scale * jr.normal(out_key, (outputs, neurons)) * neurons**-0.5)),
        ],
        inputs=inputs,
        readout="readout",
    )


def low_pass(activity: Float[Array, "time batch neuron"], decay: float) -> Float[Array, "time batch neuron"]:
    """An exponential filter without gain."""

    def step(state, now):
        state = decay * state + now
        return state, state

    return jax.lax.scan(step, jnp.zeros_like(activity[0]), activity)[1]


def changes(
    network: Network,
    inputs: Float[Array, "time batch input"],
    spikes: Float[Array, "time batch neuron"],
    signals: Float[Array, "time batch neuron"],
) -> tuple[Float[Array, "batch post input"], Float[Array, "batch post pre"]]:
    r"""e-prop of given learning signals, $\sum_t L_t \psi_t p_t^\top$ for input and recurrent weights, by trial.

    Everything in it may be differentiated again. $\psi$ is not divided by the threshold, nor 0 while a neuron is
    refractory, as in the authors' program.
    """
    cell: Any = network.populations["hidden"]
    into, among = (network.projections[name].synapse.moments().mean for name in ("input->hidden", "hidden->hidden"))
    before = jnp.concatenate([jnp.zeros_like(spikes[:1]), spikes[:-1]])
    decay = float(np.exp(-cell.dt / cell.tau_mem))
    by_input, by_spikes = low_pass(inputs, decay), low_pass(before, decay)
    v = by_input @ into.T + by_spikes @ among.T - cell.threshold * by_spikes
    blame = signals * cell.surrogate((v - cell.threshold) / cell.threshold)
    of_input, of_spikes = (jnp.einsum("tbj,tbi->bji", blame, trace) for trace in (by_input, by_spikes))
    return of_input, jnp.where(np.eye(cell.size, dtype=bool), 0, of_spikes)


class Trials(eqx.Module):
    """What a network does before and after it has learnt from one trial.

    Attributes:
        before: Angular velocities in the first trial, `"time batch joint"` [rad/s].
        after: The same in the second.
        spikes: Of the network, by trial, `"trial time batch neuron"`.
        teaching: Spikes of the teacher in the first trial, `"time batch teacher"`.
    """

    before: Float[Array, "time batch joint"]
    after: Float[Array, "time batch joint"]
    spikes: Float[Array, "trial time batch neuron"]
    teaching: Float[Array, "time batch teacher"]


def one_shot(pupil: Pupil, wanted: Movement, setting: Setting, key: Key[Array, ""]) -> Trials:
    """A trial; an update for each movement by the teacher's signals; the same trial again."""
    ticks = jnp.broadcast_to(clock(setting.steps)[:, None], (setting.steps, wanted.point.shape[1], CLOCK))
    rate = 200 * encoders.population(jnp.clip(wanted.point, -1, 1), setting.code, -1.4, 1.4, width=0.2)
    shown = encoders.poisson(key, rate.reshape(*rate.shape[:2], -1))
    first = pupil.main(ticks, rule=BPTT(), record=("hidden",))
    spikes = first.activity["hidden"]
    taught = pupil.teacher(jnp.concatenate([ticks, shown, spikes], axis=-1), rule=BPTT(), record=("hidden",))
    of_input, of_spikes = changes(pupil.main, ticks, spikes, taught.outputs)

    def again(of_input, of_spikes):
        def where(network):
            synapses = [network.projections[name].synapse for name in ("input->hidden", "hidden->hidden")]
            return [synapses[0].weight, synapses[1].synapse.weight]

        old = where(pupil.main)
        new = [old[0] - setting.inner * of_input, old[1] - setting.inner * of_spikes]
        run = eqx.tree_at(where, pupil.main, new)(ticks[:, :1], rule=BPTT(), record=("hidden",))
        return run.outputs[:, 0], run.activity["hidden"][:, 0]

    outputs, later = jax.vmap(again, out_axes=1)(of_input, of_spikes)
    return Trials(first.outputs, outputs, jnp.stack([spikes, later]), taught.activity["hidden"])


def miss(speed: Float[Array, "time batch joint"], wanted: Movement) -> Float[Array, ""]:
    """Mean squared distance of the end point from where it should be, by coordinate."""
    return jnp.mean((end_point(speed) - wanted.point) ** 2)


def outer_loss(pupil: Pupil, wanted: Movement, setting: Setting, key: Key[Array, ""]):
    """Error of the second trial, and firing rates drawn to 20 and 10 Hz; misses of both trials come along."""
    run = one_shot(pupil, wanted, setting, key)
    error = 0.5 * (0.1 * jnp.mean((run.after - wanted.speed) ** 2) + miss(run.after, wanted))
    of_main = FiringRate(0.02, 100.0)({"hidden": run.spikes.reshape(-1, *run.spikes.shape[2:])})
    of_teacher = FiringRate(0.01, 100.0)({"hidden": run.teaching})
    return error + of_main + of_teacher, (miss(run.before, wanted), miss(run.after, wanted))


@eqx.filter_jit
def _update(pupil, state, setting, optimiser, keys):
    """Some updates of the outer loop; misses of both trials in each."""
    params, rest = eqx.partition(pupil, pupil.trainable())

    def step(carry, key):
        params, state = carry
        task_key, run_key = jr.split(key)
        wanted = movements(task_key, setting.batch, setting.steps)

        def loss(params):
            return outer_loss(eqx.combine(params, rest), wanted, setting, run_key)

        (total, misses), slopes = eqx.filter_value_and_grad(loss, has_aux=True)(params)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to the power of an integer counter
            change, state = optimiser.update(slopes, state, params)
        return (eqx.apply_updates(params, change), state), jnp.stack([total, *misses])

    (params, state), seen = jax.lax.scan(step, (params, state), keys)
    return eqx.combine(params, rest), state, seen


def setting(lab: Lab) -> Setting:
    """Sizes at the scale of a study."""
    small = Setting(steps=200, inner=1e-2, outer=3e-3, reach=2.0)
    return lab.pick(
        smoke=dataclasses.replace(small, neurons=20, teachers=15, code=10, batch=4, updates=4),
        laptop=dataclasses.replace(small, neurons=100, teachers=75, code=25, batch=16, updates=3000),
        paper=Setting(),
    )


def trained(lab: Lab, seed: int, chosen: Setting) -> tuple[Pupil, Float[np.ndarray, "update 3"]]:
    """Both networks after the outer loop, which goes on where it stopped; outer loss and both misses of each update."""
    start_key, run_key = jr.split(lab.key(seed))
    optimiser = optax.adam(chosen.outer)
    made = pupil(start_key, chosen)
    state = optimiser.init(eqx.filter(made, made.trainable()))
    path, seen = lab.folder / "runs" / f"movement-{seed}.npz", np.zeros((0, 3))
    arrays, static = eqx.partition((made, state), eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    if path.exists():
        with np.load(path) as file:
            leaves, seen = [jnp.asarray(file[f"leaf.{i}"]) for i in range(len(leaves))], file["seen"]
    made, state = eqx.combine(jax.tree.unflatten(structure, leaves), static)
    while len(seen) < chosen.updates:
        at_once = min(100, chosen.updates - len(seen))
        keys = jax.vmap(lambda number: jr.fold_in(run_key, number))(len(seen) + jnp.arange(at_once))
        made, state, new = _update(made, state, chosen, optimiser, keys)
        seen = np.concatenate([seen, np.asarray(new)])
        leaves = jax.tree.leaves(eqx.filter((made, state), eqx.is_array))
        kept = {f"leaf.{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)} | {"seen": seen}
        write_file(path, lambda new, kept=kept: save_arrays(new, kept))
    return made, seen


_one_shot = eqx.filter_jit(one_shot)


def measure(lab: Lab) -> Finding:
    """Misses on movements that were not trained on, before and after each network has learnt from one trial."""
    chosen = setting(lab)
    values: dict[str, list[float]] = {name: [] for name in ("before", "after", "ratio", "still", "specific", "rate")}
    curves = []
    for seed in range(lab.seeds):
        made, seen = trained(lab, seed, chosen)
        curves.append(seen)
        keys = jr.split(jr.fold_in(lab.key(seed), 1))
        wanted = movements(keys[0], lab.pick(smoke=4, laptop=64, paper=100), chosen.steps)
        run = _one_shot(made, wanted, chosen, keys[1])
        other = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=1), wanted)
        before, after, mixed = (float(miss(*pair)) for pair in _pairs(run, wanted, other))
        values["before"].append(before)
        values["after"].append(after)
        values["ratio"].append(after / before)
        values["still"].append(after / float(miss(0 * run.after, wanted)))
        values["specific"].append(after / mixed)
        values["rate"].append(1000 * float(run.spikes.mean()))
        if seed == 0:
            paths = {"wanted": wanted.point, "before": end_point(run.before), "after": end_point(run.after)}
            shown = {f"path.{name}": np.asarray(path[:, :4]) for name, path in paths.items()}
    arrays = {f"miss.{name}": np.stack([c[:, n + 1] for c in curves]) for n, name in enumerate(("first", "second"))}
    return Finding({name: np.array(found) for name, found in values.items()}, arrays | shown)


def _pairs(run: Trials, wanted: Movement, other: Movement):
    return (run.before, wanted), (run.after, wanted), (run.after, other)


def draw(figure: Figure, arrays: Mapping[str, np.ndarray]) -> None:
    """Misses along the outer loop; and four movements that were not trained on, before and after."""
    grid = figure.add_gridspec(2, 4)
    left = figure.add_subplot(grid[:, :2])
    curves = {}
    for name in ("first", "second"):
        miss = arrays[f"miss.{name}"]
        width = max(1, miss.shape[1] // 100)
        means = miss[:, : miss.shape[1] // width * width].reshape(len(miss), -1, width).mean(-1)
        curves[f"{name} trial"] = (width * np.arange(1, means.shape[1] + 1), means)
    plot_curves(curves, ylabel="error of the end point, squared", ax=left)
    left.set(xlabel="update of the outer loop", ylim=(0, None))
    looks = {"wanted": ("black", ":"), "before": (colour(0), "-"), "after": (colour(1), "-")}
    for number in range(arrays["path.wanted"].shape[1]):
        ax = figure.add_subplot(grid[number // 2, 2 + number % 2])
        for name, (ink, dashes) in looks.items():
            path = arrays[f"path.{name}"][:, number]
            ax.plot(path[:, 0], path[:, 1], color=ink, linestyle=dashes, linewidth=1.2, label=name)
        ax.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xticks=[], yticks=[])
        if number == 0:
            ax.legend(frameon=False, fontsize=6, loc="lower left")
