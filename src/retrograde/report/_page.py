import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrograde.plots import plot_confusion, plot_curves, plot_distribution, plot_samplers
from retrograde.report._figure import PARAMETERS, draw_loss
from retrograde.report._html import html_figure, html_page, html_table
from retrograde.report._measures import SAMPLERS
from retrograde.report._record import Record


def write_page(records: Sequence[Record], path: str | os.PathLike, *, recipes: Sequence[str]) -> Path:
    """Writes one HTML page about one or several runs. It needs no other file and no network.

    Args:
        records: The runs.
        path: Where to write it.
        recipes: The recipe of each run as TOML.

    Returns:
        The path.
    """
    named = dict(zip(_distinct(records), records, strict=True))
    title = "Report on " + (f"the run {next(iter(named))}" if len(named) == 1 else f"{len(named)} runs")
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _summary_table(named),
        '<div class="figures">',
        *_shared_figures(named),
        "</div>",
    ]
    for (name, record), recipe in zip(named.items(), recipes, strict=True):
        parts += _section(name, record, recipe)
    return html_page(title, parts, Path(path))


def _distinct(records: Sequence[Record]) -> list[str]:
    """Names of the runs, told apart by number where two folders have the same."""
    names = [record.name for record in records]
    return [f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _summary_table(named: Mapping[str, Record]) -> str:
    rows = []
    for name, record in named.items():
        recipe, history = record.origin.get("recipe") or {}, record.history
        cells = [
            name,
            recipe.get("task", {}).get("name", "?"),
            recipe.get("rule", {}).get("name", "?"),
            f"{history.step[-1]:,}" if len(history.step) else "0",
            str(len(history.loss)),
        ]
        if record.measures is None:
            cells += ["not finished", "", "", "", "", ""]
        else:
            measures = record.measures
            values, scale, unit = (
                (measures.accuracies, 100.0, " %") if measures.is_classification else (measures.losses, 1.0, "")
            )
            cells += [_mean_and_sd(values[sampler], scale, unit) for sampler in SAMPLERS]
            share = measures.shares().get("all")
            cells += ["–"] * 3 if share is None else [f"{100 * part:.1f} %" for part in share]
        rows.append(cells)
    head = ["run", "task", "rule", "updates", "seeds", *SAMPLERS, "certain", "absent", "uncertain"]
    caption = (
        "Test accuracy (of a regression: loss), mean ± s.d. over samples and seeds. Certain: π = 0 and Ξ = 0; "
        "absent: π = 1; uncertain: all other connections."
    )
    return html_table(head, rows) + f'<p class="faint">{html.escape(caption)}</p>'


def _shared_figures(named: Mapping[str, Record]) -> list[str]:
    seeds = sorted({len(record.history.loss) for record in named.values()})
    band = f"Mean over seeds (n = {', '.join(map(str, seeds))}); band: ± s.d." if seeds[-1] > 1 else "One seed."
    figures = [
        html_figure(
            lambda ax: draw_loss(dict(named), ax),
            f"Training loss against updates of {_list(named)}. {_trend(named, 'loss', 1.0, '')}",
            f"Training loss. {band}",
        )
    ]
    curves = {name: record.history.measured("validation_accuracy") for name, record in named.items()}
    curves = {name: (step, 100 * values) for name, (step, values) in curves.items() if len(step)}
    if curves:
        figures.append(
            html_figure(
                lambda ax: plot_curves(curves, ylabel="held-out accuracy (%)", ax=ax),
                f"Held-out accuracy against updates of {_list(curves)}. "
                + _trend(named, "validation_accuracy", 100.0, " %"),
                f"Accuracy on held-out trials while training. {band}",
            )
        )
    measured = {
        name: r.measures for name, r in named.items() if r.measures is not None and r.measures.is_classification
    }
    if measured:
        values = {name: {k: a.ravel() for k, a in m.accuracies.items()} for name, m in measured.items()}
        words = "; ".join(
            f"{name}: " + ", ".join(f"{k} {_mean_and_sd(a, 100.0, ' %')}" for k, a in by_sampler.items())
            for name, by_sampler in values.items()
        )
        figures.append(
            html_figure(
                lambda ax: plot_samplers(values, ax=ax),
                f"Test accuracy of each way to sample the ensemble. {words}.",
                "Dots: samples. Mean-field: pooled noise; annealed: weights drawn in each time step; quenched: one "
                "network drawn for all trials. Bars: ± s.d.",
            )
        )
    return figures


def _section(name: str, record: Record, recipe: str) -> list[str]:
    parts = [f"<h2>{html.escape(name)}</h2>"]
    measures = record.measures
    if measures is None:
        parts.append(
            f"<p>This run is not finished: <code>retrograde resume {html.escape(str(record.folder))}</code></p>"
        )
    else:
        parts.append('<div class="figures">')
        if (confusion := measures.confusion) is not None:
            right = 100 * np.trace(confusion) / max(confusion.sum(), 1)
            parts.append(
                html_figure(
                    lambda ax: plot_confusion(confusion, ax=ax),
                    f"Confusion matrix: {right:.1f} % of all answers are right. {_worst(confusion)}",
                    f"Answers of the mean field, all seeds and samples (n = {confusion.sum():,}).",
                )
            )
        for parameter, label in PARAMETERS.items():
            if values := measures.by_projection(parameter):
                medians = ", ".join(f"{owner} {np.median(value):.3g}" for owner, value in values.items())
                parts.append(
                    html_figure(
                        lambda ax, values=values, label=label: plot_distribution(values, xlabel=label, ax=ax),
                        f"Histogram of {label} in each projection. Medians: {medians}.",
                        f"{label}, in each projection after training.",
                    )
                )
        parts.append("</div>")
        if shares := measures.shares():
            rows = [[owner, *(f"{100 * part:.1f} %" for part in share)] for owner, share in shares.items()]
            parts.append(html_table(["connections", "certain", "absent", "uncertain"], rows))
    origin = record.origin
    facts = [[key, _fact(origin[key])] for key in ("started", "commit", "machine", "devices") if origin.get(key)]
    facts += [[package, version] for package, version in (origin.get("versions") or {}).items()]
    parts.append(f"<details><summary>Recipe</summary><pre>{html.escape(recipe)}</pre></details>")
    parts.append(f"<details><summary>Versions and machine</summary>{html_table(['', ''], facts)}</details>")
    return parts


def _mean_and_sd(values: np.ndarray, scale: float, unit: str) -> str:
    return f"{scale * values.mean():.3g} ± {scale * values.std():.2g}{unit}"


def _trend(named: Mapping[str, Record], metric: str, scale: float, unit: str) -> str:
    """Says a curve in words, for readers who cannot see it."""
    words = []
    for name, record in named.items():
        _, values = record.history.measured(metric)
        if values.shape[1]:
            first, last = scale * values[:, 0].mean(), scale * values[:, -1].mean()
            words.append(f"{name}: from {first:.3g}{unit} to {last:.3g}{unit}")
    return "; ".join(words) + "." if words else ""


def _worst(confusion: np.ndarray) -> str:
    wrong = confusion - np.diag(np.diag(confusion))
    if not wrong.sum():
        return "None is wrong."
    label, answer = np.unravel_index(wrong.argmax(), wrong.shape)
    share = 100 * wrong[label, answer] / confusion[label].sum()
    return f"The most frequent error: {share:.0f} % of class {label} are answered {answer}."


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(names)


def _fact(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
