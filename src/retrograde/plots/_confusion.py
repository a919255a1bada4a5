import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes


def plot_confusion(matrix: Int[np.ndarray, "label answer"], *, ax: Axes) -> Axes:
    """Draws which answer was given to which class, in percent of the class's trials.

    Args:
        matrix: Number of trials [trials], shape `label answer`.
        ax: Where to draw.

    Returns:
        `ax`.
    """
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    percent = 100 * matrix / totals
    classes = len(matrix)
    ax.imshow(percent, cmap="viridis", vmin=0, vmax=100)
    if classes <= 12:
        for label in range(classes):
            for answer in range(classes):
                if percent[label, answer] >= 0.5:
                    ink = "black" if percent[label, answer] > 60 else "white"
                    text = f"{percent[label, answer]:.0f}"
                    ax.text(answer, label, text, ha="center", va="center", color=ink, fontsize=7)
        ax.set(xticks=range(classes), yticks=range(classes))
    ax.set(xlabel="answer", ylabel="class", title="answers (% of each class)")
    return ax
