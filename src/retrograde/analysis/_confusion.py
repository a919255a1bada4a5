import numpy as np
from jaxtyping import Int


def confusion_matrix(
    labels: Int[np.ndarray, " trial"], answers: Int[np.ndarray, " trial"], classes: int
) -> Int[np.ndarray, "label answer"]:
    """Counts which answer was given to which class.

    Args:
        labels: The right class of each trial, shape `trial`.
        answers: The class that was answered, shape `trial`.
        classes: Number of classes.

    Returns:
        Number of trials of class `label` that were answered `answer` [trials], shape `label answer`.

    Raises:
        ValueError: If a class is not one of `0 … classes-1`.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    for name, values in (("labels", labels), ("answers", answers)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"`confusion_matrix({name}=...)` must lie in 0 to {classes - 1}, got {values.min()} to {values.max()}."
            )
    counts = np.bincount(labels.astype(np.int64) * classes + answers, minlength=classes**2)
    return counts.reshape(classes, classes)
