import os
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retrograde.plots import plot_confusion, plot_curves, plot_distribution, plot_samplers
from retrograde.report._files import write_file
from retrograde.report._record import Record

# Parameters of a connection → what their axis says.
PARAMETERS = {
    "m": "m, mean of the slab (current per activity)",
    "pi": "π, probability of absence (1)",
    "xi": "Ξ, variance of the slab (current per activity)²",
    "weight": "weight (current per activity)",
}


def draw_figure(record: Record, path: str | os.PathLike) -> Path:
    """Draws a measured run on one sheet: learning curve, samplers, answers, and how m, π and Ξ are distributed.

    Samplers and answers are left out for a regression.

    Args:
        record: The run.
        path: Where to write the picture; its ending says in which format.

    Returns:
        The path.
    """
    measures = record.measures
    if measures is None:
        raise ValueError(f"{record.folder} has not been measured yet; run `retrograde resume {record.folder}`.")
    parameters = {name: values for name in PARAMETERS if (values := measures.by_projection(name))}
    panels = 1 + 2 * measures.is_classification + len(parameters)
    columns = min(3, panels)
    figure = Figure(figsize=(4 * columns, 3.6 * -(-panels // columns)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = iter(figure.subplots(-(-panels // columns), columns, squeeze=False).ravel())
    draw_curve(record, next(axes))
    if measures.confusion is not None:
        plot_samplers({record.name: {name: a.ravel() for name, a in measures.accuracies.items()}}, ax=next(axes))
        plot_confusion(measures.confusion, ax=next(axes))
    for name, values in parameters.items():
        plot_distribution(values, xlabel=PARAMETERS[name], ax=next(axes))
    for spare in axes:
        spare.set_axis_off()
    origin = record.origin.get("recipe") or {}
    seeds = len(record.history.loss)
    figure.suptitle(
        f"{origin.get('name') or record.name}: {record.history.step[-1] if len(record.history.step) else 0:,} updates, "
        f"{seeds} seed{'s' if seeds > 1 else ''}" + (", bands ± s.d. over seeds" if seeds > 1 else "")
    )
    return write_file(Path(path), lambda new: figure.savefig(new, dpi=130))


def draw_curve(record: Record, ax: Axes) -> Axes:
    """Draws accuracy (of a regression: loss) against updates, while training and on the test split."""
    history, what = record.history, "accuracy" if record.measures and record.measures.is_classification else "loss"
    scale, unit = (100, "accuracy (%)") if what == "accuracy" else (1, "loss")
    curves = {}
    for metric, name in ((what, "training batches"), (f"validation_{what}", "held-out trials")):
        step, values = history.measured(metric)
        if len(step):
            curves[name] = (step, scale * values)
    return plot_curves(curves, ylabel=unit, ax=ax)


def draw_loss(records: dict[str, Record], ax: Axes) -> Axes:
    """Draws the training loss of each run against updates."""
    curves = {name: record.history.measured("loss") for name, record in records.items()}
    return plot_curves({name: curve for name, curve in curves.items() if len(curve[0])}, ylabel="training loss", ax=ax)
