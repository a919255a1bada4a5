"""What a comparison found: the table, for programs and for people."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from retrograde.comparison._contender import COST, Contender, read_probes
from retrograde.report import Measures, numbers, plain, read_json, write_file, write_json
from retrograde.training import History, read_history

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one contender came to.

    Attributes:
        contender: What was trained.
        folder: Its run folder.
        steps: Updates made.
        failure: Why it ended early, if it diverged.
        history: What was measured while training, loss and accuracy.
        accuracies: Share of right answers on test trials [fraction], shape `seed`; NaN for a regression.
        losses: Mean loss on test trials, shape `seed`.
        probes: Alignment and credit by lag, by number of updates made.
        cost: Time, memory and multiply–accumulates of an update.
        coverage: What reaches each parameter, by label.
    """

    contender: Contender
    folder: Path
    steps: int
    failure: str | None
    history: History
    accuracies: Float[np.ndarray, " seed"]
    losses: Float[np.ndarray, " seed"]
    probes: dict[int, dict[str, Any]]
    cost: dict[str, Any]
    coverage: dict[str, str]

    @property
    def is_classification(self) -> bool:
        """Whether there are right and wrong answers."""
        return not np.isnan(self.accuracies).any()

    @property
    def scores(self) -> Float[np.ndarray, " seed"]:
        """Accuracies [fraction], or losses of a regression."""
        return self.accuracies if self.is_classification else self.losses

    def alignment(self, layer: str = "all", what: str = "cosine") -> tuple[np.ndarray, Float[np.ndarray, "seed point"]]:
        """Numbers of updates made, and cosine or norm ratio at each."""
        column = ("cosine", "norm_ratio").index(what)
        values = [numbers(found["alignment"][layer])[:, column] for found in self.probes.values()]
        return np.array(list(self.probes)), np.stack(values, axis=1)

    def layers(self) -> list[str]:
        """Names of what has trained parameters."""
        first = next(iter(self.probes.values()), {"alignment": {}})
        return [layer for layer in first["alignment"] if layer != "all"]

    def credit(self, step: int) -> dict[str, Any] | None:
        """Credit by lag after so many updates, as arrays; `None` if not measured then."""
        found = self.probes.get(step, {}).get("credit")
        if found is None:
            return None
        by_layer = {what: {k: numbers(v) for k, v in found[what].items()} for what in ("delivered", "cosine", "size")}
        return {"first": np.array(found["first"]), "last": np.array(found["last"]), **by_layer}

    def summary(self) -> dict[str, Any]:
        """Gives everything but the learning curve as plain values, for JSON."""
        task, network, rule = self.contender.labels
        return {
            "task": task,
            "network": network,
            "rule": rule,
            "steps": self.steps,
            "seeds": len(self.losses),
            "failure": self.failure,
            "accuracy": _statistics(self.accuracies),
            "loss": _statistics(self.losses),
            "cost": self.cost,
            "coverage": self.coverage,
            "probes": [{"step": step, **found} for step, found in self.probes.items()],
            "run": str(self.contender.path),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Gives one row of numbers for each seed, for CSV."""
        task, network, rule = self.contender.labels
        rows = []
        for seed in range(len(self.losses)):
            row = {"task": task, "network": network, "rule": rule, "seed": seed, "steps": self.steps}
            row |= {"accuracy": plain(self.accuracies[seed]), "loss": plain(self.losses[seed])}
            for what in ("cosine", "norm_ratio"):
                values = self.alignment(what=what)[1] if self.probes else np.full((seed + 1, 1), np.nan)
                row |= {f"{what}_first": plain(values[seed, 0]), f"{what}_last": plain(values[seed, -1])}
            rows.append(row | self.cost)
        return rows


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        name: What it is called.
        outcomes: What each contender came to.
        folder: Where everything lies.
    """

    name: str
    outcomes: tuple[Outcome, ...]
    folder: Path

    def groups(self) -> dict[tuple[str, str], list[Outcome]]:
        """The outcomes of each task and network."""
        groups: dict[tuple[str, str], list[Outcome]] = {}
        for outcome in self.outcomes:
            groups.setdefault(outcome.contender.labels[:2], []).append(outcome)
        return groups

    def summary(self) -> dict[str, Any]:
        """Gives what `compare.json` holds."""
        outcomes = [outcome.summary() for outcome in self.outcomes]
        return {"format": FORMAT, "name": self.name, "outcomes": outcomes}

    def write_tables(self) -> None:
        """Writes `compare.json` and `compare.csv`."""
        write_json(self.folder / "compare.json", self.summary())
        rows = [row for outcome in self.outcomes for row in outcome.rows()]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_file(self.folder / "compare.csv", lambda new: new.write_text(text.getvalue(), encoding="utf-8"))


def read_outcome(contender: Contender, folder: Path, coverage: dict[str, str]) -> Outcome:
    """Reads what `run_contender` has left."""
    measures, result = Measures.load(folder), read_json(folder / "result.json", {})
    assert measures is not None
    return Outcome(
        contender,
        folder,
        result["step"],
        result["failure"],
        read_history(folder),
        measures.accuracies["mean-field"].mean(axis=1).astype(float),
        measures.losses["mean-field"].mean(axis=1).astype(float),
        read_probes(folder),
        read_json(folder / COST, {}),
        coverage,
    )


def _statistics(values: Float[np.ndarray, " seed"]) -> dict[str, Any]:
    return {"mean": plain(values.mean()), "sd": plain(values.std()), "values": [plain(value) for value in values]}
