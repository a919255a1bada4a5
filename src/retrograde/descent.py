"""What every way of training does with a gradient."""

import equinox as eqx
import jax
import optax
from jaxtyping import PyTree


def descend(
    optimiser: optax.GradientTransformation,
    params: PyTree,
    optimiser_state: PyTree,
    gradient: PyTree,
    *,
    rest: PyTree,
    trainable: PyTree,
) -> tuple[PyTree, PyTree, PyTree]:
    """Makes the optimiser's step.

    Args:
        optimiser: Any Optax transformation.
        params: The trainable leaves of the network.
        optimiser_state: What the optimiser remembers.
        gradient: Of the trainable leaves.
        rest: The network without them.
        trainable: Which leaves they are: `network.project()` gives whole networks.

    Returns:
        The leaves, back in their ranges; what the optimiser remembers; and the leaves as it left them, which show
        that one is infinite where its range would hide it.
    """
    with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to the power of an integer counter
        updates, optimiser_state = optimiser.update(gradient, optimiser_state, params)
    raw = eqx.apply_updates(params, updates)
    return eqx.filter(eqx.combine(raw, rest).project(), trainable), optimiser_state, raw
