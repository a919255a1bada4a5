"""From a network to a NIR graph."""

import itertools
import re
from typing import Any, Literal, get_args

import jax
import numpy as np

from retrograde.exchange._nir import NOTES, SECOND, ExchangeError, continuous, nir_package
from retrograde.network import BIAS, INPUT, Network, Projection
from retrograde.neurons import ALIF, GRU, LIF, LSTM, AbstractNeuron, Filtered, LeakyRate, LeakyReadout, Linear, YinALIF
from retrograde.neurons._leaky import decay
from retrograde.synapses import Identity

Subtract = Literal["refuse", "loop", "zero"]

_REASONS = {
    ALIF: "NIR has no adaptive threshold.",
    YinALIF: "NIR has no adaptive threshold. With `beta=0.0` it is a `LIF(normalised=True)`: use that.",
    LeakyRate: "NIR has spiking neurons and leaky integrators, no functions of a rate.",
    LSTM: "NIR has no gated units.",
    GRU: "NIR has no gated units.",
}


def to_nir(network: Network, *, dt: float | None = None, subtract: Subtract = "refuse") -> Any:
    r"""Writes a network as a NIR graph, whose forward Euler step of `dt` is the network's own time step.

    | network | NIR |
    |---|---|
    | `LIF(reset="zero")` | `LIF` with $\tau = dt/(1-\alpha)$, $r = g/(1-\alpha)$, resting and reset potential 0 |
    | `Filtered(LIF)` | `CubaLIF`, its filter likewise |
    | `LeakyReadout`, and filtered | `LI`, `CubaLI` |
    | `LIF`, `LeakyReadout` with `tau` ∞ | `IF`, `I` |
    | `Linear` | nothing: what enters it enters what follows |
    | any fixed weights | `Linear`, `Scale` if one-to-one, an edge if `Identity` |
    | biases, added up | the bias of an `Affine` |
    | a delay of 1 from spiking or leaky units to themselves | a cycle of edges, as frameworks read it |
    | any other delay | `Delay` |

    Surrogates, `detach_reset`, feedback and frozen weights belong to training and are left out; missing weights are 0.
    What else a network needs to come back as it was is written as metadata.

    Args:
        network: The network.
        dt: Length of a time step in the graph [ms]; that of the neurons if `None`. A framework with a step of its own
            needs that one here (snnTorch: 0.1).
        subtract: NIR's reset is to a value. Neurons that subtract the threshold are refused (`"refuse"`); written as
            an `LI`, a `Threshold`, and a `Scale` that leads the spike back one step later, which is exact (`"loop"`);
            or written as if they started from 0, which is another network (`"zero"`).

    Returns:
        A `nir.NIRGraph`.

    Raises:
        ImportError: If the package `nir` is missing.
        ExchangeError: If NIR has no words for a part, steps differ in length, or a number is not finite.
    """
    nir = nir_package()
    if subtract not in get_args(Subtract):
        raise ExchangeError(f"`subtract={subtract!r}` must be one of {', '.join(map(repr, get_args(Subtract)))}.")
    return _Export(nir, network, _step(network, dt), subtract).graph()


def _step(network: Network, dt: float | None) -> float | None:
    """Length of a time step [ms], if there is one."""
    if dt is not None:
        if not 0 < dt < float("inf"):
            raise ExchangeError(f"`to_nir(dt=...)` is the length of a time step in ms, a positive number, got {dt}.")
        return float(dt)
    steps = {
        float(part.dt) for neuron in network.populations.values() for part in _parts(neuron) if hasattr(part, "dt")
    }
    if len(steps) > 1:
        raise ExchangeError(
            f"The neurons count with time steps of {', '.join(map(str, sorted(steps)))} ms, and a graph has one: pass "
            "`dt=`, the length of a step in the graph. Each decay stays what it is in a step."
        )
    return steps.pop() if steps else None


def _parts(neuron: AbstractNeuron) -> list[AbstractNeuron]:
    return [neuron, *_parts(neuron.neuron)] if isinstance(neuron, Filtered) else [neuron]


class _Export:
    """One export: the nodes and edges written so far."""

    def __init__(self, nir: Any, network: Network, step: float | None, subtract: Subtract):
        self.nir, self.network, self.step, self.subtract = nir, network, step, subtract
        self.moments = network.moments()
        self.nodes: dict[str, Any] = {INPUT: nir.Input(np.array([network.inputs]))}
        self.edges: list[tuple[str, str]] = []
        self.entry: dict[str, str] = {}  # where current enters a population that is a node
        self.exits: dict[str, str] = {INPUT: INPUT}  # where its activity leaves
        self.chains: dict[str, list[str]] = {}  # nodes of a projection, in order

    def graph(self) -> Any:
        for name, neuron in self.network.populations.items():
            if not isinstance(neuron, Linear):
                self._add_neuron(name, neuron)
        for label, projection in self.network.projections.items():
            if projection.source != BIAS:
                self.chains[label] = self._add_chain(label, projection)
        for label, projection in self.network.projections.items():
            if projection.source != BIAS:
                self._connect(label, projection)
        output = self._name("output")
        self.nodes[output] = self.nir.Output(np.array([self.network.populations[self.network.readout].size]))
        self.edges += [(last, output) for last in self._leaving(self.network.readout)]
        twice = next((edge for edge in self.edges if self.edges.count(edge) > 1), None)
        if twice:
            raise ExchangeError(
                f"{twice[0]!r} reaches {twice[1]!r} twice without a weight, and NIR has one edge between two nodes. "
                "Use one `Diagonal` in place of two `Identity`."
            )
        metadata = {} if self.step is None else {NOTES: {"dt_ms": self.step}}
        return self.nir.NIRGraph(self.nodes, self.edges, metadata=metadata)

    def _name(self, wanted: str) -> str:
        """A name that is free, and that a file and the frameworks can use as it is."""
        clean = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_") or "node"
        name, number = clean, 1
        while name in self.nodes:
            number += 1
            name = f"{clean}_{number}"
        return name

    def _add(self, wanted: str, node: Any, **metadata: Any) -> str:
        node.metadata = {NOTES: metadata}
        name = self._name(wanted)
        self.nodes[name] = node
        return name

    def _seconds(self) -> float:
        if self.step is None:
            raise ExchangeError("Nothing in this network says how long a time step is: pass `to_nir(dt=...)` [ms].")
        return self.step / SECOND

    def _add_neuron(self, name: str, neuron: AbstractNeuron) -> None:
        nir, size, step = self.nir, neuron.size, self._seconds()
        cell, metadata = neuron, {"population": name, "step_ms": self.step}
        if isinstance(neuron, Filtered):
            cell = neuron.neuron
            metadata |= _said(neuron, "tau", "synapse_")
            tau_syn, w_in = self._leak(name, neuron, neuron.tau)
        if not isinstance(cell, LIF | LeakyReadout):
            reason = next((why for cls, why in _REASONS.items() if isinstance(cell, cls)), "NIR has no such neuron.")
            raise ExchangeError(f"Population {name!r} is a `{type(cell).__name__}`: {reason}")
        tau_name = "tau_mem" if isinstance(cell, LIF) else "tau"
        metadata |= _said(cell, tau_name, "")
        zero = np.zeros(size)
        if _never_leaks(cell, tau_name):
            self._check_integrator(name, neuron, cell)
            r = np.full(size, 1 / step)
            if isinstance(cell, LIF):
                self._check_reset(name, cell, "tau_mem=inf")
                node = nir.IF(r=r, v_threshold=np.full(size, float(cell.threshold)), v_reset=zero)
            else:
                node = nir.I(r=r)
        else:
            tau, r = self._leak(name, cell, getattr(cell, tau_name))
            if isinstance(cell, LeakyReadout) or (self._check_reset(name, cell) and self.subtract == "loop"):
                node = nir.LI(tau=tau, r=r, v_leak=zero)
                if isinstance(neuron, Filtered):
                    node = nir.CubaLI(tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=zero, w_in=w_in)
            else:
                spikes = {"v_threshold": np.full(size, float(cell.threshold)), "v_reset": zero}
                node = nir.LIF(tau=tau, r=r, v_leak=zero, **spikes)
                if isinstance(neuron, Filtered):
                    node = nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=zero, w_in=w_in, **spikes)
        self.entry[name] = self.exits[name] = self._add(name, node, **metadata)
        if isinstance(cell, LIF) and cell.reset == "subtract" and self.subtract == "loop":
            self._add_loop(name, neuron, cell, tau, r)

    def _leak(self, name: str, neuron: Any, tau: Any) -> tuple[np.ndarray, np.ndarray]:
        alpha = np.asarray(decay(tau, neuron.dt), np.float64)
        if not (np.isfinite(alpha) & (alpha >= 0) & (alpha < 1)).all():
            raise ExchangeError(
                f"Population {name!r}: time constants of {tau} ms leave {alpha} after a step; NIR can say numbers "
                "from 0 to less than 1."
            )
        return continuous(alpha, neuron.normalised, neuron.size, self._seconds())

    def _check_reset(self, name: str, neuron: LIF, condition: str | None = None) -> bool:
        """Whether the neuron subtracts its threshold; refuses where that, or a refractory period, cannot be said."""
        if neuron.refractory:
            raise ExchangeError(
                f"Population {name!r} has a refractory period of {neuron.refractory} steps, which NIR cannot say. "
                "Train with `LIF(refractory=0)`."
            )
        subtracts = neuron.reset == "subtract"
        if subtracts and self.subtract == "refuse":
            raise ExchangeError(
                f"Population {name!r} subtracts its threshold after a spike; NIR's neurons start from a value. Train "
                'with `LIF(reset="zero")`, or pass `subtract="loop"` (the same spikes; a threshold and a loop, which '
                'few frameworks read) or `subtract="zero"` (another network).'
            )
        if subtracts and self.subtract == "loop" and condition:
            raise ExchangeError(f'Population {name!r}: `subtract="loop"` is not written with {condition}.')
        return subtracts

    def _check_integrator(self, name: str, neuron: AbstractNeuron, cell: Any) -> None:
        if cell.normalised or isinstance(neuron, Filtered):
            raise ExchangeError(
                f"Population {name!r} never leaks; NIR can say so only without a filter and without `normalised` "
                "(whose gain would be 0)."
            )

    def _add_loop(self, name: str, neuron: AbstractNeuron, cell: LIF, tau: np.ndarray, r: np.ndarray) -> None:
        """The spike of a neuron, and its way back, one step later, as a current that subtracts the threshold."""
        if isinstance(neuron, Filtered):
            raise ExchangeError(f'Population {name!r}: `subtract="loop"` would lead the reset through its filter.')
        threshold = np.full(cell.size, float(cell.threshold))
        gain = np.ones(cell.size) if not cell.normalised else self._seconds() / tau
        spike = self._add(f"{name}_spike", self.nir.Threshold(threshold))
        reset = self._add(f"{name}_reset", self.nir.Scale(-threshold / gain))
        self.edges += [(self.entry[name], spike), (spike, reset), (reset, self.entry[name])]
        self.exits[name] = spike

    def _add_chain(self, label: str, projection: Projection) -> list[str]:
        weight, bias = self._weights(label, projection), self._bias(label, projection)
        chain: list[str] = []
        order = list(self.network.projections)
        metadata: dict[str, Any] = {"projection": label, "order": order.index(label)}
        if isinstance(self.network.populations[projection.target], Linear):
            metadata["target"] = projection.target
        if projection.delay and not self._is_cycle(projection):
            size = (
                self.network.inputs if projection.source == INPUT else self.network.populations[projection.source].size
            )
            delay = np.full(size, projection.delay * self._seconds())
            chain.append(self._add(f"{label}_delay", self.nir.Delay(delay), **metadata))
        if bias is not None:
            matrix = np.diag(weight) if weight.ndim == 1 else weight
            first = self._biases(projection.target)[0].label
            metadata |= {"bias": first, "bias_order": order.index(first)}
            chain.append(self._add(label, self.nir.Affine(matrix, bias.astype(matrix.dtype)), **metadata))
        elif weight.ndim == 2:
            chain.append(self._add(label, self.nir.Linear(weight), **metadata))
        elif not self._is_link(projection):
            chain.append(self._add(label, self.nir.Scale(weight), **metadata))
        return chain

    def _is_cycle(self, projection: Projection) -> bool:
        """Whether a cycle of edges says the delay: frameworks give a neuron its own activity of the step before."""
        return projection.delay == 1 and projection.source == projection.target and projection.target in self.entry

    def _is_link(self, projection: Projection) -> bool:
        sliced = projection.source_slice is not None or projection.target_slice is not None
        return isinstance(projection.synapse, Identity) and not sliced

    def _weights(self, label: str, projection: Projection) -> np.ndarray:
        """All weights between the two populations: a matrix, or a vector if one-to-one."""
        moments = self.moments[label]
        if moments.variance is not None:
            raise ExchangeError(
                f"Projection {label!r} has random weights, and NIR has numbers only: export `network.sample(key)`."
            )
        weight = np.asarray(jax.device_get(moments.mean))
        if not np.isfinite(weight).all():
            raise ExchangeError(f"Projection {label!r} has weights that are not finite numbers.")
        if projection.source_slice is None and projection.target_slice is None:
            return weight
        populations, inputs = self.network.populations, self.network.inputs
        columns = {INPUT: inputs, BIAS: 1}.get(projection.source) or populations[projection.source].size
        whole = np.zeros((populations[projection.target].size, columns), weight.dtype)
        rows = slice(*(projection.target_slice or (None,)))
        whole[rows, slice(*(projection.source_slice or (None,)))] = np.diag(weight) if weight.ndim == 1 else weight
        return whole

    def _biases(self, target: str) -> list[Projection]:
        return [p for p in self.network.projections.values() if p.target == target and p.source == BIAS]

    def _bias(self, label: str, projection: Projection) -> np.ndarray | None:
        """All biases of the target, on the first projection to it that is no cycle (which starts one step late)."""
        biases = self._biases(projection.target)
        others = [
            p.label
            for p in self.network.projections.values()
            if p.target == projection.target and p.source != BIAS and not self._is_cycle(p)
        ]
        if not biases or others[0] != label:
            return None
        return np.sum([self._weights(p.label, p).reshape(-1) for p in biases], axis=0)

    def _leaving(self, name: str) -> list[str]:
        """The nodes whose sum is the activity of a population, or the input."""
        if name in self.exits:
            return [self.exits[name]]
        into = [p for p in self.network.projections.values() if p.target == name and p.source != BIAS]
        return [node for p in into for node in (self.chains[p.label][-1:] or self._leaving(p.source))]

    def _connect(self, label: str, projection: Projection) -> None:
        chain = self.chains[label]
        if chain:
            self.edges += [(last, chain[0]) for last in self._leaving(projection.source)]
            self.edges += list(itertools.pairwise(chain))
        if projection.target in self.entry:
            ends = chain[-1:] or self._leaving(projection.source)
            self.edges += [(last, self.entry[projection.target]) for last in ends]


def _said(neuron: Any, tau: str, prefix: str) -> dict[str, Any]:
    """How the network itself says what its decay is: no rounding on the way back."""
    value = getattr(neuron, tau)
    fields = {
        "tau": float(value) if isinstance(value, float | int) else np.asarray(jax.device_get(value)),
        "dt": float(neuron.dt),
        "normalised": bool(neuron.normalised),
    }
    return {prefix + name: value for name, value in fields.items()}


def _never_leaks(neuron: Any, tau: str) -> bool:
    value = getattr(neuron, tau)
    return bool(np.all(np.isinf(np.asarray(jax.device_get(value), np.float64))))
