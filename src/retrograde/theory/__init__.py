"""What can be said in closed form: predictions that simulations are held against."""

from ._perturbation import (
    LinearTask,
    PerturbationRule,
    added_error,
    decay_factor,
    final_error,
    irrelevant_variance,
    learning_curve,
    optimal_rate,
)

__all__ = [
    "LinearTask",
    "PerturbationRule",
    "added_error",
    "decay_factor",
    "final_error",
    "irrelevant_variance",
    "learning_curve",
    "optimal_rate",
]
