import json
import re
from collections.abc import Mapping
from typing import Any

from retrograde.recipes._schema import Recipe


def to_toml(recipe: Recipe | Mapping[str, Any]) -> str:
    """Writes a recipe as TOML, all its numbers spelt out.

    Args:
        recipe: A recipe, or its tables.

    Returns:
        Text that `read` reads back as the same recipe.
    """
    content = recipe.model_dump(exclude_none=True) if isinstance(recipe, Recipe) else recipe
    return "\n".join(_lines(content, ())).strip() + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in table.items() if not _is_section(value, path)}
    lines = [f"\n[{'.'.join(map(_key, path))}]"] if path and (plain or not table) else []
    lines += [f"{_key(key)} = {_value(value)}" for key, value in plain.items() if value is not None]
    for key, value in table.items():
        if key not in plain:
            lines += _lines(value, (*path, key))
    return lines


def _is_section(value: Any, path: tuple[str, ...]) -> bool:
    """Tables become sections down to `[synapses.input]`; deeper ones stay in their line."""
    return isinstance(value, Mapping) and bool(value) and len(path) < 2


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
