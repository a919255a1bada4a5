"""From a NIR graph to a network."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from retrograde.exchange._graph import NEURONS, SHAPED, WEIGHTS, check_node, notes, type_of, unpack
from retrograde.exchange._nir import SECOND, ExchangeError, continuous, nir_package
from retrograde.network import BIAS, INPUT, Network, Projection
from retrograde.neurons import LIF, AbstractNeuron, Filtered, LeakyReadout, Linear
from retrograde.neurons._leaky import decay
from retrograde.synapses import AbstractSynapse, Dense, Diagonal, Identity


def from_nir(graph: Any, *, dt: float | None = None) -> Network:
    r"""Reads a NIR graph as a network, whose time step is the graph's forward Euler step of `dt`.

    The inverse of `to_nir`: a graph that it wrote comes back as the network it was. In any other, a decay is
    $\alpha = 1 - dt/\tau$ in a step, so $\tau_\mathrm{mem} = -dt/\ln(1 - dt/\tau)$; a resistance $r = 1$ is read as
    `normalised`, $r = \tau/dt$ as its opposite, and every other one becomes part of the weights, as do thresholds that
    differ between the neurons of a population. A cycle without `Delay` takes one step: the activity of a population
    that comes later on the way from the input arrives in the next one. Weights that lead to weights, or to the output,
    meet in `Linear` units.

    Args:
        graph: A `nir.NIRGraph` of vectors with one `Input` and one `Output`; graphs inside it are unpacked.
        dt: Length of a time step [ms]; that of the graph's metadata if `None`. All time constants must be longer.

    Returns:
        The network. Time constants that differ between neurons are arrays, so they can be trained.

    Raises:
        ImportError: If the package `nir` is missing.
        ExchangeError: If a node has no counterpart, shapes do not fit, a number is not finite, or `dt` is missing, too
            long, or no part of a delay.
        NetworkError: If a population cannot be reached from the input, or does not reach the output.
    """
    nir = nir_package()
    if not isinstance(graph, nir.NIRGraph):
        raise ExchangeError(f"`from_nir` reads a `nir.NIRGraph`, got {type(graph).__name__}.")
    if dt is None:
        dt = notes(graph).get("dt_ms")
    if dt is None:
        raise ExchangeError("The graph does not say how long a time step is: pass `from_nir(dt=...)` [ms].")
    if not 0 < dt < float("inf"):
        raise ExchangeError(f"`from_nir(dt=...)` is the length of a time step in ms, a positive number, got {dt}.")
    nodes, edges = unpack(graph)
    return _Import(nodes, edges, float(dt)).network()


class _Link(NamedTuple):
    """An edge between two nodes that are no delays.

    Attributes:
        source: Name of a node.
        target: Name of a node.
        delay: Steps, or `None` where no `Delay` says.
    """

    source: str
    target: str
    delay: int | None


class _Import:
    """One import: the graph's parts, checked and named."""

    def __init__(self, nodes: dict[str, Any], edges: list[tuple[str, str]], dt: float):
        self.nodes, self.edges, self.dt, self.step = nodes, edges, dt, dt / SECOND
        self.input, self.output = self._only("Input"), self._only("Output")
        for name, node in nodes.items():
            check_node(name, node)
        self.thresholds = self._merge_loops()
        self.sizes = {name: self._size(name) for name in self.nodes}  # rows and columns
        self._check_edges()
        self.links = [
            link for name, node in self.nodes.items() if type_of(node) != "Delay" for link in self._links(name)
        ]
        self.into = {name: [link for link in self.links if link.target == name] for name in self.nodes}
        self.out = {name: [link for link in self.links if link.source == name] for name in self.nodes}
        weights = [np.asarray(node.weight) for node in nodes.values() if type_of(node) in ("Linear", "Affine")]
        floating = [w.dtype for w in weights if np.issubdtype(w.dtype, np.floating)]
        self.dtype = np.result_type(*floating) if floating else jnp.zeros(0).dtype  # of what has none of its own
        self.populations: dict[str, AbstractNeuron] = {}
        self.gains: dict[str, np.ndarray] = {}  # factors of the weights onto a population, one for each of its neurons
        self.projections: list[_Part] = []

    def network(self) -> Network:
        sends, takes = self._places()
        for link in self.links:
            is_readout = link.target == self.output and takes[self.output] == sends.get(link.source)
            if link.source in sends and link.target in takes and not is_readout:
                self._project(sends[link.source], takes[link.target], Identity(self.sizes[link.source][0]), link.delay)
        for name, node in self.nodes.items():
            if type_of(node) in WEIGHTS:
                (first, *others), (after, *_) = self.into[name], self.out[name]
                source, delay = (takes[name], 0) if others else (sends[first.source], first.delay)
                self._add_weights(name, node, source, sends.get(name) or takes[after.target], delay)
        _imply_delays(self.projections)
        return Network(
            self.populations, _named(self.projections), inputs=self.sizes[self.input][0], readout=takes[self.output]
        )

    def _only(self, kind: str) -> str:
        found = [name for name, node in self.nodes.items() if type_of(node) == kind]
        if len(found) != 1:
            names = f", {', '.join(map(repr, found))}" if found else ""
            raise ExchangeError(f"The graph has {len(found)} nodes of type {kind}{names}; it must have exactly one.")
        return found[0]

    def _before(self, name: str) -> list[str]:
        return [a for a, b in self.edges if b == name]

    def _after(self, name: str) -> list[str]:
        return [b for a, b in self.edges if a == name]

    def _merge_loops(self) -> dict[str, np.ndarray]:
        """Takes an `LI`, a `Threshold` and the `Scale` that leads back from there as one spiking neuron."""
        merged = {}
        for name in [name for name, node in self.nodes.items() if type_of(node) == "Threshold"]:
            threshold, before = np.asarray(self.nodes[name].threshold, float), self._before(name)
            li = before[0] if len(before) == 1 and type_of(self.nodes[before[0]]) == "LI" else None
            back = [
                b
                for b in self._after(name)
                if (type_of(self.nodes[b]), self._before(b), self._after(b)) == ("Scale", [name], [li])
            ]
            if li is None or self._after(li) != [name] or not back:
                raise ExchangeError(
                    f"Node {name!r} is a threshold on its own, which is no neuron here. One is read only behind an "
                    "`LI` that its spikes lead back to through a `Scale`."
                )
            gain = self.step * np.asarray(self.nodes[li].r, float) / np.asarray(self.nodes[li].tau, float)
            scales = {b: np.asarray(self.nodes[b].scale, float) for b in back}
            resets = [
                b
                for b, scale in scales.items()
                if scale.shape == gain.shape == threshold.shape
                and np.allclose(gain * scale, -threshold, rtol=1e-6, atol=0)
            ]
            if not resets:
                raise ExchangeError(
                    f"Node {back[0]!r} leads spikes back, but does not subtract the threshold of {name!r} in a step of "
                    f"{self.dt} ms, so the two are no neuron of ours. Was the graph written for another `dt`?"
                )
            self.edges = [(li if a == name else a, b) for a, b in self.edges if resets[0] not in (a, b) and b != name]
            del self.nodes[name], self.nodes[resets[0]]
            merged[li] = threshold
        return merged

    def _size(self, name: str) -> tuple[int, int]:
        """Number of values that leave and that enter a node; numbers shared by all neurons fit what enters."""
        node = self.nodes[name]
        kind = type_of(node)
        if kind in ("Linear", "Affine"):
            rows, columns = node.weight.shape
            return rows, columns
        shape = node.input_type["input"] if kind in ("Input", "Output") else np.shape(getattr(node, SHAPED[kind]))
        if kind in (*NEURONS, "Delay") and shape in ((), (1,)):
            before = [self.nodes[b] for b in self._before(name)]
            rows = {len(node.weight) for node in before if hasattr(node, "weight")}
            shape = rows or (1,)
        shape = () if shape is None else tuple(shape)
        (size,) = (int(n) for n in shape) if len(shape) == 1 else (0,)
        if size < 1:
            raise ExchangeError(f"Node {name!r} of type {kind} has shape {_tuple(shape)}; only vectors can be read.")
        return size, size

    def _check_edges(self) -> None:
        for a, b in self.edges:
            if self.edges.count((a, b)) > 1:
                raise ExchangeError(f"The edge {a!r} → {b!r} is there twice.")
            if self.sizes[a][0] != self.sizes[b][1]:
                raise ExchangeError(
                    f"The edge {a!r} → {b!r} joins {self.sizes[a][0]} values to {self.sizes[b][1]}; the shapes of the "
                    "two nodes do not fit."
                )
        for name, node in self.nodes.items():
            if name != self.input and not self._before(name):
                raise ExchangeError(f"Nothing enters node {name!r} of type {type_of(node)}.")
            if name != self.output and not self._after(name):
                raise ExchangeError(f"Node {name!r} of type {type_of(node)} leads nowhere.")

    def _links(self, name: str) -> list[_Link]:
        """What a node leads to, through delays."""
        links = []
        for after in self._after(name):
            ends: list[tuple[str, int | None, list[str]]] = [(after, None, [])]
            while ends:
                end, steps, passed = ends.pop()
                if type_of(self.nodes[end]) != "Delay":
                    links.append(_Link(name, end, steps))
                elif end in passed:
                    raise ExchangeError(f"The delay {end!r} leads back to itself.")
                else:
                    ends += [(b, (steps or 0) + self._steps(end), [*passed, end]) for b in self._after(end)]
        return links

    def _steps(self, name: str) -> int:
        delay = np.unique(np.asarray(self.nodes[name].delay, float))
        steps = delay[0] / self.step
        if len(delay) > 1 or steps < 0 or abs(steps - round(steps)) > 1e-6 * max(1.0, steps):
            raise ExchangeError(
                f"The delay {name!r} is {', '.join(f'{SECOND * d:g}' for d in delay)} ms; here all connections of a "
                f"projection have one delay, a whole number of time steps of {self.dt:g} ms."
            )
        return round(steps)

    def _places(self) -> tuple[dict[str, str], dict[str, str]]:
        """Populations by the nodes whose values they send on, and by those that take the sum of what enters."""
        sends, takes = {self.input: INPUT}, {}
        for name, node in self.nodes.items():
            if type_of(node) in NEURONS:
                neuron, gain = self._neuron(name, node)
                sends[name] = takes[name] = self._add(str(notes(node).get("population", name)), neuron)
                self.gains[sends[name]] = gain
        (last, *more) = self.into[self.output]
        if not more and last.delay is None and last.source in takes:
            takes[self.output] = takes[last.source]
        else:
            takes[self.output] = self._add(self._target(self.output, "readout"), Linear(self.sizes[self.output][0]))
        weights = [name for name, node in self.nodes.items() if type_of(node) in WEIGHTS]
        for name in weights:
            if len(self.into[name]) > 1:
                takes[name] = self._add(self._target(name, f"{name}_sum"), Linear(self.sizes[name][1]))
        for name in weights:
            after = self.out[name]
            if len(after) > 1 or after[0].delay is not None or after[0].target not in takes:
                wanted = str(notes(self.nodes[name]).get("target", name))
                sends[name] = self._add(wanted, Linear(self.sizes[name][0]))
        return sends, takes

    def _target(self, name: str, otherwise: str) -> str:
        """What `to_nir` said that the units are called in which this meets."""
        said = [notes(self.nodes[link.source]).get("target") for link in self.into[name]]
        return str(next((target for target in said if target is not None), otherwise))

    def _add(self, wanted: str, neuron: AbstractNeuron) -> str:
        name, number = wanted, 1
        while name in self.populations or name in (INPUT, BIAS):
            number += 1
            name = f"{wanted}_{number}"
        self.populations[name] = neuron
        return name

    def _neuron(self, name: str, node: Any) -> tuple[AbstractNeuron, np.ndarray]:
        """The neuron, and what the weights onto it are to be multiplied by."""
        kind, (size, _) = type_of(node), self.sizes[name]
        for field in ("v_leak", "v_reset"):
            if np.any(getattr(node, field, 0)):
                raise ExchangeError(
                    f"Node {name!r} has `{field}` other than 0; neurons rest at 0 and start from 0 here."
                )
        gain = np.ones(size)
        threshold = self.thresholds.get(name, getattr(node, "v_threshold", None))
        if threshold is not None:
            thresholds = np.broadcast_to(np.asarray(threshold, float), (size,))
            if not (thresholds > 0).all():
                raise ExchangeError(f"Node {name!r} has a threshold that is not positive.")
            threshold = float(thresholds[0])
            gain = threshold / thresholds
        if kind in ("IF", "I"):
            decays: dict[str, Any] = {"tau": math.inf, "dt": self.dt, "normalised": False}
            gain = gain * self._near(np.asarray(node.r, float) * self.step, 1.0)
        else:
            decays, factor = self._decay(name, node, node.tau_mem if kind.startswith("Cuba") else node.tau, node.r, "")
            gain = gain * factor
        if threshold is None:
            neuron: AbstractNeuron = LeakyReadout(size, **decays)
        else:
            decays["tau_mem"] = decays.pop("tau")
            reset = "subtract" if name in self.thresholds else "zero"
            neuron = LIF(size, threshold=threshold, reset=reset, **decays)  # type: ignore[arg-type]
        if kind.startswith("Cuba"):
            filters, factor = self._decay(name, node, node.tau_syn, node.w_in, "synapse_")
            neuron, gain = Filtered(neuron=neuron, **filters), gain * factor
        return neuron, gain

    def _decay(self, name: str, node: Any, tau: Any, r: Any, prefix: str) -> tuple[dict[str, Any], Any]:
        """Time constant, step and gain as a neuron here has them, and what is left of the resistance."""
        size = self.sizes[name][0]
        tau, r = (np.broadcast_to(np.asarray(value, float), (size,)) for value in (tau, r))
        ours = notes(node)
        if f"{prefix}tau" in ours and ours.get("step_ms") == self.dt:
            said = ours[f"{prefix}tau"]
            value = float(said) if np.ndim(said) == 0 else jnp.asarray(said)
            step, normalised = float(ours[f"{prefix}dt"]), bool(ours[f"{prefix}normalised"])
            if np.size(value) in (1, size):
                wanted = continuous(decay(value, step), normalised, size, self.step)
                if np.allclose(wanted, (tau, r), rtol=1e-5, atol=0):  # else somebody changed the node since
                    return {"tau": value, "dt": step, "normalised": normalised}, 1.0
        if not (tau > self.step).all():
            raise ExchangeError(
                f"Node {name!r} has a time constant of {SECOND * tau.min():g} ms, not longer than a time step of "
                f"{self.dt:g} ms: its forward Euler step would not decay. Pass a smaller `dt`."
            )
        constant = -self.dt / np.log1p(-self.step / tau)
        value = float(constant[0]) if np.ptp(tau) == 0 else jnp.asarray(constant.astype(self.dtype))
        if np.allclose(r, tau / self.step, rtol=1e-5, atol=0):
            return {"tau": value, "dt": self.dt, "normalised": False}, 1.0
        return {"tau": value, "dt": self.dt, "normalised": True}, self._near(r, 1.0)

    @staticmethod
    def _near(value: np.ndarray, one: float) -> Any:
        return one if np.allclose(value, one, rtol=1e-5, atol=0) else value

    def _add_weights(self, name: str, node: Any, source: str, target: str, delay: int | None) -> None:
        gain = self.gains.get(target, np.ones(1))
        weight = _scaled(node.scale if type_of(node) == "Scale" else node.weight, gain)
        synapse = Diagonal(weight) if weight.ndim == 1 else Dense(weight)
        said = notes(node)
        self.projections.append(
            _Part(source, target, synapse, delay, name, said.get("projection"), float(said.get("order", math.inf)))
        )
        if type_of(node) == "Affine":
            bias = Dense(_scaled(node.bias, gain)[:, None])
            self.projections.append(
                _Part(BIAS, target, bias, 0, f"{name}_bias", said.get("bias"), float(said.get("bias_order", math.inf)))
            )

    def _project(self, source: str, target: str, synapse: AbstractSynapse, delay: int | None) -> None:
        gain = self.gains.get(target, np.ones(1))
        if not (gain == 1).all():
            synapse = Diagonal(_scaled(np.ones(synapse.shape[0], self.dtype), gain))
        self.projections.append(_Part(source, target, synapse, delay, f"{source}_{target}"))


@dataclasses.dataclass
class _Part:
    """A projection in the making.

    Attributes:
        source: Name of a population, or of the input or the bias.
        target: Name of a population.
        synapse: Its weights.
        delay: Steps, or `None` where the graph does not say.
        node: A name for it if there is another one from source to target.
        label: What `to_nir` said that it is called.
        order: Which one of the network's projections `to_nir` said that it is. Currents are added in this order.
    """

    source: str
    target: str
    synapse: AbstractSynapse
    delay: int | None
    node: str
    label: Any = None
    order: float = math.inf


def _imply_delays(projections: list[_Part]) -> None:
    """Gives a delay of one step to what leads back, in the order from the input on, and none to the others."""
    edges = [(p.source, p.target) for p in projections if p.delay is None]
    met = [INPUT]
    for name in met:
        met += dict.fromkeys(p.target for p in projections if p.source == name and p.target not in met)
    left, order = met[1:], {}

    def reachable(start: str) -> set[str]:
        found: list[str] = [start]
        for name in found:
            found += dict.fromkeys(b for a, b in edges if a == name and b in left and b not in found)
        return set(found)

    while left:
        # The first that nothing undelayed enters; in a cycle, the first that is met on the way from the input.
        reach = {name: reachable(name) for name in left}
        name = next(name for name in left if all(other in reach[name] for other in left if name in reach[other]))
        order[name] = len(order)
        left.remove(name)
    for part in projections:
        if part.delay is None:
            # A population that nothing reaches from the input is refused by the network.
            is_back = part.source != INPUT and order.get(part.source, 0) >= order.get(part.target, 0)
            part.delay = int(is_back)


def _named(parts: list[_Part]) -> list[Projection]:
    taken: set[str] = set()
    projections = []
    for part in sorted(parts, key=lambda part: part.order):
        plain = Projection(part.source, part.target, part.synapse, part.delay or 0)
        wanted = [part.label, plain.label, part.node]
        wanted += [f"{part.node}_{number}" for number in range(2, len(parts) + 2)]
        name = next(str(name) for name in wanted if name is not None and str(name) not in taken)
        taken.add(name)
        projections.append(plain if name == plain.label else dataclasses.replace(plain, name=name))
    return projections


def _scaled(values: Any, gain: np.ndarray) -> Any:
    """Weights onto neurons, each row by its factor, in their own type if that is a floating one."""
    values = np.asarray(values)
    dtype = values.dtype if np.issubdtype(values.dtype, np.floating) else jnp.zeros(0).dtype
    factor = gain.reshape(-1, *[1] * (values.ndim - 1))
    return jnp.asarray(values.astype(dtype) if (gain == 1).all() else (values * factor).astype(dtype))


def _tuple(shape: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in shape)
