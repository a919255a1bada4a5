"""What a time step of a network would cost in energy, by counting its operations."""

import dataclasses
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Key

from retrograde.network import BIAS, INPUT, Network, Weights
from retrograde.neurons import ALIF, GRU, LIF, LSTM, AbstractNeuron, Filtered, LeakyRate, LeakyReadout, Linear, YinALIF
from retrograde.synapses import AbstractSynapse, Identity, Masked, SpikeAndSlab, Tied

Rate = float | int | Float[np.ndarray, "..."] | Float[Array, "..."]  # a vector for each size of population


@dataclasses.dataclass(frozen=True)
class EnergyPerOperation:
    """What one operation costs.

    Attributes:
        mac: Energy of a multiply–accumulate [pJ].
        ac: Energy of an accumulate, an addition [pJ].

    Raises:
        ValueError: If one of them is negative or not finite.
    """

    mac: float
    ac: float

    def __post_init__(self):
        for name in ("mac", "ac"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"`EnergyPerOperation({name}=...)` is an energy in pJ, 0 or more, got {value}.")


# 45 nm, 0.9 V: Horowitz (2014), ISSCC, doi:10.1109/ISSCC.2014.6757323, figure 1.1.9; a product and a sum of 32 bits.
ENERGY_PER_OPERATION: Mapping[str, EnergyPerOperation] = MappingProxyType(
    {"float32": EnergyPerOperation(mac=4.6, ac=0.9), "int32": EnergyPerOperation(mac=3.2, ac=0.1)}
)


@dataclasses.dataclass(frozen=True)
class StepOperations:
    """Mean number of operations in one time step of one trial.

    Attributes:
        mac: Multiply–accumulates [1].
        ac: Accumulates [1].
    """

    mac: float | int = 0
    ac: float | int = 0

    def __add__(self, other: "StepOperations") -> "StepOperations":
        return StepOperations(self.mac + other.mac, self.ac + other.ac)

    def energy(self, per_operation: EnergyPerOperation) -> float:
        """What they cost together [pJ]."""
        return self.mac * per_operation.mac + self.ac * per_operation.ac


@dataclasses.dataclass(frozen=True)
class Activity:
    """What a population, or the input, did while it was watched.

    Attributes:
        rate: Mean spikes of each neuron in a step, $|z|$ averaged over time and trials; of an analogue source, the
            fraction of steps in which it is not 0 [1].
        spiking: Whether the activity is spikes: nothing but 0, 1 and -1.
        mean_active: Mean number of neurons in a step whose activity is not 0 [1].
        max_active: Largest number of them in any step of any trial [1].
    """

    rate: Float[np.ndarray, " neuron"]
    spiking: bool
    mean_active: float
    max_active: int


@dataclasses.dataclass(frozen=True)
class Consumption:
    """Operations of a network in one time step of one trial, part by part.

    Attributes:
        synapses: Those of the weights, by projection.
        neurons: Those of the neurons' own dynamics, by population.
        activity: What was measured, by population, and of the `"input"`; empty where the rates were given.
    """

    synapses: Mapping[str, StepOperations]
    neurons: Mapping[str, StepOperations]
    activity: Mapping[str, Activity] = dataclasses.field(default_factory=dict)

    @property
    def total(self) -> StepOperations:
        """Of the whole network."""
        return sum([*self.synapses.values(), *self.neurons.values()], StepOperations())

    def energy(self, per_operation: EnergyPerOperation) -> float:
        """Energy of a time step [pJ]."""
        return self.total.energy(per_operation)

    def parts(self, per_operation: EnergyPerOperation) -> dict[str, float]:
        """Energy of a time step by what it is spent on [pJ]; for `retrograde.plots.plot_energy`."""
        synapses = sum(self.synapses.values(), StepOperations())
        return {
            "synapses, from spikes": StepOperations(ac=synapses.ac).energy(per_operation),
            "synapses, from analogue values": StepOperations(mac=synapses.mac).energy(per_operation),
            "neurons": sum(self.neurons.values(), StepOperations()).energy(per_operation),
        }


# Of a unit in a step: currents (rows of weights for each), multiply–accumulates, accumulates for each of its spikes.
_LAYERS = {"rnn": (1, 0, 0), "lstm": (4, 17, 0), "gru": (3, 11, 0), "lif": (1, 1, 1), "alif": (1, 2, 2)}


def layer_operations(
    kind: str,
    inputs: int,
    units: int,
    *,
    recurrent: bool = True,
    input_rate: float | None = None,
    rate: float | None = None,
    literal: bool = False,
) -> StepOperations:
    r"""Counts the operations of one layer in a time step by formula.

    With $m$ inputs, $n$ units, and $F_\mathrm{in}$, $F_\mathrm{out}$ spikes of each of them in a step:

    | `kind` | multiply–accumulates | accumulates |
    |---|---|---|
    | `"rnn"` | $mn + nn$ | |
    | `"lstm"` | $4(mn + nn) + 17n$ | |
    | `"gru"` | $3(mn + nn) + 11n$ | |
    | `"lif"` | $n$ | $mn F_\mathrm{in} + (nn + n) F_\mathrm{out}$ |
    | `"alif"` | $2n$ | $mn F_\mathrm{in} + (nn + 2n) F_\mathrm{out}$ |

    Without recurrence there is no $nn$; analogue inputs cost $mn$ multiply–accumulates (for each gate) whatever the
    layer; gated units may be driven by spikes too. $17n$ are three gates of $2n$, the candidate $4n$, the cell $2n$ and
    the output $5n$. $11n$ follow the same prices: two gates of $2n$, the candidate $5n$, the output $2n$.

    Args:
        kind: A kind of the table.
        inputs: Number of inputs $m$.
        units: Number of units $n$.
        recurrent: Whether the units are connected among themselves.
        input_rate: $F_\mathrm{in}$ [spikes per step]; `None` for analogue inputs.
        rate: $F_\mathrm{out}$ [spikes per step]; needed for `"lif"` and `"alif"` only.
        literal: Whether an adaptive neuron pays for $\beta b$ too ($3n$); by default $\beta$ is part of $b$.

    Raises:
        ValueError: If `kind` is unknown, or `rate` is missing.

    Example:
        >>> from retrograde import analysis
        >>> layer = analysis.layer_operations("lif", 4, 36, input_rate=0.0763, rate=0.344)
        >>> round(layer.energy(analysis.ENERGY_PER_OPERATION["float32"]), 1)  # pJ
        587.9

    Source:
        Yin, Corradi & Bohte (2021), Nat. Mach. Intell. 3:905, as restated for plain neurons by Zhang et al. (2024),
        AAAI (TC-LIF). Differs from them: the rows of the GRU and of adaptive neurons are ours, by the same prices.
    """
    if kind not in _LAYERS:
        raise ValueError(f"`layer_operations(kind={kind!r})` must be one of {', '.join(map(repr, _LAYERS))}.")
    rows, mac, ac = _LAYERS[kind]
    if ac and rate is None:
        raise ValueError(f"`layer_operations({kind!r}, ...)` needs `rate=`, the spikes of a unit in a step.")
    own = StepOperations(mac=units * (mac + (literal and kind == "alif")), ac=units * ac * (rate or 0.0))
    again = rows * units**2 if recurrent else 0
    return (
        own
        + _synaptic(rows * inputs * units, input_rate)
        + (_synaptic(again, rate) if ac else StepOperations(mac=again))
    )


def _synaptic(weights: int, rate: float | None) -> StepOperations:
    return StepOperations(mac=weights) if rate is None else StepOperations(ac=weights * rate)


def network_operations(
    network: Network,
    rates: Mapping[str, Rate | None],
    *,
    literal: bool = False,
    units: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> Consumption:
    """Counts the operations of a network in a time step from the rates of its populations.

    Each weight that is there costs an accumulate for each spike of its source, or one multiply–accumulate in each step
    if the source is analogue. A weight is there unless a mask says that it is not (a 0 among dense weights counts); of
    spike-and-slab weights the mean number that is there counts; tied ones are used, so they count; one-to-one links
    without a weight cost an addition. Biases cost nothing: an accumulator starts from them. Neurons cost, per unit and
    step:

    | neuron | multiply–accumulates | accumulates for each spike |
    |---|---|---|
    | `Linear`, and `LeakyRate` without a leak | 0 | |
    | `LeakyRate`, leak of the current / the activity | 1 / 2 | |
    | `LeakyReadout` | 1 | |
    | `LIF` | 1 | 1 |
    | `ALIF`, `YinALIF` | 2, or 3 if `literal` | 2 |
    | the same with `beta` 0 | 1 | 1 |
    | `GRU` / `LSTM` | 11 / 17 | |
    | `Filtered` | 1 more than its neuron | as its neuron |

    Constant gains of a current are part of the weights. Refractory counters, noise and the non-linearity of a rate
    neuron cost nothing.

    Args:
        network: The network.
        rates: Spikes of a neuron in a step, one number or one for each neuron, by population and for `"input"`; `None`,
            or no entry, for an analogue source.
        literal: Whether an adaptive neuron pays for the product with `beta` too.
        units: For neurons of one's own, by population: multiply–accumulates of a unit in a step, accumulates for each
            of its spikes.

    Raises:
        ValueError: If the rate of spiking neurons is missing, a rate does not fit, a name is unknown, or the
            operations of a type of neuron are.

    Source:
        As `layer_operations`, whose numbers this gives for layers of these kinds.
    """
    for argument, names in (("rates", rates), ("units", units)):
        for name in names:
            if name not in network.populations and (argument, name) != ("rates", INPUT):
                known = ", ".join(map(repr, [INPUT, *network.populations]))
                raise ValueError(f"`{argument}` names {name!r}, which is none of {known}.")
    analogue = {name for name, neuron in network.populations.items() if _shows_membrane(neuron)}
    analogue |= {name for name, neuron in network.populations.items() if rates.get(name) is None and not _fires(neuron)}
    analogue |= {INPUT} if rates.get(INPUT) is None else set()
    return _count(network, rates, analogue, literal, units)


def energy(
    network: Network,
    inputs: Float[Array, "time batch input"],
    *,
    key: Key[Array, ""] | None = None,
    weights: Weights = "mean-field",
    analogue: Collection[str] = (),
    literal: bool = False,
    units: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> Consumption:
    """Runs a network, measures what fires how often, and counts its operations in a time step.

    A source whose activity is nothing but 0, 1 and -1 counts as spiking. A rate neuron that is always silent does not.

    Args:
        network: The network.
        inputs: What it is given, `"time batch input"`.
        key: Seeds noise and random initial states.
        weights: What random weights do, as for a `Network`.
        analogue: Populations, or `"input"`, that count as analogue whatever their activity (such as black-and-white
            pixels that the compared network multiplies).
        literal: As for `network_operations`.
        units: As for `network_operations`.

    Returns:
        Operations of a step, and the activity that was measured.

    Raises:
        ValueError: As `network_operations`, or if other populations read the membrane of an adaptive neuron, so that
            its spikes cannot be seen from outside.

    Example:
        >>> import jax.numpy as jnp, retrograde as rg
        >>> network = rg.Network(
        ...     {"out": rg.neurons.LIF(2)}, [rg.Projection("input", "out", rg.synapses.Dense(jnp.ones((2, 3))))],
        ...     inputs=3, readout="out",
        ... )
        >>> used = energy(network, jnp.ones((10, 1, 3)))
        >>> used.activity["out"].max_active, used.total
        (2, StepOperations(mac=2.0, ac=8.0))
    """
    for name in analogue:
        if name not in (INPUT, *network.populations):
            raise ValueError(f"`energy(analogue=...)` names {name!r}, which is neither a population nor {INPUT!r}.")
    probe = network
    for name, neuron in network.populations.items():
        if _shows_membrane(neuron):
            if any(projection.source == name for projection in network.projections.values()):
                raise ValueError(
                    f"Others read the membrane of {name!r}, so its spikes cannot be measured by running the network. "
                    "Use `network_operations` with its rate."
                )
            probe = eqx.tree_at(lambda n, name=name: n.populations[name], probe, _showing_spikes(neuron))
    run = probe(inputs, key=key, weights=weights, record=tuple(network.populations))
    activity = {INPUT: _measure(inputs, True)}
    for name, neuron in network.populations.items():
        activity[name] = _measure(run.activity[name], _fires(neuron))
    smooth = {name for name, measured in activity.items() if not measured.spiking} | set(analogue)
    used = _count(network, {name: measured.rate for name, measured in activity.items()}, smooth, literal, units)
    return dataclasses.replace(used, activity=activity)


def _measure(values: Float[Array, "time batch neuron"], fires: bool) -> Activity:
    activity = np.asarray(jax.device_get(values))
    nonzero = activity != 0
    active = nonzero.sum(axis=-1)
    spiking = bool(np.isin(activity, (-1, 0, 1)).all()) and (fires or bool(nonzero.any()))
    return Activity(nonzero.mean(axis=(0, 1)), spiking, float(active.mean()), int(active.max()))


def _count(
    network: Network,
    rates: Mapping[str, Rate | None],
    analogue: Collection[str],
    literal: bool,
    units: Mapping[str, tuple[float, float]],
) -> Consumption:
    synapses, neurons = {}, {}
    for label, projection in network.projections.items():
        if projection.source == BIAS:
            continue
        owner = projection.synapse
        weights = _present(network.projections[owner.to].synapse if isinstance(owner, Tied) else owner)
        if isinstance(owner, Tied) and owner.transposed:
            weights = weights.T
        # One number for each source neuron: of a matrix, of all its rows.
        fan_out = weights if weights.ndim == 1 else weights.sum(axis=0)
        if isinstance(owner, Identity):
            rate = 1.0 if projection.source in analogue else _rate(network, rates, projection.source)
            synapses[label] = StepOperations(ac=float((fan_out * _slice(rate, projection.source_slice)).sum()))
        elif projection.source in analogue:
            synapses[label] = StepOperations(mac=float(fan_out.sum()))
        else:
            rate = _slice(_rate(network, rates, projection.source), projection.source_slice)
            synapses[label] = StepOperations(ac=float((fan_out * rate).sum()))
    for name, neuron in network.populations.items():
        mac, ac = units[name] if name in units else _unit(name, neuron, literal)
        fired = _rate(network, rates, name) if np.any(ac) else 0.0
        ones = np.ones(neuron.size)
        neurons[name] = StepOperations(float((mac * ones).sum()), float((ac * fired * ones).sum()))
    return Consumption(synapses, neurons)


def _rate(network: Network, rates: Mapping[str, Rate | None], name: str) -> Rate:
    rate, size = rates.get(name), network.inputs if name == INPUT else network.populations[name].size
    if rate is None:
        raise ValueError(
            f"{name!r} fires spikes, so `rates[{name!r}]` must say how many of them a neuron has in a step."
        )
    if np.shape(rate) not in ((), (size,)) or not (np.asarray(rate) >= 0).all():
        raise ValueError(
            f"`rates[{name!r}]` must be a number of spikes per step, 0 or more, or one for each of the {size} neurons, "
            f"got {rate!r}."
        )
    return rate


def _slice(rate: Rate, extent: tuple[int, int] | None) -> Rate:
    return rate if extent is None or np.ndim(rate) == 0 else np.asarray(rate)[slice(*extent)]


def _present(synapse: AbstractSynapse) -> Float[np.ndarray, "..."]:
    """How many of each weight there are: 1, 0 where there is none, the probability where it is random."""
    if isinstance(synapse, SpikeAndSlab):
        return 1.0 - np.asarray(synapse.pi, float)
    if isinstance(synapse, Masked):
        inside = _present(synapse.synapse)
        return np.where(np.asarray(synapse.mask), inside, np.broadcast_to(np.asarray(synapse.fill) != 0, inside.shape))
    return np.ones(jax.eval_shape(synapse.moments).mean.shape)


def _unit(name: str, neuron: AbstractNeuron, literal: bool) -> tuple[Any, Any]:
    """Multiply–accumulates of a unit in a step, and accumulates for each of its spikes."""
    if isinstance(neuron, Filtered):
        mac, ac = _unit(name, neuron.neuron, literal)
        return mac + 1, ac
    if isinstance(neuron, ALIF | YinALIF):
        adaptive = np.asarray(neuron.beta) != 0
        return 1 + adaptive * (2 if literal else 1), 1 + adaptive
    if isinstance(neuron, LeakyRate):
        return (np.asarray(neuron.alpha) != 1) * (1 if neuron.leak == "current" else 2), 0
    for kind, cls in (("lif", LIF), ("lstm", LSTM), ("gru", GRU)):
        if isinstance(neuron, cls):
            return _LAYERS[kind][1:]
    if isinstance(neuron, Linear | LeakyReadout):
        return (0 if isinstance(neuron, Linear) else 1), 0
    raise ValueError(
        f"The operations of a `{type(neuron).__name__}` are not known. Give them as `units={{{name!r}: (multiply–"
        "accumulates of a unit in a step, accumulates for each of its spikes)}`."
    )


def _fires(neuron: AbstractNeuron) -> bool:
    return isinstance(neuron.neuron if isinstance(neuron, Filtered) else neuron, LIF | ALIF | YinALIF)


def _shows_membrane(neuron: AbstractNeuron) -> bool:
    inner = neuron.neuron if isinstance(neuron, Filtered) else neuron
    return isinstance(inner, YinALIF) and inner.reads == "membrane"


def _showing_spikes(neuron: AbstractNeuron) -> AbstractNeuron:
    if isinstance(neuron, Filtered):
        return dataclasses.replace(neuron, neuron=_showing_spikes(neuron.neuron))  # type: ignore[call-arg]
    return dataclasses.replace(neuron, reads="spike")  # type: ignore[call-arg,type-var]
