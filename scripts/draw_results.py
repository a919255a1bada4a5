"""Draws the curves of docs/ensemble.md from run folders, and prints its table.

    python scripts/draw_results.py docs/images/digits-rows.png RUN RUN

Each RUN is a folder that `retrograde train` has written; curves are means over seeds, bands ± s.d. A curve is called as
its recipe, or as you say: `LABEL=RUN`.
"""

import json
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retrograde.plots import plot_curves
from retrograde.training import read_history


def main(picture: str, *runs: str) -> None:
    """Draws the accuracy on the test digits against updates for every run, and prints the last point of each."""
    curves = {}
    for run in runs:
        label, _, folder = run.rpartition("=")
        label = label or json.loads((Path(folder) / "run.json").read_text())["recipe"]["name"]
        step, accuracy = read_history(folder).measured("validation_accuracy")
        curves[label] = (step, 100 * accuracy)
        last = curves[label][1][:, -1]
        print(f"{label}: {last.mean():.2f} ± {last.std():.2f} % after {step[-1]:,} updates, {len(last)} seeds")
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    plot_curves(curves, ylabel="test accuracy (%)", ax=ax)
    ax.set_ylim(bottom=max(0, min(values[:, 1].min() for _, values in curves.values()) - 2))
    figure.savefig(picture, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
