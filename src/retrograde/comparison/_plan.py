import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retrograde import recipes
from retrograde.recipes import Recipe, RecipeError, Written, did_you_mean

KeyPath = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Measuring:
    """`[compare]`: what is measured beside learning curves.

    Attributes:
        points: Times at which a rule's gradient is compared with the exact one: before the first update, after the
            last, and between, evenly in the logarithm of the number of updates.
        bands: Bands of lags in which delivered credit is measured; 0: not at all.
        draws: Draws over which the delivered credit of a random rule is averaged.
        batch: Trials on which both are measured.
        repeats: Updates that are timed.
    """

    points: int = 6
    bands: int = 6
    draws: int = 1
    batch: int = 64
    repeats: int = 15

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "bands" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"`{field.name}` must be a whole number of at least {least}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of those compared: what it is called, and its recipe.

    Attributes:
        task: Label of the task.
        network: Label of the network.
        rule: Label of the rule.
        recipe: All of it.
    """

    task: str
    network: str
    rule: str
    recipe: Recipe


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which recipes are compared, and how.

    Attributes:
        name: What the comparison is called.
        entries: Every task with every network and every rule.
        measuring: What is measured.
    """

    name: str
    entries: tuple[Entry, ...]
    measuring: Measuring


def read_plan(source: str | Path, *, rules: str | None = None, overrides: Mapping[str, str] | None = None) -> Plan:
    """Reads what is to be compared.

    Args:
        source: A comparison or a recipe: the name of one that comes with retrograde, or the path of a TOML file. A
            comparison is a recipe with several tables `[[rule]]`, `[[task]]` or `[[network]]`, or changes one that it
            names by `recipe = "..."`.
        rules: Names of rules between commas, each perhaps with settings, `"bptt,truncated_bptt(window=7)"`; those of
            `source` if `None`.
        overrides: Changes that hold for all, as for `recipes.read`, by the command-line option that stands for each.

    Returns:
        The plan.

    Raises:
        RecipeError: If something of it cannot be read or is not allowed; all such problems at once, with their places.

    Example:
        >>> plan = read_plan("add", rules="bptt,truncated_bptt(window=5)")
        >>> [entry.rule for entry in plan.entries], plan.entries[1].recipe.task.name
        (['bptt', 'truncated_bptt'], 'add')
    """
    written = recipes.load(source)
    content = _on_base(written, source)
    options: dict[KeyPath, str] = {}
    for option, override in (overrides or {}).items():
        options[recipes.change(content, option, override)] = option
    if rules is not None:
        content["rule"] = _parse_rules(rules, content.get("rule"))
        options[("rule",)] = f"--rules {rules}"
    known_lines = {p: line for p, line in written.lines.items() if p[:1] not in options}
    problems: list[str] = []
    measuring = _measuring(content.pop("compare", {}), written, options, problems)
    axes = {"task": _tables(content, "task"), "network": _networks(content, written, problems)}
    axes["rule"] = _tables(content, "rule") or [{"name": "bptt"}]
    labels = {}
    for axis, tables in axes.items():
        labels[axis] = _labels(tables, axis, content, options.get((axis,), written.file), problems)
    entries = []
    for numbers in _combinations([len(tables) for tables in axes.values()]):
        chosen = dict(zip(axes, numbers, strict=True))
        one = _combine(content, {axis: axes[axis][number] for axis, number in chosen.items()})
        lines, origins = dict(known_lines), dict(options)
        _follow(lines, chosen)
        _follow(origins, chosen)
        try:
            recipe = recipes.check(one, written.file, lines, origins)
        except RecipeError as error:
            problems += [problem for problem in error.problems if problem not in problems]
        else:
            entries.append(Entry(**{axis: labels[axis][number] for axis, number in chosen.items()}, recipe=recipe))
    if not problems and len(entries) == 1:
        problems = [
            f"{written.file}: there is nothing to compare, only {labels['rule'][0]!r}; name several rules, as in "
            "`--rules bptt,truncated_bptt`, or write several tables [[rule]]"
        ]
    if problems:
        raise RecipeError(problems)
    return Plan(content["name"], tuple(entries), measuring)


def _on_base(written: Written, source: str | Path) -> dict[str, Any]:
    """The content of a comparison, on top of the recipe that it changes."""
    content = copy.deepcopy(written.content)
    base = content.pop("recipe", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise RecipeError([f"{written.file}: `recipe` is the name or path of a recipe, in quotes, got {base!r}"])
    beside = Path(source).parent / base
    below = recipes.load(beside if base.endswith(".toml") and not Path(base).is_absolute() else base)
    if recipes.is_comparison(below.content):
        raise RecipeError([f"{written.file}: `recipe = {base!r}` is a comparison itself; name a recipe"])
    recipes.check(copy.deepcopy(below.content), below.file, below.lines)
    return _merge(below.content, content)


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` changed by `new`, table by table; a table with another `name` takes the place of the whole old one."""
    merged = dict(old)
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            same = value.get("name", before.get("name")) == before.get("name")
            value = _merge(before, value) if same else value
        merged[key] = value
    return merged


def _parse_rules(text: str, given: Any) -> list[dict[str, Any]]:
    """`bptt,truncated_bptt(window=7)` as tables; a rule that the recipe has settings for keeps them."""
    option = f"--rules {text}"
    tables = []
    for part in re.split(r",(?![^()]*\))", text):
        match = re.fullmatch(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*", part)
        if not match:
            raise RecipeError([f"{option}: {part.strip()!r} is no rule; write names between commas, as in bptt,rflo"])
        table: dict[str, Any] = {"name": match[1]}
        if isinstance(given, Mapping) and given.get("name") == match[1]:
            table |= given
        for setting in filter(None, (match[2] or "").split(",")):
            recipes.change(table, option, setting.strip())
        tables.append(table)
    return tables


def _measuring(table: Any, written: Written, options: Mapping[KeyPath, str], problems: list[str]) -> Measuring:
    known = [field.name for field in dataclasses.fields(Measuring)]
    if not isinstance(table, Mapping):
        problems.append(f"{written.file}: 'compare' must be a section (a table of keys), got {table!r}")
        return Measuring()
    good = {}
    for key, value in table.items():
        place = options.get(("compare", key)) or _at(written, ("compare", key))
        if key not in known:
            problems.append(f"{place}: unknown key {key!r} in [compare]; {did_you_mean(key, known)}")
            continue
        try:
            Measuring(**{key: value})
        except ValueError as error:
            problems.append(f"{place}: [compare]: {error}")
        else:
            good[key] = value
    return Measuring(**good)


def _tables(content: dict[str, Any], axis: str) -> list[dict[str, Any]]:
    """The tables of an axis, whether one or several, taken out of the content."""
    value = content.pop(axis, [])
    return value if isinstance(value, list) else [value]


def _networks(content: dict[str, Any], written: Written, problems: list[str]) -> list[dict[str, Any]]:
    known = ["label", "neuron", "readout", "synapses"]
    tables = _tables(content, "network") or [{}]
    for number, table in enumerate(tables):
        for key in table if isinstance(table, Mapping) else []:
            if key not in known:
                place = _at(written, ("network", str(number), key))
                problems.append(f"{place}: unknown key {key!r} in [network]; {did_you_mean(key, known)}")
    return tables


def _labels(tables: list[Any], axis: str, content: Mapping[str, Any], place: str, problems: list[str]) -> list[str]:
    """What each is called: its `label`, or its name, with its settings where names repeat."""
    plain = []
    for table in tables:
        table = table if isinstance(table, Mapping) else {}
        named = table.get("neuron", content.get("neuron", {})) if axis == "network" else table
        plain.append(table.get("label") or (named.get("name", axis) if isinstance(named, Mapping) else axis))
    labels = [
        label if plain.count(label) == 1 or "label" in table else f"{label}{_settings(table)}"
        for label, table in zip(plain, tables, strict=True)
    ]
    for label in dict.fromkeys(labels):
        if [slug(other) for other in labels].count(slug(str(label))) > 1:
            problems.append(f"{place}: two of [[{axis}]] are called {label!r}; give each a `label` of its own")
    return list(map(str, labels))


def _settings(table: Mapping[str, Any]) -> str:
    settings = [f"{key}={value}" for key, value in table.items() if key != "name"]
    return f"({', '.join(settings)})" if settings else ""


def _combinations(lengths: list[int]) -> Iterator[tuple[int, ...]]:
    if not lengths:
        yield ()
        return
    for number in range(lengths[0]):
        yield from ((number, *rest) for rest in _combinations(lengths[1:]))


def _combine(content: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    one = copy.deepcopy(dict(content))
    for axis, table in chosen.items():
        if isinstance(table, Mapping):
            table = {key: value for key, value in table.items() if key != "label"}
        if axis != "network":
            one[axis] = table
        elif isinstance(table, Mapping):
            one = _merge(one, {key: table[key] for key in ("neuron", "readout", "synapses") if key in table})
    return one


def _follow(places: dict[KeyPath, Any], chosen: Mapping[str, int]) -> None:
    """Lets the places of `[[rule]]` number n be those of `[rule]`, and those of a network be those of its sections."""
    for path, place in list(places.items()):
        if path[0] in chosen and len(path) > 1 and path[1].isdigit():
            del places[path]
            new = path[2:] if path[0] == "network" else (path[0], *path[2:])
            if path[1] == str(chosen[path[0]]) and new:
                places[new] = place


def _at(written: Written, path: KeyPath) -> str:
    line = written.lines.get(path)
    return written.file if line is None else f"{written.file}:{line}"


def slug(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^\w.=+-]+", "-", label).strip("-.") or "-"
