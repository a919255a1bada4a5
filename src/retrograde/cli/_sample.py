from pathlib import Path
from typing import Annotated

import typer

from retrograde.cli._print import Json, print_json, print_table, say


def sample(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    networks: Annotated[int, typer.Option(min=1, help="How many networks to draw.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write them; RUN/samples by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Draw single networks from a trained ensemble, measure each and save its weights.

    Each becomes a NumPy file (.npz) with one weight matrix, post × pre, for each projection.
    """
    from retrograde import recipes, training

    training.compile_cache()
    drawn = recipes.sample_run(
        folder, networks=networks, seed=seed, out=out, on_warning=lambda text: say(f"warning: {text}")
    )
    if json:
        print_json({"run": str(folder), "networks": [network.summary() for network in drawn]})
        return
    rows = []
    for network in drawn:
        accuracy = network.summary()["accuracy"]  # none in a regression
        shown = "–" if accuracy is None else f"{100 * accuracy:.1f} %"
        rows.append([str(network.number), shown, f"{network.loss:.4g}", str(network.path)])
    print_table(rows, ["network", "test accuracy", "test loss", "weights"])
