"""What the studies of this paper share."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Key

from retrograde.rules import BPTT, AbstractRule, EProp
from retrograde.synapses import Dense, Masked

# Rule, given the size of random feedback; and whether the reset carries no credit, as it does not in e-prop.
RULES: Mapping[str, tuple[Callable[[float], AbstractRule], bool]] = {
    "bptt": (lambda scale: BPTT(), False),
    "symmetric": (lambda scale: EProp(), True),
    "random": (lambda scale: EProp(feedback="random", scale=scale), True),
}
WORDS = {"bptt": "BPTT", "symmetric": "e-prop, symmetric", "random": "e-prop, random"}


def recurrent(key: Key[Array, ""], neurons: int) -> Masked:
    """N(0, 1/neurons) weights, none from a neuron onto itself."""
    others = ~np.eye(neurons, dtype=bool)
    weight = jr.normal(key, (neurons, neurons)) * neurons**-0.5
    return Masked(Dense(jnp.where(others, weight, 0)), others)
