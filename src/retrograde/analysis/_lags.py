from typing import NamedTuple

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from retrograde.analysis._gradients import Loss, by_label, by_owner, trained, without_feedback
from retrograde.network import Network
from retrograde.rules import BPTT, AbstractRule
from retrograde.tasks import Trials


class CreditByLag(NamedTuple):
    """How much of the true credit a rule delivers, band of lags by band of lags.

    Attributes:
        first: Smallest lag of each band [steps], shape `band`; 0 is the step of the loss itself.
        last: Largest lag of each band [steps], shape `band`.
        delivered: Share of the true credit that the rule delivers [1], shape `band`, by projection or population, and
            `"all"` those that do not belong to the readout: 1 all of it, 0 nothing, below 0 the opposite; NaN where
            there is none.
        cosine: Cosine of the angle between what is delivered and the true credit [1], likewise; 0 where nothing is
            delivered.
        size: Length of the true credit [loss per weight], likewise.
    """

    first: Int[np.ndarray, " band"]
    last: Int[np.ndarray, " band"]
    delivered: dict[str, Float[np.ndarray, " band"]]
    cosine: dict[str, Float[np.ndarray, " band"]]
    size: dict[str, Float[np.ndarray, " band"]]


def credit_by_lag(
    network: Network,
    trials: Trials,
    rule: AbstractRule,
    *,
    loss: Loss,
    key: Key[Array, ""],
    bands: int = 6,
    draws: int = 1,
    rule_state: PyTree = None,
    reference: AbstractRule = BPTT(),
) -> CreditByLag:
    r"""Measures how much of the true credit a rule delivers, as a function of lag.

    Only the last step's loss counts. The network runs freely until $\tau$ steps are left, and by the rule from there:
    $G_\tau$, the gradient of that, is the credit of what the weights did in the last $\tau$ steps. With borders
    $0 = \tau_0 < \tau_1 < \dots$ the increments belong to lags from $\tau_{i-1}$ to $\tau_i - 1$, and

    $$\Delta G_i = G_{\tau_i} - G_{\tau_{i-1}}, \qquad
      \mathrm{delivered}_i = \frac{\langle \Delta G_i, \Delta G^*_i \rangle}{|\Delta G^*_i|^2}.$$

    That share depends on how long a gradient is, which an optimiser may undo; the cosine of the angle between the two
    does not.

    So any rule can be measured, one that has no credit in time included. A rule that cuts time into windows, of length
    `window`, counts them from the beginning of the trial, as when it trains.

    Args:
        network: The network.
        trials: The batch; of its targets, the last step's.
        rule: The rule, which gives $\Delta G$.
        loss: `(outputs, trials) -> scalar`, such as `retrograde.losses.cross_entropy`.
        key: Seeds the noise, and what the rule draws.
        bands: Largest number of bands, about evenly spaced in the logarithm of the lag.
        draws: Number of times that a rule which is random is asked; its mean answer counts.
        rule_state: What the rule has learnt so far; as at the beginning of training if `None`.
        reference: The rule that gives $\Delta G^*$, on the network without any `feedback`.

    Returns:
        The bands, and in each the delivered share, its direction, and the true credit's length.

    Raises:
        ValueError: If `bands` or `draws` is not positive.

    Example:
        >>> import jax, retrograde as rg
        >>> task = rg.tasks.DelayedRecall(symbols=2, delay=8)
        >>> network = rg.Network.single_layer(task, rg.neurons.LeakyRate(5), key=jax.random.key(0))
        >>> trials = task.sample(jax.random.key(1), batch=4)
        >>> rule, loss = rg.rules.TruncatedBPTT(1), rg.losses.cross_entropy
        >>> credit = rg.analysis.credit_by_lag(network, trials, rule, loss=loss, key=jax.random.key(2), bands=3)
        >>> [f"{first}-{last}" for first, last in zip(credit.first, credit.last)]
        ['0-0', '1-2', '3-9']
        >>> credit.delivered["hidden->hidden"].round(5).tolist()
        [1.0, 0.0, 0.0]
    """
    for name, value in (("bands", bands), ("draws", draws)):
        if value < 1:
            raise ValueError(f"`credit_by_lag({name}=...)` must be at least 1, got {value}.")
    steps = trials.inputs.shape[0]
    borders = _borders(steps, bands)
    noise_key, rule_key = jr.split(key)
    target = Trials(trials.inputs, trials.targets[-1:], trials.mask[-1:])
    starts = _states(network, target.inputs, tuple(steps - border for border in borders), noise_key)

    def gradients(network: Network, rule: AbstractRule, state: PyTree, key: Key[Array, ""]) -> list[dict]:
        """Of each border the gradient, and of all borders but the readout's under `"all"`."""
        found = []
        for border, start in zip(borders, starts, strict=True):
            late = eqx.tree_at(lambda trials: trials.inputs, target, target.inputs[steps - border :])
            cut = _first_cut(border, steps, rule)
            gradient = _late_gradient(network, late, start, rule, loss, state, noise_key, key, cut)
            found.append(_with_all(by_owner(by_label(network, gradient)), network))
        return found

    true_network = without_feedback(network)
    exact = gradients(true_network, reference, reference.init(true_network), rule_key)
    state = rule.init(network) if rule_state is None else rule_state
    drawn = [gradients(network, rule, state, jr.fold_in(rule_key, draw)) for draw in range(draws)]
    delivered, cosine, size = {}, {}, {}
    for name in exact[0]:
        true = _increments([gradient[name] for gradient in exact])
        ours = np.mean([_increments([gradient[name] for gradient in one]) for one in drawn], axis=0)
        size[name] = np.linalg.norm(true, axis=1)
        # what is left of a difference of two gradients when all but rounding has cancelled is nothing
        rounding = 16 * np.finfo(trials.inputs.dtype).eps * np.array([np.linalg.norm(g[name]) for g in exact])
        some = size[name] > rounding
        along = np.sum(ours * true, axis=1) / np.where(some, size[name], 1)
        delivered[name] = np.where(some, along / np.where(some, size[name], 1), np.nan)
        length = np.linalg.norm(ours, axis=1)
        cosine[name] = np.where(some, along / np.where(length > rounding, length, np.inf), np.nan)
    return CreditByLag(np.array([0, *borders[:-1]]), np.array(borders) - 1, delivered, cosine, size)


def _borders(steps: int, bands: int) -> list[int]:
    """Numbers of last steps, from 1 to all, about evenly spaced in the logarithm."""
    return [steps] if bands == 1 else sorted({round(border) for border in np.geomspace(1, steps, min(bands, steps))})


@eqx.filter_jit
def _states(network, inputs, starts, key):
    """The network's states before the steps `starts`, of a plain run."""

    def step(state, inputs):
        return network(inputs[None], key=key, state=state).state, state

    _, states = jax.lax.scan(step, network.initial_state(inputs.shape[1], inputs.dtype), inputs)
    return [jax.tree.map(lambda leaf, start=start: leaf[start], states) for start in starts]


def _first_cut(border: int, steps: int, rule: AbstractRule) -> int:
    """Of the last `border` steps, how many belong to a window that began before them; 0 if none do."""
    window = None if getattr(rule, "sliding", False) else getattr(rule, "window", None)
    cut = 0 if window is None else -(steps - border) % window
    return cut if cut < border else 0


@eqx.filter_jit
def _late_gradient(network, trials, start, rule, loss, rule_state, noise_key, rule_key, cut):
    def objective(network, rule, _):
        state, inputs = start, trials.inputs
        if cut:  # so that the rule's windows begin where they do in the whole trial
            state, inputs = network(inputs[:cut], rule=rule, key=noise_key, state=state).state, inputs[cut:]
        outputs = network(inputs, rule=rule, key=noise_key, state=state, readout_steps=1).outputs
        return loss(outputs, trials), None

    _, gradient, _ = rule.value_and_grad(objective, network, rule_state=rule_state, key=rule_key)
    return trained(network, gradient)


def _with_all(gradient: dict[str, np.ndarray], network: Network) -> dict[str, np.ndarray]:
    readout = {name for name, p in network.projections.items() if p.target == network.readout} | {network.readout}
    inside = [vector for owner, vector in gradient.items() if owner not in readout]
    return gradient | {"all": np.concatenate(inside) if inside else np.zeros(0)}


def _increments(gradients: list[np.ndarray]) -> Float[np.ndarray, "band number"]:
    return np.diff(np.stack([np.zeros_like(gradients[0]), *gradients]), axis=0)
