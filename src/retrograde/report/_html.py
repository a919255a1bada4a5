"""Pages that need no other file and no network."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from retrograde.report._files import write_file

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


def svg_style() -> AbstractContextManager[None]:
    """Within it, the same numbers give the same bytes of SVG, and text stays text."""
    return rc_context({"svg.fonttype": "none", "svg.hashsalt": "retrograde", "font.family": "sans-serif"})


def html_page(title: str, parts: Sequence[str], path: Path) -> Path:
    """Writes a page, whole or not at all.

    Args:
        title: Its title.
        parts: Its body, as HTML.
        path: Where to write it.
    """
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
    return write_file(path, lambda new: new.write_text(page, encoding="utf-8"))


def html_figure(draw: Callable[[Axes], Any], alt: str, caption: str) -> str:
    """Draws into an SVG that the page carries inside itself.

    Args:
        draw: Draws on the axes that it is given.
        alt: What is to be seen, in words.
        caption: What stands below it.
    """
    with svg_style():
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        draw(figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Makes a table of texts; without a line of heads if these are empty."""
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"] if any(head) else []
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return '<div class="table"><table>' + "\n".join(lines) + "</table></div>"
