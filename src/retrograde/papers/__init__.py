"""Papers, claim by claim: what they say, what we measure, and whether it is so."""

import importlib

from retrograde.papers._claim import SCALES as SCALES
from retrograde.papers._claim import Band as Band
from retrograde.papers._claim import Claim as Claim
from retrograde.papers._claim import Finding as Finding
from retrograde.papers._claim import Paper as Paper
from retrograde.papers._claim import Scale as Scale
from retrograde.papers._lab import Lab as Lab
from retrograde.papers._page import HEAD as HEAD
from retrograde.papers._page import counts as counts
from retrograde.papers._page import outcome_rows as outcome_rows
from retrograde.papers._page import write_html as write_html
from retrograde.papers._page import write_markdown as write_markdown
from retrograde.papers._reproduce import MARK as MARK
from retrograde.papers._reproduce import Judged as Judged
from retrograde.papers._reproduce import Outcome as Outcome
from retrograde.papers._reproduce import read_outcomes as read_outcomes
from retrograde.papers._reproduce import reproduce as reproduce

PAPERS = ("zou2023", "bellec2020", "yin2021")


def read_paper(key: str) -> Paper:
    """Loads a paper's claims.

    Args:
        key: First author and year, one of `PAPERS`.

    Raises:
        ValueError: If there is no such paper.
    """
    if key not in PAPERS:
        raise ValueError(f"no paper {key!r}; there are {', '.join(PAPERS)}; see `retrograde papers`")
    return importlib.import_module(f"{__name__}.{key}").PAPER
