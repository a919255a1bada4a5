import base64
import html
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from retrograde.plots import plot_confusion, plot_curves, plot_distribution, plot_samplers
from retrograde.report._figure import PARAMETERS, draw_loss
from retrograde.report._files import write_file
from retrograde.report._measures import SAMPLERS
from retrograde.report._record import Record

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --paper: #fff; --faint: #6b6b70; --line: #ddd; --link: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececf0; --paper: #17171a; --faint: #a0a0a8; --line: #3a3a40; --link: #56b4e9; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 70rem; padding: 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.25rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } figure img { width: 100%; background: #fff; border-radius: .4rem; }
figcaption, .faint { color: var(--faint); font-size: .85rem; }
pre { overflow-x: auto; font-size: .8rem; border: 1px solid var(--line); border-radius: .4rem; padding: .8rem; }
a { color: var(--link); }
"""


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
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
    return write_file(Path(path), lambda new: new.write_text(page, encoding="utf-8"))


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
    return _table(head, rows) + f'<p class="faint">{html.escape(caption)}</p>'


def _shared_figures(named: Mapping[str, Record]) -> list[str]:
    seeds = sorted({len(record.history.loss) for record in named.values()})
    band = f"Mean over seeds (n = {', '.join(map(str, seeds))}); band: ± s.d." if seeds[-1] > 1 else "One seed."
    figures = [
        _figure(
            lambda ax: draw_loss(dict(named), ax),
            f"Training loss against updates of {_list(named)}. {_trend(named, 'loss', 1.0, '')}",
            f"Training loss. {band}",
        )
    ]
    curves = {name: record.history.measured("validation_accuracy") for name, record in named.items()}
    curves = {name: (step, 100 * values) for name, (step, values) in curves.items() if len(step)}
    if curves:
        figures.append(
            _figure(
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
            _figure(
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
                _figure(
                    lambda ax: plot_confusion(confusion, ax=ax),
                    f"Confusion matrix: {right:.1f} % of all answers are right. {_worst(confusion)}",
                    f"Answers of the mean field, all seeds and samples (n = {confusion.sum():,}).",
                )
            )
        for parameter, label in PARAMETERS.items():
            if values := measures.by_projection(parameter):
                medians = ", ".join(f"{owner} {np.median(value):.3g}" for owner, value in values.items())
                parts.append(
                    _figure(
                        lambda ax, values=values, label=label: plot_distribution(values, xlabel=label, ax=ax),
                        f"Histogram of {label} in each projection. Medians: {medians}.",
                        f"{label}, in each projection after training.",
                    )
                )
        parts.append("</div>")
        if shares := measures.shares():
            rows = [[owner, *(f"{100 * part:.1f} %" for part in share)] for owner, share in shares.items()]
            parts.append(_table(["connections", "certain", "absent", "uncertain"], rows))
    origin = record.origin
    facts = [[key, _fact(origin[key])] for key in ("started", "commit", "machine", "devices") if origin.get(key)]
    facts += [[package, version] for package, version in (origin.get("versions") or {}).items()]
    parts.append(f"<details><summary>Recipe</summary><pre>{html.escape(recipe)}</pre></details>")
    parts.append(f"<details><summary>Versions and machine</summary>{_table(['', ''], facts)}</details>")
    return parts


def _figure(draw: Callable[[Axes], Any], alt: str, caption: str) -> str:
    """Draws into an SVG that the page carries inside itself."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "retrograde", "font.family": "sans-serif"}):
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        draw(figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"] if any(head) else []
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return '<div class="table"><table>' + "\n".join(lines) + "</table></div>"


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
