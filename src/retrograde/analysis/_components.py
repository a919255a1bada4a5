from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class PrincipalComponents(NamedTuple):
    """Orthogonal directions in which points differ most.

    Attributes:
        mean: Mean of the points, `"dimension"`.
        directions: Unit vectors, most variance first, `"component dimension"`.
        shares: Share of the variance along each [1], `"component"`; they add up to 1.
    """

    mean: Float[np.ndarray, " dimension"]
    directions: Float[np.ndarray, "component dimension"]
    shares: Float[np.ndarray, " component"]

    def project(self, points: Float[np.ndarray, "*points dimension"], count: int) -> np.ndarray:
        """Coordinates of points along the first `count` components, `"*points count"`."""
        return (np.asarray(points) - self.mean) @ self.directions[:count].T

    def needed(self, share: float) -> int:
        """How many components hold a share of the variance."""
        return int(np.searchsorted(np.cumsum(self.shares), share - 1e-12) + 1)


def principal_components(points: Float[np.ndarray, "*points dimension"]) -> PrincipalComponents:
    """Finds the principal components of a cloud of points: activity at all times and trials, or weights over training.

    For trajectories of the mean of trials, average first; single trials have the noise's dimensions too.

    Args:
        points: Points, any number of axes before the dimensions; activity `"time batch neuron"` as it is recorded.

    Returns:
        As many components as the points have, at most as many as there are dimensions.

    Raises:
        ValueError: If there are fewer than two points, they are all the same, or one is not finite.

    Example:
        >>> import numpy as np
        >>> line = np.linspace(0, 1, 5)[:, None] * np.array([3.0, 4.0])
        >>> found = principal_components(line)
        >>> found.shares.round(6).tolist(), found.needed(0.85)
        ([1.0, 0.0], 1)
    """
    flat = np.asarray(points, np.float64).reshape(-1, np.shape(points)[-1])
    if len(flat) < 2 or not np.isfinite(flat).all():
        raise ValueError("`points` must be two or more, all finite.")
    mean = flat.mean(axis=0)
    _, sizes, directions = np.linalg.svd(flat - mean, full_matrices=False)
    if not sizes[0] > 0:
        raise ValueError("`points` are all the same: there is no variance to share out.")
    return PrincipalComponents(mean, directions, sizes**2 / np.sum(sizes**2))


class Drift(NamedTuple):
    """How a trajectory moves along each of its principal components.

    Attributes:
        drift: Mean change per step along each component, its sign that of the whole way [unit of the points].
        spread: Standard deviation of the changes [unit of the points].
    """

    drift: Float[np.ndarray, " component"]
    spread: Float[np.ndarray, " component"]


def drift_and_spread(trajectory: Float[np.ndarray, "step dimension"], count: int) -> Drift:
    """Splits the changes of a trajectory (weights over training) along its components into drift and fluctuation.

    Args:
        trajectory: Points in the order of time.
        count: How many components.

    Returns:
        Mean and standard deviation of the changes from step to step along each component.

    Raises:
        ValueError: As `principal_components`, or if there are fewer components.

    Example:
        >>> import numpy as np
        >>> steady = drift_and_spread(np.arange(6.0)[:, None] * np.ones(3), 1)
        >>> abs(steady.drift).round(3).tolist(), steady.spread.round(3).tolist()
        ([1.732], [0.0])
    """
    components = principal_components(trajectory)
    if not 1 <= count <= len(components.shares):
        raise ValueError(f"`count={count}` must lie between 1 and {len(components.shares)}, the number of components.")
    changes = np.diff(components.project(trajectory, count), axis=0)
    return Drift(changes.mean(axis=0), changes.std(axis=0))
