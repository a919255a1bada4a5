"""The pictures of a comparison, one task and network at a time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retrograde.analysis import pareto_front
from retrograde.comparison._outcome import Outcome
from retrograde.plots import Style, plot_alignment, plot_credit_by_lag, plot_curves, plot_pareto, rule_styles
from retrograde.report import svg_style, write_file

# Key of the cost → what its axis says, and what one of its units is.
COSTS = {
    "seconds_per_update": ("time per update (ms)", 1e-3),
    "between_bytes": ("memory of an update, beside weights and trials (MB)", 1e6),
    "macs": ("multiply–accumulates per update (10⁶)", 1e6),
}


class Panel(NamedTuple):
    """One drawing.

    Attributes:
        draw: Draws it on the axes that it is given.
        alt: What is to be seen, in words.
        caption: What stands below it.
    """

    draw: Callable[[Axes], Any]
    alt: str
    caption: str


def panels(group: Sequence[Outcome]) -> dict[str, Panel]:
    """Lists the drawings of the rules on one task and network, by name: those for which something was measured."""
    band = f" Mean ± s.d., n = {len(group[0].losses)} seeds." if len(group[0].losses) > 1 else " One seed."
    found = {"curves": _curves(group, band)}
    for name, step, words in _credit_steps(group):
        found[name] = _credit(group, step, words, "delivered", band)
        found[f"{name}_cosine"] = _credit(group, step, words, "cosine", band)
    if group[0].probes:
        found["alignment"] = _alignment(group, "all", "cosine", band)
    for key in COSTS:
        if all(cost_of(outcome, key) is not None for outcome in group):
            found[key] = _pareto(group, key, band)
    return found


def layer_panels(group: Sequence[Outcome]) -> list[Panel]:
    """Lists the drawings of alignment layer by layer: cosine, and ratio of norms."""
    layers = group[0].layers()
    return [_alignment(group, layer, what, "") for layer in layers for what in ("cosine", "norm_ratio")]


def draw_sheet(group: Sequence[Outcome], path: Path) -> Path:
    """Draws the main pictures on one sheet, not those whose name ends in `cosine` or is `macs`.

    Args:
        group: The rules on one task and network.
        path: Where to write it; its ending says in which format.
    """
    chosen = {name: panel for name, panel in panels(group).items() if not name.endswith(("cosine", "macs"))}
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    with svg_style():
        figure = Figure(figsize=(4.4 * columns, 3.5 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, panel in zip(axes, chosen.values(), strict=False):
            panel.draw(ax)
        for spare in axes[len(chosen) :]:
            spare.set_axis_off()
        task, network, _ = group[0].contender.labels
        seeds = len(group[0].losses)
        steps = max(outcome.steps for outcome in group)
        figure.suptitle(
            f"{task}, {network}: {steps:,} updates, " + (f"mean ± s.d. of {seeds} seeds" if seeds > 1 else "one seed")
        )
        metadata = {"Date": None} if path.suffix == ".svg" else None
        return write_file(path, lambda new: figure.savefig(new, dpi=130, metadata=metadata))


def cost_of(outcome: Outcome, key: str) -> float | None:
    """One of an update's costs, `"macs"` or an entry of `Outcome.cost`."""
    if key == "macs":
        return float(outcome.cost["product_macs"] + outcome.cost["elementwise_macs"])
    return None if outcome.cost[key] is None else float(outcome.cost[key])


def styles_of(group: Sequence[Outcome]) -> dict[str, Style]:
    """How each rule looks, the same in every drawing."""
    kinds = [outcome.contender.kind for outcome in group]
    return dict(zip((outcome.contender.labels[2] for outcome in group), rule_styles(kinds), strict=True))


def _score(group: Sequence[Outcome]) -> tuple[str, str, float, str]:
    """What is reached: the metric's name, its axis, its scale, and which values are best."""
    if group[0].is_classification:
        return "accuracy", "accuracy (%)", 100.0, "highest"
    return "loss", "loss", 1.0, "lowest"


def _curves(group: Sequence[Outcome], band: str) -> Panel:
    metric, label, scale, _ = _score(group)
    curves, words = {}, []
    where = "held-out "
    if any(not outcome.history.measured(f"validation_{metric}")[0].size for outcome in group):
        where = "training "
    for outcome in group:
        name = metric if where == "training " else f"validation_{metric}"
        step, values = outcome.history.measured(name)
        rule = outcome.contender.labels[2]
        if step.size:
            curves[rule] = (step, scale * values)
            words.append(f"{rule} from {scale * values[:, 0].mean():.3g} to {scale * values[:, -1].mean():.3g}")
    alt = f"Learning curves, {where}{label} against updates: {'; '.join(words)}."
    return Panel(
        lambda ax: plot_curves(curves, ylabel=f"{where}{label}", ax=ax, styles=styles_of(group)),
        alt,
        f"Learning curves.{band}",
    )


def _credit_steps(group: Sequence[Outcome]) -> list[tuple[str, int, str]]:
    """When credit by lag was measured of all rules: name of the drawing, number of updates, words."""
    steps = sorted({step for outcome in group for step in outcome.probes if outcome.credit(step)})
    steps = [step for step in steps if all(_has_credit(outcome, step) for outcome in group)]
    names = ["credit_first", "credit_last"]
    words = ["before training, all from the same weights", "after training, each on its own weights"]
    chosen = [steps[0], steps[-1]] if len(steps) > 1 else steps
    return list(zip(names, chosen, words, strict=False))


def _has_credit(outcome: Outcome, step: int) -> bool:
    credit = outcome.credit(step)
    return credit is not None and not np.isnan(credit["delivered"]["all"]).all()


def _credit(group: Sequence[Outcome], step: int, words: str, what: str, band: str) -> Panel:
    by_rule = {outcome.contender.labels[2]: outcome.credit(step) for outcome in group}
    known = {rule: credit for rule, credit in by_rule.items() if credit is not None}
    values = {rule: credit[what]["all"] for rule, credit in known.items()}
    size = np.mean([credit["size"]["all"].mean(axis=0) for credit in known.values()], axis=0)
    first, last = (next(iter(known.values()))[end] for end in ("first", "last"))
    quantity = "share of true credit delivered" if what == "delivered" else "cosine to the true credit"

    def draw(ax: Axes) -> None:
        plot_credit_by_lag(first, last, values, size, ax=ax, ylabel=quantity, styles=styles_of(group))
        ax.set_title(words.partition(",")[0], fontsize=10)

    numbers = "; ".join(
        f"{rule}: " + ", ".join("none" if np.isnan(x).all() else f"{np.nanmean(x):.2f}" for x in rows.T)
        for rule, rows in values.items()
    )
    bands = ", ".join(f"{a} to {b}" for a, b in zip(first, last, strict=True))
    meaning = "1 is all of the true credit of that lag, 0 nothing of it" if what == "delivered" else "its direction"
    return Panel(
        draw,
        f"{quantity.capitalize()}, {words}, for lags of {bands} steps. {numbers}.",
        f"Credit by lag, {words}: {meaning}. Grey: how much there is. Only the last step's loss counts; of all "
        f"projections but the readout's.{band}",
    )


def _alignment(group: Sequence[Outcome], layer: str, what: str, band: str) -> Panel:
    values = {outcome.contender.labels[2]: outcome.alignment(layer, what) for outcome in group if outcome.probes}
    quantity = "cosine to the exact gradient" if what == "cosine" else "length relative to the exact gradient"
    ends = "; ".join(
        f"{rule} from {series[:, 0].mean():.2f} to {series[:, -1].mean():.2f}" for rule, (_, series) in values.items()
    )
    where = "all layers" if layer == "all" else layer

    def draw(ax: Axes) -> None:
        plot_alignment(values, ylabel=quantity, ax=ax, styles=styles_of(group))
        if layer != "all":
            ax.set_title(layer, fontsize=10)

    return Panel(
        draw,
        f"{quantity.capitalize()}, {where}, against updates: {ends}.",
        f"{quantity.capitalize()}, {where}, at the weights that each rule has reached.{band}",
    )


def _pareto(group: Sequence[Outcome], key: str, band: str) -> Panel:
    metric, label, scale, best = _score(group)
    axis, unit = COSTS[key]
    amounts = {outcome.contender.labels[2]: cost_of(outcome, key) for outcome in group}
    costs = {rule: amount / unit for rule, amount in amounts.items() if amount is not None}
    scores = {outcome.contender.labels[2]: scale * outcome.scores for outcome in group}
    front = pareto_front(costs, {rule: float(values.mean()) for rule, values in scores.items()}, best=best)
    words = "; ".join(f"{rule}: {costs[rule]:.3g}, {scores[rule].mean():.3g}" for rule in costs)
    return Panel(
        lambda ax: plot_pareto(
            costs, scores, front, xlabel=axis, ylabel=f"test {label}", ax=ax, styles=styles_of(group)
        ),
        f"Test {label} against {axis}: {words}. Not beaten in both: {', '.join(front)}.",
        f"Test {metric} against {axis}. Dotted: those that no other beats in both.{band}",
    )
