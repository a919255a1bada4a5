"""Measures the claims of a paper, one after the other, and keeps what came out."""

import dataclasses
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrograde.papers._claim import SCALES, Band, Claim, Paper, Scale, Verdict
from retrograde.papers._lab import Lab
from retrograde.recipes import did_you_mean
from retrograde.report import numbers, plain, read_json, save_arrays, write_file, write_json
from retrograde.training import Progress, RunError, Stage, origin

MARK = "reproduction.json"


@dataclasses.dataclass(frozen=True)
class Judged:
    """One quantity of a claim.

    Attributes:
        band: Where it must lie.
        values: One per seed, or a single one; empty if it was not measured.
        verdict: Whether their mean does.
    """

    band: Band
    values: np.ndarray
    verdict: Verdict

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN if there are none."""
        return float(self.values.mean()) if len(self.values) else float("nan")

    @property
    def distance(self) -> float:
        """How far the mean is from the band."""
        return self.band.distance(self.mean)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A claim and what came out.

    Attributes:
        claim: The claim.
        scale: At which it was measured; `None` if it was not.
        judged: Its quantities.
        seconds: Time it took, without what it found finished [s].
        origin: When, with what, and on what machine.
        arrays: What the figure is drawn from.
    """

    claim: Claim
    scale: Scale | None
    judged: tuple[Judged, ...]
    seconds: float = 0.0
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst of its quantities'."""
        found = {judged.verdict for judged in self.judged}
        return next((v for v in ("not run", "not reached", "not judged", "reached") if v in found), "not judged")

    def summary(self) -> dict[str, Any]:
        """Gives it as JSON has it."""
        return {
            "claim": self.claim.key,
            "statement": self.claim.statement,
            "where": self.claim.where,
            "scale": self.scale,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 1),
            "quantities": {
                judged.band.quantity: {
                    "what": judged.band.words,
                    "paper": judged.band.paper or None,
                    "low": plain_bound(judged.band.low),
                    "high": plain_bound(judged.band.high),
                    "ours": [plain(value) for value in judged.values],
                    "verdict": judged.verdict,
                    "missing": plain_bound(judged.distance) if judged.verdict == "not reached" else None,
                }
                for judged in self.judged
            },
        }


def plain_bound(value: float) -> float | None:
    """A number as JSON has it, `None` where there is no bound."""
    return float(value) if np.isfinite(value) else None


def reproduce(
    paper: Paper,
    folder: str | Path,
    *,
    scale: str = "laptop",
    seeds: int = 3,
    claims: Sequence[str] = (),
    again: bool = False,
    on_progress: Callable[[Stage], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Measures claims; what the folder has already, at this scale and with as many seeds, is not measured again.

    Args:
        paper: The paper.
        folder: Where results accumulate: `claims/`, and trainings in `smoke/`, `laptop/` and `paper/`.
        scale: How much to spend.
        seeds: Networks of each kind.
        claims: Keys of the claims to measure; all if empty.
        again: Whether to measure anew what is there. Trainings that are finished are not repeated: for that name a
            new folder.
        on_progress: Told how far it is.
        on_warning: Told of damaged checkpoints that were passed over.

    Returns:
        The outcomes of all claims of the paper, those not run included. A claim that cannot be measured at this scale
        has the outcome that the folder holds of another.

    Raises:
        ValueError: If there is no such claim or scale, or `seeds` is not positive.
        RunError: If the folder is something else, cannot be written, or a training diverged.
    """
    folder = Path(folder)
    if scale not in SCALES:
        raise ValueError(f"`scale={scale!r}` is unknown; pick one of {', '.join(SCALES)}")
    if seeds < 1:
        raise ValueError(f"`seeds={seeds}` must be at least 1")
    known = {claim.key: claim for claim in paper.claims}
    for key in claims:
        if key not in known:
            raise ValueError(f"{paper.key} has no claim {key!r}; {did_you_mean(key, list(known))}")
        if scale not in known[key].minutes:
            possible = ", ".join(known[key].minutes)
            raise ValueError(f"the claim {key!r} cannot be measured at scale {scale!r}, only at {possible}")
    _claim_folder(folder, paper)
    lab = Lab(folder / scale, scale, seeds, on_warning=on_warning)
    chosen = [claim for claim in paper.claims if scale in claim.minutes and (not claims or claim.key in claims)]
    for number, claim in enumerate(chosen, start=1):
        done = read_outcome(claim, folder, scale)
        if done.scale == scale and not again and _seeds_of(done) >= seeds:
            continue

        def show(progress: Progress | None, number: int = number, claim: Claim = claim) -> None:
            if on_progress is not None:
                on_progress(Stage(number, len(chosen), claim.key, progress))

        show(None)
        lab.on_progress = show
        started = time.perf_counter()
        finding = claim.measure(lab)
        seconds = time.perf_counter() - started
        missing = [band.quantity for band in claim.bands if band.quantity not in finding.values]
        if missing:
            raise RuntimeError(f"claim {claim.key!r} has not measured {', '.join(missing)}")
        path = _path(folder, claim, scale)
        write_file(path.with_suffix(".npz"), lambda new, found=finding: save_arrays(new, found.arrays))
        content = {
            "claim": claim.key,
            "scale": scale,
            "seeds": seeds,
            "seconds": seconds,
            "values": {name: [plain(value) for value in np.ravel(values)] for name, values in finding.values.items()},
            "origin": origin(),
        }
        write_json(path, content)
    return [read_outcome(claim, folder, scale if scale in claim.minutes else None) for claim in paper.claims]


def read_outcomes(paper: Paper, folder: str | Path, scale: Scale | None = None) -> list[Outcome]:
    """Reads what a folder of `reproduce` holds.

    Args:
        paper: The paper.
        folder: The folder.
        scale: Only results at this scale; the largest there is of each claim if `None`.

    Returns:
        One outcome for each claim, in order.
    """
    return [read_outcome(claim, Path(folder), scale) for claim in paper.claims]


def read_outcome(claim: Claim, folder: Path, scale: Scale | None) -> Outcome:
    """Reads one outcome; see `read_outcomes`."""
    for at in reversed(SCALES) if scale is None else [scale]:
        path = _path(folder, claim, at)
        found = read_json(path, None)
        if found is None:
            continue
        try:
            values = {name: numbers(value) for name, value in found["values"].items()}
            bands = [band for band in claim.bands if band.is_measured(at)]
            judged = tuple(_judge(band, values.get(band.quantity), at) for band in bands)
            with np.load(path.with_suffix(".npz")) as file:
                arrays = dict(file)
            return Outcome(claim, at, judged, found["seconds"], found["origin"] | {"seeds": found["seeds"]}, arrays)
        except (KeyError, TypeError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{path} or its .npz is damaged ({error}); remove both, and the claim will be measured again"
            ) from error
    return Outcome(claim, None, tuple(Judged(band, np.zeros(0), "not run") for band in claim.bands))


def _judge(band: Band, values: np.ndarray | None, scale: Scale) -> Judged:
    if values is None:  # a band that is younger than the result
        return Judged(band, np.zeros(0), "not run")
    return Judged(band, values, band.judge(float(values.mean()), scale))


def _seeds_of(outcome: Outcome) -> int:
    return 0 if outcome.verdict == "not run" else outcome.origin["seeds"]


def _path(folder: Path, claim: Claim, scale: Scale) -> Path:
    return folder / "claims" / f"{claim.key}-{scale}.json"


def _claim_folder(folder: Path, paper: Paper) -> None:
    """Makes sure that the folder is this paper's, or an empty one."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; name a new folder for the results")
    mark = read_json(folder / MARK, None)
    if mark is None:
        names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        if names:
            raise RunError(
                f"{folder} is not empty and holds no reproduction (it has no {MARK}, but {names[0]!r}); name a new or "
                "an empty folder, so that nothing of yours is overwritten"
            )
        write_json(folder / MARK, {"paper": paper.key})
    elif mark.get("paper") != paper.key:
        raise RunError(f"{folder} holds the results of {mark.get('paper')}, not of {paper.key}; name another folder")
