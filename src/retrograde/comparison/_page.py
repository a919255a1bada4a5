import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrograde.comparison._figures import cost_of, layer_panels, panels
from retrograde.comparison._outcome import Comparison, Outcome
from retrograde.recipes import to_toml
from retrograde.report import html_figure, html_page, html_table
from retrograde.training import read_run

HEAD = ("rule", "test accuracy", "test loss", "cosine, first", "cosine, last", "time / update", "memory", "MACs")
NOTES = """
All rules start from the same weights and see the same trials and the same noise, seed by seed. <b>Cosine</b>: of the
angle between a rule's gradient and the exact one (BPTT through the weights themselves), before the first update and
after the last, each time at the weights that the rule has reached. <b>Time</b>: median of a compiled update, all rules
in turn; <b>memory</b>: what lies between the weights and their update, from the compiler; <b>MACs</b>:
multiply–accumulates of the gradient, forward pass included, counted in the traced program.
"""


def table_rows(group: Sequence[Outcome]) -> list[list[str]]:
    """Makes the table of one task and network, as texts: one row for each rule, below `HEAD`."""
    rows = []
    for outcome in group:
        cosine = outcome.alignment()[1] if outcome.probes else np.full((1, 1), np.nan)
        seconds, memory, macs = (cost_of(outcome, key) for key in ("seconds_per_update", "between_bytes", "macs"))
        rows.append(
            [
                outcome.contender.labels[2] + (f" (stopped at {outcome.steps})" if outcome.failure else ""),
                _spread(100 * outcome.accuracies, 1, " %") if outcome.is_classification else "–",
                _spread(outcome.losses, 4),
                _spread(cosine[:, 0], 3),
                _spread(cosine[:, -1], 3),
                _amount(seconds, 1e-3, "ms"),
                _amount(memory, 1e6, "MB"),
                _amount(macs, 1e6, "M"),
            ]
        )
    return rows


def write_comparison_page(comparison: Comparison, path: Path) -> Path:
    """Writes one HTML page about a comparison. It needs no other file and no network.

    Args:
        comparison: What was found.
        path: Where to write it.
    """
    parts = [f"<h1>{html.escape(comparison.name)}</h1>", f'<p class="faint">{NOTES}</p>']
    for (task, network), group in comparison.groups().items():
        parts.append(f"<h2>{html.escape(task)}, {html.escape(network)}</h2>")
        parts.append(html_table(HEAD, table_rows(group)))
        failures = [f"{outcome.contender.labels[2]}: {outcome.failure}" for outcome in group if outcome.failure]
        parts += [f"<p>{html.escape(failure)}</p>" for failure in failures]
        parts += ['<div class="figures">', *(html_figure(*panel) for panel in panels(group).values()), "</div>"]
        if group[0].probes:
            layers = [html_figure(*panel) for panel in layer_panels(group)]
            parts.append("<details><summary>Alignment, layer by layer</summary>")
            parts += ['<div class="figures">', *layers, "</div></details>"]
        parts.append("<details><summary>What credit reaches</summary>" + _coverage_table(group) + "</details>")
        for outcome in group:
            if outcome.contender.recipe is not None:
                recipe = html.escape(to_toml(outcome.contender.recipe))
                rule = html.escape(outcome.contender.labels[2])
                parts.append(f"<details><summary>Recipe of {rule}</summary><pre>{recipe}</pre></details>")
    origin = read_run(comparison.outcomes[0].folder)
    facts = [[key, _text(origin[key])] for key in ("started", "commit", "machine", "devices") if origin.get(key)]
    facts += [[package, version] for package, version in origin["versions"].items()]
    parts.append(f"<details><summary>Versions and machine</summary>{html_table(['', ''], facts)}</details>")
    return html_page(comparison.name, parts, path)


def _coverage_table(group: Sequence[Outcome]) -> str:
    labels = list(dict.fromkeys(label for outcome in group for label in outcome.coverage))
    rows = [[label, *(outcome.coverage.get(label, "–") for outcome in group)] for label in labels]
    return html_table(["parameter", *(outcome.contender.labels[2] for outcome in group)], rows)


def _spread(values: np.ndarray, digits: int, unit: str = "") -> str:
    if np.isnan(values).any():
        return "–"
    mean, sd = f"{values.mean():.{digits}f}{unit}", f"{values.std():.{digits}f}{unit}"
    return f"{mean} ± {sd}" if len(values) > 1 else mean


def _amount(value: float | None, unit: float, name: str) -> str:
    return "–" if value is None else f"{value / unit:.3g} {name}"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
