import re
import tomllib
from collections.abc import Iterable

_HEADER = re.compile(r"^\s*(\[{1,2})([^\[\]]+)\]{1,2}\s*(#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")

Path = tuple[str, ...]


def key_lines(text: str) -> dict[Path, int]:
    r"""Finds the line on which each section and key of a TOML text stands, since `tomllib` does not say.

    Args:
        text: TOML that `tomllib` accepts.

    Returns:
        The number of the line, from 1, of each path such as `("optimiser", "learning_rate")`, or `("rule", "0",
        "name")` in the first of several tables `[[rule]]`. Keys of an inline table or of a value that runs over several
        lines are not listed: look for the longest listed beginning of their path (`line_of`).

    Example:
        >>> key_lines("[training]\nsteps = 10\n")
        {('training',): 1, ('training', 'steps'): 2}
    """
    found: dict[Path, int] = {}
    tables: dict[Path, int] = {}  # how many there are so far of each `[[...]]`
    section: Path = ()
    value = ""  # a statement that has begun but not ended: an array or a string of several lines
    for number, line in enumerate(text.splitlines(), start=1):
        if value:
            value += "\n" + line
        elif header := _HEADER.match(line):
            *before, last = _path(header[2])
            section = (*_with_numbers(before, tables), last)
            if header[1] == "[[":
                found.setdefault(section, number)
                tables[section] = tables.get(section, 0) + 1
            section = _with_numbers((last,), tables, section[:-1])
            found.setdefault(section, number)
            continue
        elif key := _KEY.match(line):
            path = section + _path(key[1])
            for depth in range(len(section) + 1, len(path) + 1):
                found.setdefault(path[:depth], number)
            value = line
        else:
            continue
        if _is_complete(value):
            value = ""
    return found


def line_of(path: Path, lines: dict[Path, int]) -> int | None:
    """Gives the line of `path`, or of the innermost thing around it that has a line."""
    for depth in range(len(path), 0, -1):
        if path[:depth] in lines:
            return lines[path[:depth]]
    return None


def _with_numbers(path: Iterable[str], tables: dict[Path, int], before: Path = ()) -> Path:
    """Puts behind the name of a `[[...]]` the number of the latest one."""
    for part in path:
        before = (*before, part)
        if before in tables:
            before = (*before, str(tables[before] - 1))
    return before


def _is_complete(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _path(key: str) -> Path:
    """Splits a key the way TOML does: `a."b.c"` is `("a", "b.c")`."""
    table, parts = tomllib.loads(f"{key} = 0"), []
    while isinstance(table, dict):
        [(part, table)] = table.items()
        parts.append(part)
    return tuple(parts)
