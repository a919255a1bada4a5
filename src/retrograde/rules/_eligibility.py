"""Eligibility of weights for given credit, found without any derivative of the network.

The current of a neuron is linear in its weights, at given presynaptic activity. So if the credit of every current is
known beforehand (noise that was added to it, say), the weights' share is that credit times the activity they have
transmitted; what lies behind the current is never differentiated.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key, PyTree

from ..network import Network
from ..noise import normal
from ..synapses import Moments, Tied
from ..unroll import Stage, State, Trajectory, fluctuation, outer_currents, standard_noise, unroll
from ._abstract import AbstractRule
from ._perturbation import Objective

Currents = dict[str, Float[Array, "time batch channel"]]


def currents(
    network: Network,
    moments: dict[str, Moments],
    state: State,
    inputs: Float[Array, "time batch input"],
    activity: dict[str, Float[Array, "time batch neuron"]],
    options: dict[str, Any],
) -> Currents:
    """The current of every population in a run, from the activity that its sources had: linear in the weights."""
    wires = tuple(wire for stage in network.stages for wire in stage.outer + stage.inner)
    whole = Stage(tuple(network.populations), wires, ())
    steps, batch, _ = inputs.shape
    key, drive, noise = (options[name] for name in ("key", "drive", "noise"))
    activity = {"input": inputs, **activity}
    means, variances = outer_currents(network, whole, moments, {}, state.history, activity, drive, state, key, steps)
    # A function of key and time step, so these are the very numbers that the run has drawn.
    eps = standard_noise(network, whole, variances, noise, key, state.step, steps, batch, inputs.dtype)
    return {
        name: mean if variances[name] is None else mean + fluctuation(variances[name], eps[name])
        for name, mean in means.items()
    }


def unroll_eligibly(
    answered: Callable[[], None],
    credit: Callable[[dict[str, Array]], Currents],
    network: Network,
    moments: dict[str, Moments],
    state: State,
    inputs: Float[Array, "time batch input"],
    *,
    record: tuple[str, ...],
    **options: Any,
) -> Trajectory:
    """Runs the network; going backward, answers with the eligibility for `credit`, whatever comes from the loss.

    Args:
        answered: Called when the backward pass comes by.
        credit: Credit of every current, as a function of the activity of all sources; no entry means none.
    """
    if options["resample"] is not None:
        raise ValueError(
            'With `weights="annealed"` the weights differ from step to step, and this rule does not follow them. Use '
            'the default, `weights="mean-field"`, or `weights="quenched"`.'
        )
    # Only the currents below see the weights as something to differentiate.
    still, held, state, inputs, options = _constant((network, moments, state, inputs, options))
    sources = {projection.source for projection in network.projections.values()} & network.populations.keys()
    run = unroll(still, held, state, inputs, record=tuple({*record, *sources}), **options)
    transmitted = currents(still, moments, state, inputs, run.activity, options)
    eligible = jnp.zeros((), inputs.dtype)
    for name, share in credit(run.activity).items():
        eligible += jnp.sum(_constant(share) * transmitted[name])
    recorded = {name: run.activity[name] for name in record}
    return _answer(answered, Trajectory(run.outputs, recorded, run.state), eligible)


def _constant(tree: PyTree) -> PyTree:
    arrays, rest = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)


def _answer(answered: Callable[[], None], trajectory: Trajectory, eligible: Float[Array, ""]) -> Trajectory:
    @jax.custom_vjp
    def tie(trajectory, eligible):
        return trajectory

    def backward(eligible, cotangent):
        answered()
        return None, jnp.ones_like(eligible)

    tie.defvjp(lambda trajectory, eligible: (trajectory, eligible), backward)
    return tie(trajectory, eligible)


def with_eligibility(
    objective: Objective,
    rule: Callable[[Callable[[], None]], AbstractRule],
    params: Network,
    rest: Network,
    key: Key[Array, ""],
) -> tuple[tuple[Array, Any], Network]:
    """Evaluates an objective with a rule that runs networks by `unroll_eligibly`.

    Args:
        objective: What is evaluated.
        rule: Makes the rule, given what it shall call when the backward pass comes by.
        params: The parameters.
        rest: The rest of the network.
        key: Seeds the pass.

    Returns:
        The value of the objective, and the eligibility of every parameter.

    Raises:
        ValueError: If the loss does not depend on the run by a differentiable path, so that nothing comes back.
    """
    answers: list[None] = []
    asked = rule(lambda: answers.append(None))
    loss, pull, aux = eqx.filter_vjp(lambda p: objective(eqx.combine(p, rest), asked, key), params, has_aux=True)
    # With cotangent 0 nothing comes from what depends on the parameters directly, such as a regulariser.
    (eligibility,) = pull(jnp.zeros_like(loss))
    if not answers:
        raise ValueError(
            "The loss does not depend on the network's activity by any path that JAX can differentiate (a share of "
            "right answers does not, for example). The derivative is not used, but the path is: along it this rule "
            "asks for the presynaptic activity. Use `WeightPerturbation()`, which needs nothing but the loss."
        )
    return (loss, aux), eligibility


def white_noise(
    network: Network,
    names: tuple[str, ...],
    key: Key[Array, ""],
    run_key: Key[Array, ""] | None,
    state: State,
    inputs: Float[Array, "time batch input"],
) -> Currents:
    """Standard normal noise for every current of some populations.

    Runs of one objective differ in their noise if they have keys of their own, or if one goes on from the other.
    """
    if run_key is not None:
        key = jr.fold_in(key, jr.bits(run_key, (), jnp.uint32))
    steps, batch, _ = inputs.shape
    order = sorted(network.populations)
    noise = {}
    for name in names:
        neuron = network.populations[name]
        shape = (steps, batch, neuron.size * len(neuron.ports))
        noise[name] = normal(key, state.step, shape, inputs.dtype, order.index(name))
    return noise


def trained_targets(network: Network, params: Network) -> tuple[str, ...]:
    """The populations that trained weights reach."""

    def is_trained(label):
        projection = network.projections[label]
        owner = projection.synapse.to if isinstance(projection.synapse, Tied) else label
        return not projection.frozen and bool(jax.tree.leaves(params.projections[owner]))

    return tuple(sorted({p.target for label, p in network.projections.items() if is_trained(label)}))


def refuse_neuron_parameters(rule: AbstractRule, network: Network) -> None:
    """Refuses trainable parameters of neurons: what they transmit is no current."""
    name = type(rule).__name__
    labels = jax.tree.leaves(eqx.filter(network.labels(), network.trainable()).populations)
    if labels:
        raise ValueError(
            f"`{name}` has no estimate for {', '.join(map(repr, labels))}: an array among a neuron's fields is a "
            f"parameter to be trained, but {name} perturbs currents, which says something about weights only. Give "
            "it as a Python float, which is a constant, or use `WeightPerturbation()`."
        )
