"""Optimisers with parameter groups, a halving learning rate and a cheap spectral-norm clip."""

import difflib
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from retrograde.network import Network

Schedule = Callable[..., Float[Array, ""]]  # step → learning rate

NORMALISERS = ("adam", "rmsprop", "sgd")
GROUP_SETTINGS = ("learning_rate", "decay", "halve_every", "halve_first")


def optimiser(
    network: Network | Callable[..., Network],
    name: str = "adam",
    learning_rate: float | Schedule = 1e-3,
    *,
    groups: Mapping[str, Mapping[str, Any]] | None = None,
    decay: float = 1e-4,
    halve_every: int | None = None,
    halve_first: int | None = None,
    clip_spectral: float | None = 10.0,
) -> optax.GradientTransformation:
    r"""An Optax optimiser whose settings may differ between groups of parameters.

    For each matrix $g$ separately, in this order,

    $$g \leftarrow g \min(1, c / \sigma_\mathrm{max}(g)), \quad
      \theta \leftarrow \theta - \eta_k \left(\frac{\hat m}{\sqrt{\hat v} + 10^{-8}} + \lambda\theta\right)$$

    with Adam's bias-corrected moments ($\beta_1 = 0.9$, $\beta_2 = 0.999$). `"rmsprop"` is
    $v \leftarrow 0.9 v + 0.1 g^2$, $\theta \leftarrow \theta - \eta_k\, g / \sqrt{v + 10^{-8}}$ and `"sgd"` is
    $\theta \leftarrow \theta - \eta_k\, g$, where $g$ already contains $\lambda\theta$.

    Args:
        network: The `Network` to be trained (or the function `key -> Network`): its labels make the groups.
        name: `"adam"`, `"rmsprop"` or `"sgd"`.
        learning_rate: $\eta$, or a schedule: step, counted from 0 → $\eta$ [1].
        groups: Pattern over `network.labels()` (`"*.pi"`, `"hidden->hidden.*"`) → settings that differ:
            `learning_rate`, `decay`, `halve_every`, `halve_first`. Where several match, the later wins.
        decay: $\lambda$, for every matrix except absence probabilities (`"*.pi"`), which get none unless a
            group says so; vectors (a neuron's own parameters) get none either [1].
        halve_every: Halve the learning rate after so many steps, never below 1e-8.
        halve_first: Step of the first halving; `halve_every` if not given.
        clip_spectral: $c$, the largest singular value that a gradient matrix may have; `None`: no clip.

    Raises:
        ValueError: If the name or a group's setting is unknown, or a pattern matches no parameter.

    Example:
        >>> import jax, retrograde as rg
        >>> task = rg.tasks.DelayedRecall(symbols=2, delay=2)
        >>> network = rg.Network.single_layer(
        ...     task, rg.neurons.LeakyRate(10), synapse=rg.synapses.SpikeAndSlab, key=jax.random.key(0)
        ... )
        >>> adam = rg.optimiser(network, groups={"*.pi": {"learning_rate": 0.1}})

    Source:
        Zou, Li & Huang (2023), the authors' code; Kingma & Ba (2015), arXiv:1412.6980, with the decoupled decay
        of Loshchilov & Hutter (2019), arXiv:1711.05101, itself scaled by the learning rate.
    """
    if name not in NORMALISERS:
        raise ValueError(f"no optimiser {name!r}; pick one of {', '.join(NORMALISERS)}")
    if clip_spectral is not None and clip_spectral <= 0:
        raise ValueError(f"`clip_spectral` must be positive, got {clip_spectral}; `None` turns the clip off")
    groups = {} if groups is None else groups
    if not isinstance(network, Network):
        network = network(jax.random.key(0))
    labels = trainable_labels(network)
    params = eqx.filter(network, network.trainable())
    leaves = zip(jax.tree.leaves(labels), jax.tree.leaves(params), strict=True)
    matrix = {label: leaf.ndim >= 2 for label, leaf in leaves}
    _check_groups(groups, sorted(matrix))

    def settings_of(label: str) -> tuple:
        weight = matrix[label] and not fnmatch.fnmatchcase(label, "*.pi")
        settings = {
            "learning_rate": learning_rate,
            "decay": decay if weight else 0.0,
            "halve_every": halve_every,
            "halve_first": halve_first,
        }
        for pattern, changes in groups.items():
            if fnmatch.fnmatchcase(label, pattern):
                settings |= changes
        return tuple(settings.items())

    settings = {label: settings_of(label) for label in matrix}
    names = {values: f"group {i}" for i, values in enumerate(dict.fromkeys(settings.values()))}
    transforms = {group: _update_rule(name, **dict(values)) for values, group in names.items()}
    labels = jax.tree.map(lambda label: names[settings[label]], labels)
    # a function: Optax would otherwise keep the labels of this very network, not of one stacked over seeds
    grouped = optax.multi_transform(transforms, lambda params: labels)
    return grouped if clip_spectral is None else optax.chain(clip_by_spectral_norm(clip_spectral), grouped)


def _check_groups(groups: Mapping[str, Mapping[str, Any]], labels: list[str]) -> None:
    for pattern, changes in groups.items():
        if not any(fnmatch.fnmatchcase(label, pattern) for label in labels):
            close = difflib.get_close_matches(pattern, labels, n=3, cutoff=0.3) or labels[:5]
            raise ValueError(
                f"`groups`: {pattern!r} matches no trainable parameter. Nearest: {', '.join(close)}. "
                "Patterns are compared with `network.labels()`; `*` stands for anything."
            )
        for setting in changes:
            if setting not in GROUP_SETTINGS:
                (nearest,) = difflib.get_close_matches(setting, GROUP_SETTINGS, n=1, cutoff=0.0)
                raise ValueError(
                    f"`groups[{pattern!r}]` has no setting {setting!r}; did you mean {nearest!r}? "
                    f"There are {', '.join(GROUP_SETTINGS)}."
                )


def _update_rule(name, *, learning_rate, decay, halve_every, halve_first) -> optax.GradientTransformation:
    if halve_every is not None:
        if callable(learning_rate):
            raise ValueError("`halve_every` halves a number; a schedule as `learning_rate` must do its own halving")
        learning_rate = halving(learning_rate, halve_every, first=halve_first)
    decayed = optax.add_decayed_weights(decay) if decay else optax.identity()
    if name == "adam":
        steps = [optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0), decayed]
    elif name == "rmsprop":
        steps = [decayed, optax.scale_by_rms(decay=0.9, eps=1e-8, eps_in_sqrt=True)]
    else:
        steps = [decayed]
    return optax.chain(*steps, optax.scale_by_learning_rate(learning_rate))


def halving(learning_rate: float, every: int, *, first: int | None = None, floor: float = 1e-8) -> Schedule:
    r"""A learning rate that halves: $\eta_k = \max(\eta_\mathrm{floor}, \eta\, 2^{-n_k})$.

    Args:
        learning_rate: $\eta$ before the first halving [1].
        every: Steps between two halvings.
        first: Step $k$, counted from 0, of the first halving; `every` if not given.
        floor: The rate never falls below this [1].

    Returns:
        The schedule, for `optimiser` or any Optax transformation.

    Example:
        >>> [float(halving(1.0, 10)(k)) for k in (9, 10, 20)]
        [1.0, 0.5, 0.25]

    Source:
        Zou, Li & Huang (2023), the authors' code: `first` is one epoch before `every` there, as it counts from 1.
    """
    if every < 1:
        raise ValueError(f"`every` must be at least 1 step, got {every}")
    first = every if first is None else first

    def schedule(step):
        halvings = jnp.maximum((jnp.asarray(step, jnp.int32) - first) // every + 1, 0)
        # a power of two by its exponent: `0.5**n` and `exp2` are inexact on some devices
        return jnp.maximum(jnp.ldexp(jnp.asarray(learning_rate, jnp.result_type(float)), -halvings), floor)

    return schedule


def clip_by_spectral_norm(limit: float) -> optax.GradientTransformation:
    r"""Scales every gradient matrix to a largest singular value of at most `limit`, each by itself.

    The Frobenius norm is an upper bound of it, so the singular values are computed only for a matrix whose Frobenius
    norm exceeds the limit. Vectors are clipped by their Euclidean norm.

    Args:
        limit: Largest $\sigma_\mathrm{max}$ allowed [unit of the gradient].

    Source:
        Zou, Li & Huang (2023), the authors' code, clips the matrix 2-norm.
    """

    def clip(gradient: Float[Array, "..."]) -> Float[Array, "..."]:
        matrix = gradient.reshape(gradient.shape[0], -1) if gradient.ndim > 1 else gradient.reshape(-1, 1)
        bound = jnp.sqrt(jnp.sum(matrix**2))
        # a loop of at most one pass, not a `cond`: under `vmap` (seeds) a `cond` computes both branches
        # always, a loop only while some element asks for it
        _, largest = jax.lax.while_loop(
            lambda carry: carry[0],
            lambda carry: (jnp.zeros_like(carry[0]), largest_singular_value(matrix)),
            (bound > limit, bound),
        )
        return gradient * jnp.where(largest > limit, limit / largest, 1)

    return optax.stateless(lambda updates, params: jax.tree.map(clip, updates))


def largest_singular_value(matrix: Float[Array, "row column"]) -> Float[Array, ""]:
    """The matrix 2-norm, by squaring the smaller Gram matrix until only its largest eigenvalue is left.

    Products only: a batched `eigvalsh` (under `vmap`) was seen to dead-lock JAX 0.10 on a CPU. Forty squarings leave a
    relative error of at most 2⁻⁴⁰, besides rounding.
    """
    size = jnp.sqrt(jnp.sum(matrix**2))
    unit = matrix / jnp.where(size > 0, size, 1)
    gram = unit @ unit.T if matrix.shape[0] <= matrix.shape[1] else unit.T @ unit

    def square(_, power):
        power = power @ power
        return power / jnp.trace(power)

    power = jax.lax.fori_loop(0, 40, square, gram)
    return size * jnp.sqrt(jnp.sum(power * gram))


def trainable_labels(network: Network) -> PyTree[str]:
    """The network's labels, with `None` wherever nothing is trained."""
    return jax.tree.map(lambda train, label: label if train else None, network.trainable(), network.labels())
