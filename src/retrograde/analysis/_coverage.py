from collections.abc import Mapping
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from retrograde.analysis._alignment import align
from retrograde.analysis._gradients import rule_gradient, without_feedback
from retrograde.network import Network
from retrograde.rules import BPTT, AbstractRule
from retrograde.tasks import Trials

Reach = Literal["exact", "approximate", "none", "idle", "frozen"]


class CoverageError(ValueError):
    """A rule assigns no credit to parameters that are to be trained."""


class Coverage(NamedTuple):
    """Whether a rule's credit reaches a parameter, and how well.

    Attributes:
        reach: `"exact"` (the gradient of BPTT, to rounding), `"approximate"`, `"none"` (exactly 0 although BPTT's is
            not), `"idle"` (BPTT's is 0 too: these trials say nothing), or `"frozen"` (not to be trained).
        cosine: Cosine of the angle to the exact gradient [1]; NaN where that is 0 or the parameter frozen.
        norm_ratio: Length relative to the exact gradient [1]; NaN likewise.
    """

    reach: Reach
    cosine: float
    norm_ratio: float


def coverage(
    network: Network,
    rule: AbstractRule,
    inputs: Float[Array, "time batch input"] | None = None,
    *,
    key: Key[Array, ""],
) -> dict[str, Coverage]:
    """Finds out which parameters a rule assigns credit to, and how far that is from the exact credit.

    The loss is a random linear function of the outputs of all steps, so that every step and every output counts.

    Args:
        network: The network.
        rule: The rule.
        inputs: Input activity; 12 steps (and the longest delay) of 2 trials, uniform on 0 to 2, if `None`. Give your
            own where these would leave neurons silent.
        key: Seeds inputs, loss, noise, and the feedback that the rule wants where the network has none.

    Returns:
        What reaches each parameter, by its label.

    Example:
        >>> import jax, retrograde as rg
        >>> task = rg.tasks.DelayedRecall(symbols=2, delay=3)
        >>> network = rg.Network.single_layer(task, rg.neurons.LeakyRate(5), key=jax.random.key(0))
        >>> found = rg.coverage(network, rg.rules.TruncatedBPTT(3), key=jax.random.key(1))
        >>> found["hidden->readout.weight"].reach, found["hidden->hidden.weight"].reach
        ('exact', 'approximate')
    """
    inputs_key, loss_key, gradient_key, feedback_key = jr.split(key, 4)
    network = rule.prepare(network, key=feedback_key)
    exact_network = without_feedback(network)
    if inputs is None:
        steps = 12 + max(projection.delay for projection in network.projections.values())
        inputs = jr.uniform(inputs_key, (steps, 2, network.inputs), maxval=2.0)
    slopes = jr.normal(loss_key, (*inputs.shape[:2], network.populations[network.readout].size), inputs.dtype)
    trials = Trials(inputs, targets=slopes, mask=jnp.ones(inputs.shape[:2], inputs.dtype))
    ours, exact = (
        rule_gradient(net, trials, r, loss=_linear, rule_state=r.init(net), key=gradient_key)
        for net, r in ((network, rule), (exact_network, BPTT()))
    )
    tolerance = np.sqrt(np.finfo(inputs.dtype).eps)
    found = {label: _compare(ours[label].ravel(), exact[label].ravel(), tolerance) for label in exact}
    frozen = Coverage("frozen", float("nan"), float("nan"))
    labels = jax.tree.leaves(eqx.filter(exact_network.labels(), jax.tree.map(eqx.is_inexact_array, exact_network)))
    return {label: found.get(label, frozen) for label in labels}


def check_coverage(
    network: Network,
    rule: AbstractRule,
    inputs: Float[Array, "time batch input"] | None = None,
    *,
    key: Key[Array, ""],
) -> dict[str, Coverage]:
    """Refuses a rule that leaves parameters without credit; takes and returns what `coverage` does.

    Raises:
        CoverageError: If no credit reaches a parameter that is not frozen.
    """
    found = coverage(network, rule, inputs, key=key)
    if missing := uncovered(found):
        raise CoverageError(
            f"`{type(rule).__name__}` assigns no credit to {', '.join(missing)}: training would leave "
            f"{'it' if len(missing) == 1 else 'them'} as {'it is' if len(missing) == 1 else 'they are'}. Freeze the "
            "projection on purpose (`Projection(frozen=True)`), or take a rule that reaches it, such as `BPTT()`."
        )
    return found


def uncovered(found: Mapping[str, Coverage]) -> list[str]:
    """Labels of the parameters that no credit reaches although they are to be trained."""
    return [label for label, parameter in found.items() if parameter.reach == "none"]


def _linear(outputs, trials):
    return jnp.sum(outputs * trials.targets)


def _compare(ours: np.ndarray, exact: np.ndarray, tolerance: float) -> Coverage:
    alignment = align(ours, exact)
    if not exact.any():
        return Coverage("idle", *alignment)
    if not ours.any():
        return Coverage("none", *alignment)
    is_exact = np.linalg.norm(ours - exact) <= tolerance * np.linalg.norm(exact)
    return Coverage("exact" if is_exact else "approximate", *alignment)
