from pathlib import Path
from typing import Annotated, Any

import typer

from retrograde.cli._errors import Failure, resumable
from retrograde.cli._print import Json, print_json, print_table, say
from retrograde.cli._progress import stage_progress


def compare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A comparison or a recipe: a name (`retrograde list`), or the path of a TOML file."
        ),
    ] = "digits-rules",
    rules: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Rules, perhaps with settings: bptt,truncated_bptt(window=5)."),
    ] = None,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one key of all recipes. Repeatable.")
    ] = [],  # noqa: B006
    steps: Annotated[str | None, typer.Option(metavar="N", help="Number of updates.")] = None,
    seed: Annotated[str | None, typer.Option(metavar="N", help="Seeds weights, data and noise.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N", help="Networks that each rule trains.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write it; what is finished there is not run again."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what credit reaches, memory and time to expect, then stop.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare learning rules on equal footing: the same networks, trials and noise.

    Learning curves, alignment with the exact gradient, credit as a function of lag, time, memory and arithmetic of an
    update; as one HTML page, pictures, and tables for programs. `retrograde resume FOLDER` goes on with one that was
    interrupted.
    """
    from retrograde import comparison, recipes, training

    training.compile_cache()
    overrides = {f"--set {setting}": setting for setting in settings}
    options = {"steps": steps, "seed": seed, "seeds": seeds}
    overrides |= {
        f"--{name} {value}": f"training.{name}={value}" for name, value in options.items() if value is not None
    }
    plan = comparison.read_plan(source, rules=rules, overrides=overrides)
    contenders = comparison.contenders_of(plan)
    if dry_run:
        _print_forecasts(comparison.forecast(contenders), json)
        return
    run_comparison(plan, contenders, recipes.new_folder(f"compare-{plan.name}") if out is None else out, json)


def is_comparison(folder: Path) -> bool:
    """Whether a folder is that of a comparison."""
    return (folder / "plan.json").exists()


def go_on(folder: Path, json: bool) -> None:
    """Goes on with a comparison that was interrupted."""
    from retrograde import comparison

    plan = comparison.plan_of(folder)
    run_comparison(plan, comparison.contenders_of(plan), folder, json)


def run_comparison(plan: Any, contenders: Any, folder: Path, json: bool) -> None:
    """Runs what `compare` or `resume` was asked for, and prints what came out."""
    from retrograde import comparison

    with resumable(folder), stage_progress() as show:
        found = comparison.run_contenders(
            plan.name,
            contenders,
            folder,
            plan.measuring,
            on_progress=show,
            on_warning=lambda text: say(f"warning: {text}"),
        )
    if json:
        print_json({**found.summary(), "folder": str(folder), "report": str(folder / "compare.html")})
        return
    for (task, network), group in found.groups().items():
        print_table(comparison.table_rows(group), comparison.HEAD, title=f"{task}, {network}")
    for outcome in found.outcomes:
        if outcome.failure:
            say(f"warning: {outcome.contender.labels[2]}: {outcome.failure}")
    print(
        f"report  {folder}/compare.html\ntables  {folder}/compare.csv, {folder}/compare.json\n"
        f"next    retrograde report {folder}/runs/*/*/* --out {folder}/runs.html"
    )


def _print_forecasts(forecasts: Any, json: bool) -> None:
    if json:
        print_json({"contenders": [forecast.summary() for forecast in forecasts]})
    else:
        rows = [
            [
                *forecast.labels,
                ", ".join(f"{count} {reach}" for reach, count in forecast.reach().items()),
                "–" if forecast.memory_bytes is None else f"{forecast.memory_bytes / 1e6:,.0f} MB",
                f"{1e3 * forecast.seconds_per_update:.3g} ms",
                f"{forecast.seconds:,.0f} s",
            ]
            for forecast in forecasts
        ]
        head = ["task", "network", "rule", "parameters that credit reaches", "memory", "time / update", "training"]
        print_table(rows, head)
        print(
            f"time    {sum(forecast.seconds for forecast in forecasts):,.0f} s to train them all; "
            "compiling and measuring come on top, some 20 s for each"
        )
    if missing := [line for forecast in forecasts for line in forecast.missing()]:
        raise Failure("\n".join(f"retrograde: {line}, so this comparison will be refused" for line in missing))
