"""What export and import share: the package, and the leak of a neuron in both languages."""

import importlib
from typing import Any

import numpy as np

# Time is in seconds in NIR, in milliseconds here.
SECOND = 1000.0
# Under this name our metadata are kept apart from those of others.
NOTES = "retrograde"


class ExchangeError(ValueError):
    """A network or a graph has a part that the other language cannot say; the message names it and what to do."""


def nir_package() -> Any:
    """The package `nir`, which only this folder needs."""
    try:
        return importlib.import_module("nir")
    except ImportError as error:
        raise ImportError(
            "Exchanging networks as NIR graphs needs the package `nir`: pip install 'retrograde[nir]'"
        ) from error


def continuous(alpha: Any, normalised: bool, size: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Time constant and resistance of $\tau\dot v = -v + rI$ whose forward Euler step is $v' = \alpha v + gI$.

    $v' = v + \frac{dt}{\tau}(rI - v)$, so $\tau = dt/(1-\alpha)$, and $r = g/(1-\alpha)$ with $g = 1$ or $1-\alpha$.

    Args:
        alpha: $\alpha$, one number or one for each neuron [1].
        normalised: Whether $g = 1-\alpha$.
        size: Number of neurons.
        step: Length of a time step [s].

    Returns:
        $\tau$ [s] and $r$ [1], each of shape `size`.
    """
    lost = 1 - np.broadcast_to(np.asarray(alpha, np.float64).reshape(-1), (size,))
    return step / lost, np.ones(size) if normalised else 1 / lost
