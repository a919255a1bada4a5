from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from retrograde.network import Network
from retrograde.synapses import Masked


class RemovalCurves(NamedTuple):
    """What remains of a network as its connections are taken away.

    Attributes:
        fractions: Shares of `size` that were removed [1].
        size: Number of connections that 1 stands for.
        scores: What was measured, by the set of connections, `"fraction repeat"`.
    """

    fractions: Float[np.ndarray, " fraction"]
    size: int
    scores: dict[str, Float[np.ndarray, "fraction repeat"]]


def remove_connections(network: Network, projection: str, mask: Bool[Array, "..."] | np.ndarray) -> Network:
    """Takes connections out of a network: their weight is 0 from now on, without fluctuation.

    Args:
        network: Any network.
        projection: Name of the projection.
        mask: `True` for what goes; shape of its weights, `"post pre"`.

    Returns:
        The network without them.

    Raises:
        ValueError: If there is no such projection, or the mask's shape is not that of its weights.

    Example:
        >>> import jax, jax.numpy as jnp, retrograde as rg
        >>> task = rg.tasks.DelayedRecall(symbols=2, delay=2)
        >>> network = rg.Network.single_layer(task, rg.neurons.LeakyRate(3), key=jax.random.key(0))
        >>> less = remove_connections(network, "hidden->hidden", ~jnp.eye(3, dtype=bool))
        >>> int((less.moments()["hidden->hidden"].mean != 0).sum())
        3
    """
    if projection not in network.projections:
        raise ValueError(f"no projection {projection!r}; there are {', '.join(network.projections)}.")
    old = network.projections[projection].synapse
    return eqx.tree_at(lambda n: n.projections[projection].synapse, network, Masked(old, ~jnp.asarray(mask, bool)))


def choose_connections(
    among: Bool[np.ndarray, "..."] | Float[np.ndarray, "..."], count: int, key: Key[Array, ""]
) -> Bool[np.ndarray, "..."]:
    """Picks connections.

    Args:
        among: `True` for those to pick from, each equally likely; or how important each is, the most important first.
        count: How many; all if there are fewer.
        key: Seeds the choice.

    Returns:
        `True` for those picked, of the shape of `among`.
    """
    among = np.asarray(among)
    if among.dtype == bool:
        order = np.flatnonzero(among)[np.asarray(jr.permutation(key, int(among.sum())))]
    else:
        order = np.argsort(-among.ravel(), kind="stable")
    chosen = np.zeros(among.size, bool)
    chosen[order[:count]] = True
    return chosen.reshape(among.shape)


def removal_curves(
    network: Network,
    projection: str,
    sets: Mapping[str, Bool[np.ndarray, "..."] | Float[np.ndarray, "..."]],
    score: Callable[[Network, Key[Array, ""]], float],
    *,
    key: Key[Array, ""],
    count: int | None = None,
    fractions: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    repeats: int = 1,
) -> RemovalCurves:
    """Measures a network as more and more of its connections are removed, from each of several sets the same number.

    Args:
        network: Any network.
        projection: Whose connections go.
        sets: What to remove from, by name: see `choose_connections`. For a control give all connections; a set with
            fewer than `count` is used up early.
        score: Measures what is left, given a key for its noise.
        key: Seeds the choices and the noise; the sets meet the same noise.
        count: Number of connections that a fraction of 1 removes; the size of the first set if `None`.
        fractions: Shares of `count` to remove.
        repeats: Choices per point.

    Returns:
        The scores.

    Raises:
        ValueError: If a set is empty or of the wrong shape, or `count` is not positive.

    Source:
        After Zou, Li & Huang (2023), Phys. Rev. E 107, 024307. Differs: random choices are random (their control
        removes the inputs of the first neurons; see the page of the paper).
    """
    first = next(iter(sets.values()))
    count = int(np.sum(first) if np.asarray(first).dtype == bool else np.size(first)) if count is None else count
    if count < 1:
        raise ValueError(f"`removal_curves` has nothing to remove: the set {next(iter(sets))!r} is empty.")
    scores = {name: np.zeros((len(fractions), repeats)) for name in sets}
    for place, fraction in enumerate(fractions):
        for repeat in range(repeats):
            choice_key, noise_key = jr.split(jr.fold_in(jr.fold_in(key, place), repeat))
            for number, (name, among) in enumerate(sets.items()):
                chosen = choose_connections(among, round(fraction * count), jr.fold_in(choice_key, number))
                scores[name][place, repeat] = score(remove_connections(network, projection, chosen), noise_key)
    return RemovalCurves(np.asarray(fractions, np.float64), count, scores)
