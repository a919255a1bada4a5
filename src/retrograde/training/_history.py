"""The numbers measured while training: in memory, and as `metrics.csv`."""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from retrograde.training._errors import RunError

METRICS = ("loss", "accuracy", "gradient_norm", "validation_loss", "validation_accuracy")
COLUMNS = ("step", "seed", *METRICS)


@dataclasses.dataclass(frozen=True)
class History:
    """What was measured, one column per logged step; NaN where a metric was not measured at that step.

    Attributes:
        step: Number of updates made.
        loss: Mean training loss over the updates since the last logged step.
        accuracy: Mean training accuracy likewise [fraction]; NaN for a regression.
        gradient_norm: Mean Euclidean norm of the whole gradient likewise, before any clipping.
        validation_loss: Loss on the test split, with fresh noise.
        validation_accuracy: Accuracy on the test split, with fresh noise [fraction].
    """

    step: Int[np.ndarray, " row"]
    loss: Float[np.ndarray, "seed row"]
    accuracy: Float[np.ndarray, "seed row"]
    gradient_norm: Float[np.ndarray, "seed row"]
    validation_loss: Float[np.ndarray, "seed row"]
    validation_accuracy: Float[np.ndarray, "seed row"]

    def measured(self, metric: str) -> tuple[Int[np.ndarray, " row"], Float[np.ndarray, "seed row"]]:
        """The steps at which `metric` was measured, and its values there."""
        values = getattr(self, metric)
        rows = ~np.isnan(values).all(axis=0)
        return self.step[rows], values[:, rows]


@dataclasses.dataclass
class Rows:
    """A growing history: one `[seed, metric]` table per logged step."""

    seeds: int
    steps: list[int] = dataclasses.field(default_factory=list)
    tables: list[np.ndarray] = dataclasses.field(default_factory=list)

    def append(self, step: int, table: Float[np.ndarray, "seed metric"]) -> None:
        """Adds a row; a second one for the same step fills what the first left open."""
        if self.steps and self.steps[-1] == step:
            self.tables[-1] = np.where(np.isnan(table), self.tables[-1], table)
        else:
            self.steps.append(step)
            self.tables.append(table)

    def lines(self, start: int) -> str:
        """The rows from number `start` on, as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for step, table in zip(self.steps[start:], self.tables[start:], strict=True):
            for seed, values in enumerate(table):
                # `repr` of a float64 reads back to the same bits
                writer.writerow([step, seed, *("" if np.isnan(x) else repr(float(x)) for x in values)])
        return text.getvalue()

    def history(self) -> History:
        tables = np.stack(self.tables) if self.tables else np.zeros((0, self.seeds, len(METRICS)))
        columns = {name: np.ascontiguousarray(tables[:, :, i].T) for i, name in enumerate(METRICS)}
        return History(step=np.array(self.steps, dtype=np.int64), **columns)


def read_rows(text: str) -> Rows:
    """Reads the text of a `metrics.csv`."""
    lines = list(csv.reader(io.StringIO(text)))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise ValueError(f"the first line must be {','.join(COLUMNS)!r}, got {','.join(lines[0]) if lines else ''!r}")
    tables: dict[int, dict[int, list[float]]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS):
            raise ValueError(f"line {number} has {len(line)} cells, not {len(COLUMNS)}")
        step, seed = int(line[0]), int(line[1])
        tables.setdefault(step, {})[seed] = [float(cell) if cell else np.nan for cell in line[2:]]
    seeds = max((len(table) for table in tables.values()), default=1)
    if tables and len(tables[max(tables)]) < seeds:  # killed, or still writing, between two seeds of a step
        del tables[max(tables)]
    arrays = [np.array([table[seed] for seed in range(seeds)]) for table in tables.values()]
    return Rows(seeds=seeds, steps=list(tables), tables=arrays)


def read_history(folder: str | Path) -> History:
    """Reads the history of a run folder, finished or still running.

    Args:
        folder: A run folder of `fit`.

    Raises:
        RunError: If there is no readable `metrics.csv`.
    """
    path = Path(folder) / "metrics.csv"
    try:
        text = path.read_text()
        # the last line of a run that is still writing may be incomplete
        return read_rows(text[: text.rfind("\n") + 1]).history()
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"cannot read the metrics {path}: {error}. Is {str(folder)!r} a run folder?") from error
