from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class ConnectionShares(NamedTuple):
    """How an ensemble's connections divide up; the three add up to 1.

    Attributes:
        certain: Share of connections that are one fixed number in every network (π = 0 and Ξ = 0) [fraction].
        absent: Share that no network has (π = 1) [fraction].
        uncertain: Share of the rest, which differ between networks [fraction].
    """

    certain: float
    absent: float
    uncertain: float


def connection_shares(pi: Float[np.ndarray, "..."], xi: Float[np.ndarray, "..."]) -> ConnectionShares:
    """Counts the connections that are certain, absent and uncertain.

    Args:
        pi: Probability that the connection is absent [1], any shape.
        xi: Variance of the connection's weight if present [(current per activity)²], same shape.

    Returns:
        The three shares.

    Raises:
        ValueError: If the shapes differ or there is no connection.

    Example:
        >>> connection_shares(np.array([0.0, 1.0, 0.5, 0.0]), np.array([0.0, 0.2, 0.0, 0.1]))
        ConnectionShares(certain=0.25, absent=0.25, uncertain=0.5)

    Source:
        The classes of Li & Huang (2020), Phys. Rev. Lett. 125, 178301: exact 0 and 1, as the projection after each
        update leaves them.
    """
    if pi.shape != xi.shape or not pi.size:
        raise ValueError(f"`connection_shares` needs arrays of one shape, not empty, got {pi.shape} and {xi.shape}.")
    certain = float(np.mean((pi == 0) & (xi == 0)))
    absent = float(np.mean(pi == 1))
    return ConnectionShares(certain, absent, float(np.mean((pi != 1) & ((pi != 0) | (xi != 0)))))
