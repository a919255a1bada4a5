"""The results of a paper as a table, as one HTML page, and as Markdown with pictures beside it."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retrograde.papers._claim import Band, Paper
from retrograde.papers._reproduce import Judged, Outcome
from retrograde.report import html_page, html_table, svg_style, write_file

HEAD = ("claim", "quantity", "paper", "ours", "verdict", "wanted")


def outcome_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Makes the table of a paper, as texts: one row for each quantity, below `HEAD`."""
    return [
        [
            outcome.claim.key if number == 0 else "",
            judged.band.words,
            judged.band.paper or "number not known",
            _ours(judged),
            _verdict(judged),
            _wanted(judged.band),
        ]
        for outcome in outcomes
        for number, judged in enumerate(outcome.judged)
    ]


def _number(value: float, band: Band) -> str:
    scale, unit = _unit(band)
    return f"{_plain(scale * value)}{unit}"


def _unit(band: Band) -> tuple[float, str]:
    return (100.0, " %") if band.unit == "%" else (1.0, f" {band.unit}" if band.unit else "")


def _plain(value: float, digits: int = 3) -> str:
    """So many digits, without powers of ten where people would not write them."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        text = f"{value:.0f}" if abs(value) >= 1000 or value == 0 else f"{value:.{digits}g}"
    else:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", "−")


def _wanted(band: Band) -> str:
    if np.isfinite(band.low) and np.isfinite(band.high):
        scale, _ = _unit(band)
        return f"{_plain(scale * band.low)} to {_number(band.high, band)}"
    return f"≥ {_number(band.low, band)}" if np.isfinite(band.low) else f"≤ {_number(band.high, band)}"


def _ours(judged: Judged) -> str:
    values = judged.values
    if not len(values):
        return "–"
    if not np.isfinite(values).all():
        return "not a number"
    if len(values) == 1:
        return _number(judged.mean, judged.band)
    scale, unit = _unit(judged.band)
    return f"{_plain(scale * judged.mean)} ± {_plain(scale * float(values.std()), 2)}{unit}"


def _verdict(judged: Judged) -> str:
    if judged.verdict != "not reached":
        return judged.verdict
    missing = f" by {_number(judged.distance, judged.band)}" if np.isfinite(judged.distance) else ""
    return f"not reached{missing}"


def counts(outcomes: Sequence[Outcome]) -> str:
    """Says how many claims are reached: `"12 reached, 1 not reached"`."""
    verdicts = [outcome.verdict for outcome in outcomes]
    words = ("reached", "not reached", "not judged", "not run")
    return ", ".join(f"{verdicts.count(word)} {word}" for word in words if word in verdicts)


def draw_outcome(outcome: Outcome) -> Figure:
    """Draws the figure of a claim that was measured."""
    figure = Figure(figsize=outcome.claim.size, layout="constrained")
    outcome.claim.draw(figure, outcome.arrays)
    return figure


def write_html(paper: Paper, outcomes: Sequence[Outcome], path: Path) -> Path:
    """Writes one HTML page. It needs no other file and no network.

    Args:
        paper: The paper.
        outcomes: Of its claims.
        path: Where to write it.
    """
    parts = [
        f"<h1>{html.escape(paper.title)}</h1>",
        f'<p class="faint">{html.escape(paper.reference)}</p>',
        *(f"<p>{html.escape(_one_line(text))}</p>" for text in paper.notes.strip().split("\n\n")),
        f"<p><b>{html.escape(counts(outcomes))}</b></p>",
        html_table(HEAD, outcome_rows(outcomes)),
    ]
    for outcome in outcomes:
        claim = outcome.claim
        parts += [
            f'<h2 id="{claim.key}">{html.escape(claim.statement)}</h2>',
            f'<p class="faint">{html.escape(claim.where)} · {html.escape(_facts(outcome))}</p>',
            f"<p>{html.escape(_one_line(claim.how))}</p>",
            html_table(HEAD[1:], [row[1:] for row in outcome_rows([outcome])]),
        ]
        if outcome.scale is not None:
            with svg_style():
                buffer = io.BytesIO()
                draw_outcome(outcome).savefig(buffer, format="svg", metadata={"Date": None})
            data = base64.b64encode(buffer.getvalue()).decode()
            width = f"max-width: {96 * claim.size[0]:.0f}px"
            parts.append(
                f'<figure style="{width}"><img alt="{html.escape(claim.shows)}" src="data:image/svg+xml;base64,{data}">'
                f"<figcaption>{html.escape(claim.shows)}</figcaption></figure>"
            )
        parts += [f'<p class="faint">{html.escape(text)}</p>' for text in _sources(outcome)]
    return html_page(paper.title, parts, path)


def write_markdown(paper: Paper, outcomes: Sequence[Outcome], path: Path, command: str) -> Path:
    """Writes a Markdown page, and its pictures into a folder beside it that is called like the page.

    Args:
        paper: The paper.
        outcomes: Of its claims.
        path: Where to write it.
        command: The command that makes the page, for the record.
    """
    lines = [
        f"# {paper.title}",
        "",
        paper.reference,
        "",
        f"This page is written by `{command}`.",
        "",
        *paper.notes.strip().split("\n"),
        "",
        f"**{counts(outcomes)}**",
        "",
        *_markdown_table(HEAD, outcome_rows(outcomes)),
    ]
    for outcome in outcomes:
        claim = outcome.claim
        lines += ["", f"## {claim.key}", "", f"**{claim.statement}** ({claim.where})", "", _one_line(claim.how), ""]
        lines += _markdown_table(HEAD[1:], [row[1:] for row in outcome_rows([outcome])])
        lines += ["", *(f"{text}  " for text in [*_sources(outcome), _facts(outcome)])]
        if outcome.scale is not None:
            picture = path.with_suffix("") / f"{claim.key}.png"
            write_file(picture, lambda new, outcome=outcome: _save_png(draw_outcome(outcome), new))
            lines += ["", f"![{claim.shows}]({path.stem}/{claim.key}.png)"]
    return write_file(path, lambda new: new.write_text("\n".join(lines) + "\n", encoding="utf-8"))


def _save_png(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, rows)]


def _sources(outcome: Outcome) -> list[str]:
    """Where bands come from that do not come from the paper, those of one source together."""
    words: dict[str, list[str]] = {}
    for judged in outcome.judged:
        if judged.band.source:
            words.setdefault(judged.band.source, []).append(judged.band.words)
    return [f"Bands of {', '.join(found)}: {source}." for source, found in words.items()]


def _facts(outcome: Outcome) -> str:
    if outcome.scale is None:
        return "not run"
    seeds, origin = outcome.origin["seeds"], outcome.origin
    versions = origin.get("versions", {})
    return (
        f"scale {outcome.scale}, {seeds} seed{'s' if seeds > 1 else ''}, {outcome.seconds:,.0f} s, "
        f"{origin.get('started', '')[:10]}, commit {(origin.get('commit') or 'unknown')[:7]}, "
        f"JAX {versions.get('jax', '?')}, Python {versions.get('python', '?')}"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
