"""Results on standard output: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def print_json(content: Any) -> None:
    """Prints one JSON value."""
    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(rows: Sequence[Sequence[str]], head: Sequence[str], title: str | None = None) -> None:
    """Prints a table; in a pipe as wide as it needs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)


def say(*words: str) -> None:
    """Tells the user something that is no result: on standard error."""
    print(*words, file=sys.stderr, flush=True)
