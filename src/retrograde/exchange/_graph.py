"""A NIR graph as plain nodes and edges, checked."""

from typing import Any

import numpy as np

from retrograde.exchange._nir import NOTES, ExchangeError

NEURONS = ("LIF", "LI", "CubaLIF", "CubaLI", "IF", "I")
WEIGHTS = ("Linear", "Affine", "Scale")
# The array whose shape is the population's.
SHAPED = {"LIF": "tau", "LI": "tau", "CubaLIF": "tau_mem", "CubaLI": "tau_mem", "IF": "r", "I": "r"} | {
    "Scale": "scale",
    "Delay": "delay",
}
_ARRAYS = {
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "IF": ("r", "v_threshold", "v_reset"),
    "I": ("r",),
    "Linear": ("weight",),
    "Affine": ("weight", "bias"),
    "Scale": ("scale",),
    "Delay": ("delay",),
    "Threshold": ("threshold",),
    "Input": (),
    "Output": (),
}


def type_of(node: Any) -> str:
    """The name of a node's type."""
    return type(node).__name__


def notes(node: Any) -> dict[str, Any]:
    """What `to_nir` noted on a node, or on a graph; nothing on those of others."""
    metadata = getattr(node, "metadata", None)
    ours = metadata.get(NOTES) if isinstance(metadata, dict) else None
    return ours if isinstance(ours, dict) else {}


def unpack(graph: Any, prefix: str = "") -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The nodes and edges of a graph, those of the graphs inside it among them."""
    nodes, edges = dict(graph.nodes), [(str(a), str(b)) for a, b in graph.edges]
    for a, b in edges:
        for end in (a, b):
            if end not in nodes:
                raise ExchangeError(f"The edge {prefix + a!r} → {prefix + b!r} names {end!r}, which is no node.")
    for name in [name for name, node in nodes.items() if type_of(node) == "NIRGraph"]:
        inner, inside = unpack(nodes.pop(name), f"{prefix}{name}.")
        doors = {}
        for kind in ("Input", "Output"):
            found = [key for key, node in inner.items() if type_of(node) == kind]
            if len(found) != 1:
                raise ExchangeError(
                    f"The graph {prefix + name!r} has {len(found)} nodes of type {kind}; it must have one."
                )
            doors[kind] = found[0]
            del inner[found[0]]
        if (doors["Input"], doors["Output"]) in inside:
            raise ExchangeError(f"The graph {prefix + name!r} leads its input past its nodes; join what is outside it.")
        first = [b for a, b in inside if a == doors["Input"]]
        last = [a for a, b in inside if b == doors["Output"]]
        whole = [(f"{name}.{a}", f"{name}.{b}") for a, b in inside if a in inner and b in inner]
        for a, b in edges:
            starts = [f"{name}.{end}" for end in last] if a == name else [a]
            ends = [f"{name}.{end}" for end in first] if b == name else [b]
            whole += [(start, end) for start in starts for end in ends]
        edges = whole
        nodes |= {f"{name}.{key}": node for key, node in inner.items()}
    return nodes, edges


def check_node(name: str, node: Any) -> None:
    """Refuses types that have no counterpart, numbers that are not finite, and arrays that do not fit each other."""
    kind = type_of(node)
    if kind not in _ARRAYS:
        raise ExchangeError(
            f"Node {name!r} is of type {kind}, which has no counterpart here. Known are {', '.join(_ARRAYS)}, and "
            "graphs of these."
        )
    for field in _ARRAYS[kind]:
        try:
            value = np.asarray(getattr(node, field), float)
        except (TypeError, ValueError):
            raise ExchangeError(f"`{field}` of node {name!r} is no array of numbers.") from None
        if not np.isfinite(value).all():
            raise ExchangeError(f"`{field}` of node {name!r} has values that are not finite numbers.")
    shapes = {np.shape(getattr(node, field)) for field in _ARRAYS[kind]}
    if kind in NEURONS and len(shapes) > 1:
        raise ExchangeError(
            f"The arrays of node {name!r} have different shapes: {', '.join(map(str, sorted(shapes)))}."
        )
    if kind in ("Linear", "Affine") and np.ndim(node.weight) != 2:
        raise ExchangeError(f"`weight` of node {name!r} must be a matrix, got shape {np.shape(node.weight)}.")
    if kind == "Affine" and np.shape(node.bias) != node.weight.shape[:1]:
        raise ExchangeError(
            f"`bias` of node {name!r} must have shape {node.weight.shape[:1]}, one number for each row of the weights, "
            f"got {np.shape(node.bias)}."
        )
