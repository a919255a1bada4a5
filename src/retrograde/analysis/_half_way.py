import numpy as np
from jaxtyping import Float, Int


def half_way(steps: Int[np.ndarray, " step"], values: Float[np.ndarray, " step"]) -> float:
    """Finds when a curve has covered half of its way from the first value to the last.

    Args:
        steps: Where it was measured, rising.
        values: The curve.

    Returns:
        The first step, interpolated, at which it is as near to the last value as to the first; NaN if these are equal.

    Example:
        >>> import numpy as np
        >>> half_way(np.array([0, 10, 20]), np.array([0.0, 4.0, 4.0]))
        5.0
    """
    steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if values[0] == values[-1]:
        return float("nan")
    share = (values - values[0]) / (values[-1] - values[0])
    after = int(np.argmax(share >= 0.5))
    low, high = share[after - 1], share[after]
    return float(steps[after - 1] + (0.5 - low) / (high - low) * (steps[after] - steps[after - 1]))
