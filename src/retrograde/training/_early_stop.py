"""When to stop before the last step."""

import dataclasses

import numpy as np

from retrograde.training._history import METRICS, History


@dataclasses.dataclass(frozen=True)
class EarlyStop:
    """Ends training when a metric reaches a threshold, or no longer improves.

    The metric is averaged over seeds. Accuracies should rise, everything else should fall. Nothing but the history
    is looked at, so a resumed run stops at the same step.

    Attributes:
        metric: `"loss"`, `"accuracy"`, `"gradient_norm"`, `"validation_loss"` or `"validation_accuracy"`.
        threshold: Stop as soon as the metric is at least as good as this.
        patience: Stop after so many measurements in a row without a new best.
        after: Never stop before this step.

    Raises:
        ValueError: If the metric is unknown, or neither `threshold` nor `patience` is given.

    Example:
        >>> EarlyStop("loss", threshold=0.002, after=100)
        EarlyStop(metric='loss', threshold=0.002, patience=None, after=100)
    """

    metric: str = "validation_loss"
    threshold: float | None = None
    patience: int | None = None
    after: int = 0

    def __post_init__(self):
        if self.metric not in METRICS:
            raise ValueError(f"`EarlyStop(metric={self.metric!r})`: no such metric; pick one of {', '.join(METRICS)}")
        if self.threshold is None and self.patience is None:
            raise ValueError("`EarlyStop` needs a `threshold`, a `patience` or both, else it never stops")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"`EarlyStop(patience={self.patience})` must be at least 1 measurement")

    def is_reached(self, history: History) -> bool:
        """Whether the last row of this history is the place to stop."""
        step, values = history.measured(self.metric)
        if not len(step) or step[-1] < self.after or history.step[-1] != step[-1]:
            return False
        cost = np.mean(values, axis=0) * (-1 if self.metric.endswith("accuracy") else 1)
        if self.threshold is not None:
            threshold = -self.threshold if self.metric.endswith("accuracy") else self.threshold
            if cost[-1] <= threshold:
                return True
        return self.patience is not None and len(cost) - 1 - int(np.argmin(cost)) >= self.patience
