import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from retrograde.analysis import Coverage, uncovered
from retrograde.comparison._contender import Contender
from retrograde.training import time_updates


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a contender would do, found out without training it.

    Attributes:
        labels: What task, network and rule are called.
        coverage: What reaches each parameter.
        memory_bytes: Memory of one update; `None` if the compiler does not say [byte].
        seconds_per_update: Median of a few updates of all seeds [s].
        seconds: Time for all updates [s].
    """

    labels: tuple[str, str, str]
    coverage: dict[str, Coverage]
    memory_bytes: int | None
    seconds_per_update: float
    seconds: float

    def reach(self) -> dict[str, int]:
        """How many parameters are reached how."""
        return dict(Counter(parameter.reach for parameter in self.coverage.values()))

    def missing(self) -> list[str]:
        """Says which parameters get no credit."""
        return missing(self.labels, self.coverage)

    def summary(self) -> dict[str, Any]:
        """Gives it as plain values."""
        return {
            **dict(zip(("task", "network", "rule"), self.labels, strict=True)),
            "coverage": {label: parameter.reach for label, parameter in self.coverage.items()},
            "memory_bytes": self.memory_bytes,
            "seconds_per_update": round(self.seconds_per_update, 6),
            "seconds": round(self.seconds, 3),
        }


def forecast(contenders: Sequence[Contender], *, updates: int = 5) -> list[Forecast]:
    """Finds out what credit reaches, and times a few updates of each contender.

    Args:
        contenders: What would be compared.
        updates: How many to time.
    """
    programs = {contender.labels: contender.compile_update() for contender in contenders}
    seconds = time_updates({str(labels): program for labels, program in programs.items()}, updates)
    forecasts = []
    for contender in contenders:
        labels, options = contender.labels, contender.options
        per_update = seconds[str(labels)] * options["seeds"]
        memory = programs[labels].memory_bytes
        forecasts.append(Forecast(labels, contender.coverage(), memory, per_update, per_update * options["steps"]))
    return forecasts


def missing(labels: tuple[str, str, str], coverage: dict[str, Coverage]) -> list[str]:
    """Says in a line which parameters of a contender get no credit; no line if none is left out."""
    task, network, rule = labels
    names = uncovered(coverage)
    return [f"{rule} assigns no credit to {', '.join(names)} of {network} (task {task})"] if names else []
