import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from retrograde import recipes, training
from retrograde.analysis import CoverageError
from retrograde.comparison._contender import COST, Contender, run_contender
from retrograde.comparison._figures import draw_sheet
from retrograde.comparison._forecast import missing
from retrograde.comparison._outcome import Comparison, read_outcome
from retrograde.comparison._page import write_comparison_page
from retrograde.comparison._plan import Entry, Measuring, Plan, slug
from retrograde.report import read_json, write_json
from retrograde.training import RunError, Stage

PLAN = "plan.json"


def contenders_of(plan: Plan) -> list[Contender]:
    """Builds what a plan describes.

    Raises:
        ValueError: If parts do not fit together.
        retrograde.data.DataError: If a task's data are missing or damaged.
    """
    contenders = []
    for entry in plan.entries:
        experiment = recipes.build(entry.recipe)
        contenders.append(
            Contender(
                (entry.task, entry.network, entry.rule),
                entry.recipe.rule.name,
                experiment.task,
                experiment.network,
                recipes.fit_options(experiment),
                entry.recipe.evaluation.samples,
                entry.recipe,
            )
        )
    return contenders


def check_contenders(contenders: Sequence[Contender]) -> dict[tuple[str, str, str], dict[str, str]]:
    """Makes sure that every rule reaches what it is to train.

    Returns:
        What reaches each parameter, by contender and label.

    Raises:
        CoverageError: If a parameter gets no credit.
    """
    found = {contender.labels: contender.coverage() for contender in contenders}
    problems = [line for labels, coverage in found.items() for line in missing(labels, coverage)]
    if problems:
        raise CoverageError("; ".join(problems) + ". Leave the rule out, or freeze these projections on purpose")
    return {labels: {name: c.reach for name, c in coverage.items()} for labels, coverage in found.items()}


def run_contenders(
    name: str,
    contenders: Sequence[Contender],
    folder: str | Path,
    measuring: Measuring,
    *,
    on_progress: Callable[[Stage], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Comparison:
    """Trains and measures contenders, draws and writes what came out.

    What is finished in the folder is not run again, what was interrupted goes on, and contenders may be added.

    Args:
        name: What the comparison is called.
        contenders: What to compare.
        folder: Where to write.
        measuring: What to measure.
        on_progress: Told how far it is.
        on_warning: Told of damaged checkpoints that were passed over.

    Returns:
        What was found.

    Raises:
        CoverageError: If a rule assigns no credit to something that is to be trained.
        RunError: If the folder holds something else, or cannot be used or written.
    """
    folder, total = Path(folder), len(contenders)
    tell = on_progress or (lambda stage: None)
    plan = _plan_for(folder, name, contenders, measuring)
    tell(Stage(1, total, "checking which parameters credit reaches", None))
    coverage = check_contenders(contenders)
    write_json(folder / PLAN, plan)
    for number, contender in enumerate(contenders, start=1):
        label = " ".join(_varying(contender, contenders))
        tell(Stage(number, total, label, None))
        run_contender(
            contender,
            folder / contender.path,
            measuring,
            on_progress=lambda progress, n=number, label=label: tell(Stage(n, total, label, progress)),
            on_warning=on_warning,
        )
    tell(Stage(total, total, "timing updates", None))
    _measure_costs(contenders, folder, measuring)
    outcomes = [read_outcome(c, folder / c.path, coverage[c.labels]) for c in contenders]
    comparison = Comparison(name, tuple(outcomes), folder)
    comparison.write_tables()
    for labels, group in comparison.groups().items():
        stem = "-".join(["compare", *map(slug, labels)]) if len(comparison.groups()) > 1 else "compare"
        for ending in ("png", "svg"):
            draw_sheet(group, folder / f"{stem}.{ending}")
    write_comparison_page(comparison, folder / "compare.html")
    return comparison


def _plan_for(folder: Path, name: str, contenders: Sequence[Contender], measuring: Measuring) -> dict[str, Any]:
    """Makes sure that the folder is this comparison's, or an empty one; gives what is compared there from now on."""
    path = folder / PLAN
    known: dict[str, Any] = {}
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; name a new folder for the comparison")
    if path.exists():
        known = read_json(path, {})
    elif folder.exists() and (found := sorted(p.name for p in folder.iterdir() if p.name != f"{path.stem}.new.json")):
        raise RunError(
            f"{folder} is not empty and not a comparison (it has no {PLAN}, but {found[0]!r}); name a new or an empty "
            "folder, so that nothing of yours is overwritten"
        )
    wanted: dict[str, Any] = {"name": name, "measuring": dataclasses.asdict(measuring), "entries": []}
    for contender in contenders:
        labels = dict(zip(("task", "network", "rule"), contender.labels, strict=True))
        wanted["entries"].append(labels | _described(contender))
    for old in known.get("entries", []):
        new = next((entry for entry in wanted["entries"] if _labels(entry) == _labels(old)), None)
        if new is None:
            wanted["entries"].append(old)
        elif new != old:
            raise RunError(
                f"{folder} holds another comparison: its {' / '.join(_labels(old))} has {_difference(old, new)}. "
                "Name another folder, or compare with the same settings"
            )
    if known and known["measuring"] != wanted["measuring"]:
        raise RunError(
            f"{folder} holds another comparison: its [compare] has "
            f"{_difference(known['measuring'], wanted['measuring'])}. Name another folder"
        )
    return wanted


def plan_of(folder: str | Path) -> Plan:
    """Reads what is compared in a folder.

    Args:
        folder: A folder of `run_contenders`.

    Raises:
        RunError: If it is none, or was made in Python.
        RecipeError: If a recipe is not valid any longer.
    """
    path = Path(folder) / PLAN
    content = read_json(path, None)
    if content is None:
        raise RunError(f"{folder} is not a comparison: it has no {PLAN}")
    if any("recipe" not in entry for entry in content["entries"]):
        raise RunError(f"{folder} was made without recipes, in Python; go on with it there, by `compare(folder=...)`")
    entries = tuple(
        Entry(*_labels(entry), recipes.check({"name": content["name"], **entry["recipe"]}, str(path)))
        for entry in content["entries"]
    )
    return Plan(content["name"], entries, Measuring(**content["measuring"]))


def _labels(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["task"], entry["network"], entry["rule"]


def _described(contender: Contender) -> dict[str, Any]:
    """What must not change from one call to the next."""
    if contender.recipe is not None:
        return {"recipe": contender.recipe.model_dump(mode="json", exclude_none=True, exclude={"name", "summary"})}
    options = contender.options
    return {"parts": str(options["rule"]), **{k: options[k] for k in ("steps", "batch", "seeds")}}


def _difference(old: Any, new: Any, path: str = "") -> str:
    """The first place where two descriptions differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in [*old, *new] if old.get(key) != new.get(key))
        return _difference(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    return f"{path} = {old!r}, not {new!r}"


def _measure_costs(contenders: Sequence[Contender], folder: Path, measuring: Measuring) -> None:
    """Times the updates of all rules on a task and network in turn, so that all meet the same machine."""
    groups: dict[tuple[str, str], list[Contender]] = {}
    for contender in contenders:
        groups.setdefault(contender.labels[:2], []).append(contender)
    for group in groups.values():
        if all((folder / contender.path / COST).exists() for contender in group):
            continue
        updates = {contender.labels[2]: contender.compile_update() for contender in group}
        seconds = training.time_updates(updates, measuring.repeats)
        for contender in group:
            update = updates[contender.labels[2]]
            cost = {
                "seconds_per_update": seconds[contender.labels[2]],
                "memory_bytes": update.memory_bytes,
                "between_bytes": update.between_bytes,
                "product_macs": update.operations.products,
                "elementwise_macs": update.operations.elementwise,
                "compile_seconds": update.compile_seconds,
            }
            write_json(folder / contender.path / COST, cost)


def _varying(contender: Contender, contenders: Sequence[Contender]) -> list[str]:
    """The labels that tell this contender from the others; the rule at least."""
    axes = range(3)
    return [contender.labels[i] for i in axes if i == 2 or len({other.labels[i] for other in contenders}) > 1]
