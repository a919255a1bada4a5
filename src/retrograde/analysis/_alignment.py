from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from retrograde.analysis._gradients import Loss, by_owner, rule_gradient, without_feedback
from retrograde.network import Network
from retrograde.rules import BPTT, AbstractRule
from retrograde.tasks import Trials


class Alignment(NamedTuple):
    """How far a rule's gradient agrees with the exact one.

    Attributes:
        cosine: Cosine of the angle between them [1]: 1 the same direction, 0 none in common (also if the rule's
            gradient is 0); NaN if the exact one is 0.
        norm_ratio: Length of the rule's gradient over that of the exact one [1]; NaN if that is 0.
    """

    cosine: float
    norm_ratio: float


def gradient_alignment(
    network: Network,
    trials: Trials,
    rule: AbstractRule,
    *,
    loss: Loss,
    key: Key[Array, ""],
    rule_state: PyTree = None,
    reference: AbstractRule = BPTT(),
) -> dict[str, Alignment]:
    r"""Compares a rule's gradient of a batch with the exact one, layer by layer.

    $$\cos = \frac{\langle g, g^* \rangle}{|g|\,|g^*|}, \qquad \rho = \frac{|g|}{|g^*|},$$

    each over all trained arrays of a projection or population. Both see the same trials and the same noise; the exact
    gradient flows back through the weights themselves, also where a projection has other feedback.

    Args:
        network: The network.
        trials: The batch.
        rule: The rule, which gives $g$.
        loss: `(outputs, trials) -> scalar`, such as `retrograde.losses.cross_entropy`.
        key: Seeds the noise, and what the rule draws.
        rule_state: What the rule has learnt so far; as at the beginning of training if `None`.
        reference: The rule that gives $g^*$, on the network without any `feedback`.

    Returns:
        Cosine and ratio of norms, by the name of the projection or population that has trained arrays, and `"all"`.

    Example:
        >>> import jax, retrograde as rg
        >>> task = rg.tasks.DelayedRecall(symbols=2, delay=3)
        >>> network = rg.Network.single_layer(task, rg.neurons.LeakyRate(5), key=jax.random.key(0))
        >>> trials = task.sample(jax.random.key(1), batch=4)
        >>> rule, loss = rg.rules.TruncatedBPTT(2), rg.losses.cross_entropy
        >>> alignment = rg.analysis.gradient_alignment(network, trials, rule, loss=loss, key=jax.random.key(2))
        >>> round(alignment["hidden->readout"].cosine, 5), alignment["hidden->hidden"].cosine < 0.95
        (1.0, True)

    Source:
        Marschall, Cho & Savin (2020), JMLR 21, compare all recurrent weights, inputs and biases together.
    """
    state = rule.init(network) if rule_state is None else rule_state
    ours = by_owner(rule_gradient(network, trials, rule, loss=loss, rule_state=state, key=key))
    network = without_feedback(network)
    state = reference.init(network)
    exact = by_owner(rule_gradient(network, trials, reference, loss=loss, rule_state=state, key=key))
    found = {name: align(ours[name], exact[name]) for name in exact}
    return found | {"all": align(np.concatenate(list(ours.values())), np.concatenate(list(exact.values())))}


def align(gradient: Float[np.ndarray, " number"], exact: Float[np.ndarray, " number"]) -> Alignment:
    """Compares two gradients.

    Args:
        gradient: A gradient, shape `number`.
        exact: What it should be, shape `number`.

    Returns:
        Cosine and ratio of norms.

    Example:
        >>> align(np.array([3.0, 0.0]), np.array([1.0, 0.0]))
        Alignment(cosine=1.0, norm_ratio=3.0)
    """
    length, true_length = np.linalg.norm(gradient), np.linalg.norm(exact)
    if true_length == 0:
        return Alignment(float("nan"), float("nan"))
    cosine = gradient @ exact / (length * true_length) if length > 0 else 0.0
    return Alignment(float(cosine), float(length / true_length))
