from pathlib import Path
from typing import Annotated

import typer

from retrograde.cli._errors import Failure, resumable
from retrograde.cli._outcome import print_outcome
from retrograde.cli._print import Json, print_json, print_table, say
from retrograde.cli._progress import live_progress


def train(
    recipe: Annotated[
        str, typer.Argument(help="Name of a shipped recipe (see `retrograde list recipes`) or path of a TOML file.")
    ] = "digits",
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. rule.name=bptt. Repeatable.")
    ] = [],  # noqa: B006
    steps: Annotated[str | None, typer.Option(metavar="N", help="Number of updates.")] = None,
    seed: Annotated[str | None, typer.Option(metavar="N", help="Seeds weights, data and noise.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N", help="Networks to train, each its own seed.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Run folder; by default runs/RECIPE-1, -2 …")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print sizes, memory and time to expect, then stop.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a network as a recipe says, measure it, and draw what came out.

    Without a recipe this is the main job: an ensemble of networks learns to read 5,000 handwritten digits, row by
    row, in about a minute. The run folder gets the numbers, checkpoints and a figure.
    """
    from retrograde import recipes, training

    training.compile_cache()
    overrides = {f"--set {setting}": setting for setting in settings}
    options = {"steps": steps, "seed": seed, "seeds": seeds}
    overrides |= {
        f"--{name} {value}": f"training.{name}={value}" for name, value in options.items() if value is not None
    }
    checked = recipes.read(recipe, overrides)
    if dry_run:
        _print_forecast(recipes.forecast(checked), checked, json)
        return
    experiment = recipes.build(checked)
    folder = recipes.new_folder(checked.name) if out is None else out
    with resumable(folder), live_progress() as show:
        outcome = recipes.run(experiment, folder, on_progress=show, on_warning=lambda text: say(f"warning: {text}"))
    print_outcome(outcome, json)


def _print_forecast(forecast, recipe, json: bool) -> None:
    from retrograde.analysis import uncovered

    labels = {label: list(shape) for label, shape in forecast.parameters.items()}
    content = {
        "recipe": recipe.name,
        "task": forecast.task,
        "steps": recipe.training.steps,
        "seeds": recipe.training.seeds,
        "parameters": labels,
        "credit": {label: parameter.reach for label, parameter in forecast.coverage.items()},
        "parameters_in_all": forecast.size,
        "memory_bytes": forecast.memory_bytes,
        "compile_seconds": round(forecast.compile_seconds, 3),
        "seconds_per_update": round(forecast.seconds_per_update, 6),
        "seconds": round(forecast.seconds, 3),
    }
    if json:
        print_json(content)
    else:
        _print_tables(forecast, recipe, labels)
    if missing := uncovered(forecast.coverage):
        raise Failure(
            f"retrograde: {recipe.rule.name} assigns no credit to {', '.join(missing)}, so training will be refused"
        )


def _print_tables(forecast, recipe, labels: dict[str, list[int]]) -> None:
    rows = [
        [label, " × ".join(map(str, shape)), f"{_product(shape):,}", forecast.coverage[label].reach]
        for label, shape in labels.items()
    ]
    head = ["parameters", "post × pre", "numbers", f"credit by {recipe.rule.name}"]
    print_table([*rows, ["in all", "", f"{forecast.size:,}", ""]], head)
    trials = forecast.task["trials"]
    print(
        f"task       {recipe.task.name}: {forecast.task['steps']} time steps of {forecast.task['inputs']} inputs, "
        f"{forecast.task['outputs']} outputs, {'endless' if trials is None else f'{trials:,}'} training trials\n"
        f"training   {recipe.training.steps:,} updates of {recipe.training.batch} trials, "
        f"{recipe.training.seeds} network{'s' if recipe.training.seeds > 1 else ''}\n"
        f"memory     {_megabytes(forecast.memory_bytes)} for an update (from the compiler)\n"
        f"time       {forecast.seconds:,.0f} s: {forecast.compile_seconds:.1f} s to compile, then "
        f"{1000 * forecast.seconds_per_update:.1f} ms per update (median of {forecast.timed_updates} made now); "
        "validation and the final measurements come on top"
    )


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:,.0f} MB"


def _product(shape: list[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
