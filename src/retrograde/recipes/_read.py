import os
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from retrograde.recipes._components import Component, did_you_mean, is_comparison, parameter_model, shipped
from retrograde.recipes._lines import Path as KeyPath
from retrograde.recipes._lines import key_lines, line_of
from retrograde.recipes._schema import Recipe

# Pydantic's words → a recipe's.
_WORDS = {
    "a valid dictionary or instance of ": "a section: ",
    "a valid dictionary": "a section (a table of keys)",
    "a valid integer": "a whole number",
    "a valid ": "a ",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}


class RecipeError(ValueError):
    """A recipe that cannot be used. The message lists all that is wrong, one problem a line, each with its place.

    Attributes:
        problems: The lines of the message.
    """

    def __init__(self, problems: Sequence[str]):
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read(source: str | os.PathLike, overrides: Mapping[str, str] | Sequence[str] = ()) -> Recipe:
    """Reads and checks a recipe.

    Args:
        source: Name of a shipped recipe, or path of a TOML file.
        overrides: Changes, each `"section.key=value"`, with the value as TOML writes it; a bare word is a string. Or
            such changes by the name of the command-line option that stands for each, for messages.

    Returns:
        The checked recipe.

    Raises:
        RecipeError: If the file cannot be read, is not TOML, or says something that the recipe's model does not know
            or allow; all such problems at once, each with file and line.

    Example:
        >>> read("digits", ["training.steps=10"]).training.steps
        10
    """
    written = load(source)
    if is_comparison(written.content):
        raise RecipeError([f"{written.file}: this compares several rules; run it by `retrograde compare {source}`"])
    if not isinstance(overrides, Mapping):
        overrides = {f"--set {override}": override for override in overrides}
    options = {change(written.content, option, override): option for option, override in overrides.items()}
    return check(written.content, written.file, written.lines, options)


class Written(NamedTuple):
    """What a TOML file says, not yet checked.

    Attributes:
        file: What to call it in messages.
        content: Its nested tables, and the file's name as `name` if it gives none.
        lines: Lines of its keys.
    """

    file: str
    content: dict[str, Any]
    lines: dict[KeyPath, int]


def load(source: str | os.PathLike) -> Written:
    """Reads the TOML of a recipe or a comparison.

    Args:
        source: Name of one that is shipped, or path of a TOML file.

    Raises:
        RecipeError: If it cannot be read or is not TOML.
    """
    file, text = _text(source)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, line = _syntax(error, text)
        raise RecipeError([f"{file}:{line}: this is not TOML: {reason}"]) from None
    content.setdefault("name", Path(file).stem)
    return Written(file, content, key_lines(text))


def check(
    content: Mapping[str, Any],
    file: str = "recipe",
    lines: Mapping[KeyPath, int] | None = None,
    options: Mapping[KeyPath, str] | None = None,
) -> Recipe:
    """Checks what a recipe says.

    Args:
        content: The recipe as nested tables.
        file: What to call it in messages.
        lines: Lines of its keys, if it comes from a text.
        options: Command-line options that some of its keys come from.

    Returns:
        The checked recipe.

    Raises:
        RecipeError: As for `read`.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        problems = {}
        for details in error.errors(include_url=False):
            path = tuple(str(part) for part in details["loc"])
            place, order = _place(path, details, file, dict(lines or {}), options or {})
            # A union reports each of its members' complaints; one per place is enough.
            problems.setdefault((order, place, path[:4]), f"{place}: {_problem(path, details, content)}")
        raise RecipeError([problems[key] for key in sorted(problems)]) from None


def _text(source: str | os.PathLike) -> tuple[str, str]:
    """Finds a recipe; gives what to call its file and what is in it."""
    name, path = os.fspath(source), Path(source)
    is_path = isinstance(source, os.PathLike) or name.endswith(".toml") or os.sep in name or path.exists()
    if not is_path:
        known = [*shipped(), *shipped(comparisons=True)]
        if name not in known:
            raise RecipeError(
                [
                    f"no recipe {name!r} comes with retrograde; {did_you_mean(name, known)} "
                    "(`retrograde list recipes` shows all; a recipe of your own is a path ending in .toml)"
                ]
            )
        return f"{name}.toml", (resources.files("retrograde.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    if path.is_dir():
        raise RecipeError([f"{name}: this is a folder; give the path of a recipe, a TOML file"])
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RecipeError(
            [
                f"{name}: no such file; give the path of a recipe, or the name of one that comes with retrograde: "
                f"{', '.join(shipped())}"
            ]
        ) from None
    except OSError as error:
        raise RecipeError([f"{name}: cannot be read: {error.strerror}"]) from None
    try:
        return name, data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError([f"{name}: this is not a text file (byte {error.start} is not UTF-8)"]) from None


def _syntax(error: tomllib.TOMLDecodeError, text: str) -> tuple[str, int]:
    """Splits a parser's message into what is wrong and the line."""
    reason = re.sub(r" \(at .*\)$", "", str(error))
    line = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
    return reason[:1].lower() + reason[1:], int(line[1]) if line else max(1, len(text.splitlines()))


def change(content: dict[str, Any], option: str, override: str) -> KeyPath:
    """Changes `content` as one `section.key=value` says; gives the path of the key.

    Args:
        content: Nested tables.
        option: What the change is called in messages.
        override: The change.

    Raises:
        RecipeError: If it is not of that form, or its value not one of TOML.
    """
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise RecipeError([f"{option}: write `--set section.key=value`, for example `--set training.steps=100`"])
    table = content
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError([f"{option}: {part!r} is not a section here, but {_show(table)}; set it as a whole"])
    table[path[-1]] = _value(text.strip(), option)
    return path


def _value(text: str, option: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        if re.fullmatch(r"[^\W\d][\w ./:-]*", text):
            return text
    raise RecipeError([f"{option}: {text!r} is not a value of TOML; a text with signs in it needs quotes: '\"...\"'"])


def _place(
    path: KeyPath, details: ErrorDetails, file: str, lines: dict[KeyPath, int], options: Mapping[KeyPath, str]
) -> tuple[str, int]:
    """Says where a problem is, and where in the order of all problems it goes."""
    named = re.search(r"\((\w+)=", details["msg"])  # a constructor's message names the argument
    if details["type"] == "value_error" and named:
        path = (*path, named[1])
    for depth in range(len(path), 0, -1):
        if path[:depth] in options:
            return options[path[:depth]], -1
        if path[:depth] in lines:
            break
    line = line_of(path, lines)
    return (f"{file}:{line}", line) if line else (file, 0)


def _problem(path: KeyPath, details: ErrorDetails, content: Mapping[str, Any]) -> str:
    """Says in words what is wrong at `path`."""
    *section, key = path or ("",)
    where = f" in [{'.'.join(section)}]" if section else ""
    kind, message, value = details["type"], details["msg"], details["input"]
    if kind == "extra_forbidden":
        return f"unknown {'key' if section or not isinstance(value, dict) else 'section'} {key!r}{where}; " + (
            did_you_mean(key, list(_keys(tuple(section), content)))
        )
    if kind == "missing":
        names = Recipe.model_fields
        return f"the section [{key}] is missing" if not section and key in names else f"missing key {key!r}{where}"
    if kind in ("unknown_name", "not_in_toml"):
        return message.replace(";", where + ";", 1)
    if kind == "value_error":
        return f"[{'.'.join(path)}]: {message.removeprefix('Value error, ')}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", details.get("ctx", {}).get("expected", ""))
        return f"{key!r}{where} is {_show(value)}; " + (
            did_you_mean(value, choices) if isinstance(value, str) else f"pick one of {', '.join(choices)}"
        )
    expected = message.removeprefix("Input ").removeprefix("should be ")
    for theirs, ours in _WORDS.items():
        expected = expected.replace(theirs, ours)
    return f"{key!r}{where} must be {expected}, got {_show(value)}"


def _keys(section: KeyPath, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Gives the keys that a section of a recipe may have."""
    table: Any = content
    fields = _fields(Recipe, content)
    parts = iter(section)
    for part in parts:
        annotation = fields[part].annotation if part in fields else None
        model, table = _model_in(annotation), table.get(part)
        if typing.get_origin(annotation) is dict:  # its keys are anything; its values are of the model
            table = table.get(next(parts, None))
        if model is None or not isinstance(table, Mapping):
            return {}
        fields = _fields(model, table)
    return fields


def _fields(model: type[BaseModel], table: Mapping[str, Any]) -> Mapping[str, FieldInfo]:
    if issubclass(model, Component):
        return {**model.model_fields, **parameter_model(model.kind, table["name"]).model_fields}
    return model.model_fields


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Gives the model in `Model` or `Model | None`."""
    for member in (annotation, *typing.get_args(annotation)):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None


def _show(value: Any) -> str:
    """Writes a value roughly as TOML does, cut short."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
