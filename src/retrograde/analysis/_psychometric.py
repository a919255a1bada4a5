from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.special import ndtr


class Psychometric(NamedTuple):
    """How choices depend on a stimulus: the cumulative normal distribution nearest to their shares.

    Attributes:
        boundary: Stimulus at which both choices are equally likely [unit of the stimulus].
        spread: Standard deviation; the smaller, the sharper the judgement [unit of the stimulus].
    """

    boundary: float
    spread: float

    def __call__(self, stimulus: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Share of high choices [1]."""
        return ndtr((np.asarray(stimulus) - self.boundary) / self.spread)


def fit_psychometric(stimuli: Float[np.ndarray, " stimulus"], shares: Float[np.ndarray, " stimulus"]) -> Psychometric:
    """Fits a cumulative normal distribution to shares of high choices, by least squares.

    Args:
        stimuli: Three different stimuli or more, in any order.
        shares: Share of high choices for each [1].

    Returns:
        Boundary and spread. The spread is at least a tenth of the smallest distance of two stimuli: finer than that
        they cannot tell.

    Raises:
        ValueError: If there are fewer than three stimuli, or shares lie outside [0, 1].

    Example:
        >>> import numpy as np
        >>> rates = np.arange(9.0, 17.0)
        >>> found = fit_psychometric(rates, Psychometric(12.4, 0.8)(rates))
        >>> round(found.boundary, 3), round(found.spread, 3)
        (12.4, 0.8)

    Source:
        Song, Yang and Wang (2016), PLoS Comput. Biol. 12(2):e1004792, for their Fig. 6.
    """
    stimuli, shares = np.asarray(stimuli, np.float64), np.asarray(shares, np.float64)
    if stimuli.ndim != 1 or stimuli.shape != shares.shape or len(np.unique(stimuli)) < 3:
        raise ValueError(
            f"`fit_psychometric` needs a share for each of three stimuli or more, got {shares.shape} for "
            f"{stimuli.shape}."
        )
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("`shares` must lie between 0 and 1.")
    extent = float(np.ptp(stimuli))
    finest = 0.1 * float(np.diff(np.unique(stimuli)).min())
    # as steep as a step begins, the slope vanishes everywhere: begin with something gentle
    start = (stimuli[np.argmin(np.abs(shares - 0.5))], 0.25 * extent)
    low, high = (stimuli.min() - extent, finest), (stimuli.max() + extent, 10 * extent)
    found = least_squares(lambda p: ndtr((stimuli - p[0]) / p[1]) - shares, start, bounds=(low, high), xtol=1e-12)
    return Psychometric(*found.x.tolist())


def combined_spread(*spreads: float) -> float:
    r"""Spread of who weighs several cues as well as can be, $\sigma^{-2} = \sum_k \sigma_k^{-2}$.

    Args:
        spreads: $\sigma_k$ of each cue alone.

    Example:
        >>> round(combined_spread(1.0, 1.0), 4)
        0.7071
    """
    return sum(spread**-2 for spread in spreads) ** -0.5
