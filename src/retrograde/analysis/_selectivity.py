from typing import Literal

import numpy as np
from jaxtyping import Float

Selectivity = Literal["silent", "non-selective", "mixed", "uni-selective"]


def selectivity_index(responses: Float[np.ndarray, "unit stimulus"]) -> Float[np.ndarray, " unit"]:
    r"""Says how unevenly each unit responds to several stimuli.

    $$\mathrm{SLI}_i = \frac{1 - \langle r_{is} \rangle_s^2 / \langle r_{is}^2 \rangle_s}{1 - 1/S}$$

    Args:
        responses: Mean rate of every unit for each of $S$ stimuli, not negative.

    Returns:
        0 for a unit that responds to all alike, 1 for one that responds to a single stimulus; NaN for one that is
        silent.

    Raises:
        ValueError: If there are fewer than two stimuli, or a rate is negative or not finite.

    Example:
        >>> import numpy as np
        >>> selectivity_index(np.array([[1.0, 0.0, 0.0], [2.0, 2.0, 2.0]])).round(6).tolist()
        [1.0, 0.0]

    Source:
        Zou, Li & Huang (2023), Phys. Rev. E 107, 024307, as others report it.
    """
    responses = np.asarray(responses, np.float64)
    if responses.ndim != 2 or responses.shape[1] < 2:
        raise ValueError(f"`responses` must have axes (unit, stimulus), two stimuli or more; got {responses.shape}.")
    if not np.isfinite(responses).all() or (responses < 0).any():
        raise ValueError("`responses` are rates: they must be finite and not negative.")
    power = np.mean(responses**2, axis=1)
    is_active = power > 0
    share = np.mean(responses, axis=1) ** 2 / np.where(is_active, power, 1.0)
    index = (1 - share) / (1 - 1 / responses.shape[1])
    return np.where(is_active, np.clip(index, 0, 1), np.nan)


def classify_units(
    responses: Float[np.ndarray, "unit stimulus"], *, silent: float = 0.02, low: float = 0.1, high: float = 0.9
) -> list[Selectivity]:
    """Sorts units by how selective they are.

    Args:
        responses: Mean rate of every unit for each stimulus.
        silent: Units whose largest response is below are `"silent"` [rate].
        low: Units with a selectivity index below are `"non-selective"`.
        high: Units with one above are `"uni-selective"`; all others are `"mixed"`.

    Returns:
        The class of every unit. The published thresholds are not known to us; the defaults are ours.

    Raises:
        ValueError: As `selectivity_index`.

    Example:
        >>> import numpy as np
        >>> classify_units(np.array([[1.0, 0.0], [2.0, 1.9], [1.0, 0.4], [0.0, 0.01]]))
        ['uni-selective', 'non-selective', 'mixed', 'silent']
    """

    def kind(index: float, largest: float) -> Selectivity:
        if largest < silent:
            return "silent"
        return "non-selective" if index < low else "uni-selective" if index > high else "mixed"

    index = selectivity_index(responses)
    return [kind(i, largest) for i, largest in zip(index, np.max(responses, axis=1), strict=True)]
