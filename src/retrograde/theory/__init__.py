"""What can be said in closed form: predictions that simulations are held against."""

from ._feature_toy import FeatureLearning, feature_learning
from ._finite_width import FiniteEnsemble, FiniteTraining, finite_ensemble, finite_kernel, finite_training
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
from ._tangent_kernel import TangentKernel, WideEnsemble, linearised_training, relu_integrals, tangent_kernel

__all__ = [
    "FeatureLearning",
    "FiniteEnsemble",
    "FiniteTraining",
    "LinearTask",
    "PerturbationRule",
    "TangentKernel",
    "WideEnsemble",
    "added_error",
    "decay_factor",
    "feature_learning",
    "final_error",
    "finite_ensemble",
    "finite_kernel",
    "finite_training",
    "irrelevant_variance",
    "learning_curve",
    "linearised_training",
    "optimal_rate",
    "relu_integrals",
    "tangent_kernel",
]
