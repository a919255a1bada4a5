from pathlib import Path
from typing import Annotated

import typer

from retrograde.cli._outcome import print_measures
from retrograde.cli._print import Json, print_json, say


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    samples: Annotated[int | None, typer.Option(min=1, help="Draws of each sampler; the recipe's by default.")] = None,
    json: Json = False,
) -> None:
    """Measure the network of a run's last checkpoint on the test trials.

    Mean-field pools the noise of all weights, annealed draws the weights in each time step, quenched draws one
    network for all trials.
    """
    from retrograde import recipes, training

    training.compile_cache()
    measures = recipes.evaluate_run(folder, samples=samples, on_warning=lambda text: say(f"warning: {text}"))
    values = next(iter(measures.accuracies.values()))
    summary = {**measures.summary(), "seeds": len(values), "samples": values.shape[1], "run": str(folder)}
    print_json(summary) if json else print_measures(summary)
