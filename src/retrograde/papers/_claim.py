"""What a paper claims, and how one would see whether it is so."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

Scale = Literal["smoke", "laptop", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "laptop", "paper")
Verdict = Literal["reached", "not reached", "not judged", "not run"]


@dataclasses.dataclass(frozen=True)
class Band:
    """Where a measured quantity must lie.

    Attributes:
        quantity: Its name in `Finding.values`.
        words: What it is, for a table.
        low: The mean over seeds must not be less.
        high: Nor more.
        unit: Of what is measured; `"%"` shows fractions as per cent.
        paper: The paper's value, in words; empty if it is not known to us, and only its shape is judged.
        source: Where the band comes from, if not from the paper's value.
        smallest: The smallest scale at which to judge.
        largest: The largest scale at which it is measured.
    """

    quantity: str
    words: str
    low: float = -np.inf
    high: float = np.inf
    unit: str = ""
    paper: str = ""
    source: str = ""
    smallest: Scale = "laptop"
    largest: Scale = "paper"

    def __post_init__(self):
        if not (np.isfinite(self.low) or np.isfinite(self.high)) or self.low > self.high:
            raise ValueError(f"`Band({self.quantity!r})` must have a `low`, a `high`, or both, and low ≤ high.")

    def is_measured(self, scale: Scale) -> bool:
        """Whether the band is one for this scale."""
        return SCALES.index(scale) <= SCALES.index(self.largest)

    def judge(self, mean: float, scale: Scale) -> Verdict:
        """Says whether a mean over seeds is in the band; NaN is not."""
        if SCALES.index(scale) < SCALES.index(self.smallest):
            return "not judged"
        return "reached" if self.low <= mean <= self.high else "not reached"

    def distance(self, mean: float) -> float:
        """How far a mean is from the band; 0 inside."""
        return max(self.low - mean, mean - self.high, 0.0) if np.isfinite(mean) else np.inf


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was measured.

    Attributes:
        values: Each quantity once per seed, or once.
        arrays: What the figure is drawn from.
    """

    values: Mapping[str, Float[np.ndarray, " seed"]]
    arrays: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Claim:
    """One thing that a paper says, and how it is measured here.

    Attributes:
        key: Short name, of letters, digits and dashes.
        statement: What the paper says.
        where: Where it says so.
        how: How we measure it, and what we chose where the paper is silent.
        bands: What must come out.
        measure: Measures it, `Lab` → `Finding`.
        draw: Draws the figure, given a `Figure` and `Finding.arrays`.
        shows: What the figure shows, in words.
        minutes: Time to expect at each scale at which it can be measured, without what it shares with other claims
            [min, on 2 cores].
        size: Width and height of the figure [inch].
    """

    key: str
    statement: str
    where: str
    how: str
    bands: tuple[Band, ...]
    measure: Callable[[Any], Finding]
    draw: Callable[[Figure, Mapping[str, np.ndarray]], None]
    shows: str
    minutes: Mapping[Scale, float]
    size: tuple[float, float] = (8.0, 3.2)


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper and its claims.

    Attributes:
        key: First author and year.
        title: Its title.
        reference: Authors, journal, arXiv number.
        summary: What it is about, one line.
        notes: What a reader of the results must know: sources, choices, differences.
        claims: What it claims, in order.
    """

    key: str
    title: str
    reference: str
    summary: str
    notes: str
    claims: tuple[Claim, ...]

    def __post_init__(self):
        keys = [claim.key for claim in self.claims]
        if len(set(keys)) < len(keys):
            raise ValueError(f"`Paper({self.key!r})`: two claims have the same key.")
