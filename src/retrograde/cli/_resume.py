from pathlib import Path
from typing import Annotated

import typer

from retrograde.cli._compare import go_on, is_comparison
from retrograde.cli._errors import resumable
from retrograde.cli._outcome import print_outcome
from retrograde.cli._print import Json, say
from retrograde.cli._progress import live_progress
from retrograde.cli._reproduce import paper_of


def resume(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run, or of a comparison, that was stopped.")
    ],
    steps: Annotated[int | None, typer.Option(min=1, help="Updates to make in all, if more than planned.")] = None,
    json: Json = False,
) -> None:
    """Go on with a run, or a comparison, from its last checkpoint.

    The numbers are those of a run that was never stopped, to the last bit, on the same machine.
    """
    from retrograde import recipes, training

    training.compile_cache()
    if is_comparison(folder):
        if steps is not None:
            raise typer.BadParameter("a comparison makes the updates that it was planned with", param_hint="--steps")
        go_on(folder, json)
        return
    if (paper := paper_of(folder)) is not None:
        raise training.RunError(
            f"{folder} holds the results of a paper; go on with it by `retrograde reproduce {paper} --out {folder}`, "
            "with the same options as before"
        )
    experiment = recipes.build(recipes.recipe_of(folder, steps=steps))
    with resumable(folder), live_progress() as show:
        outcome = recipes.run(
            experiment, folder, resume=True, on_progress=show, on_warning=lambda text: say(f"warning: {text}")
        )
    print_outcome(outcome, json)
