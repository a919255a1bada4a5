from pathlib import Path
from typing import Annotated

import typer

from retrograde.cli._print import Json, print_json


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, finished or not.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; report.html in the (first) run by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Write one HTML page about one or several runs, complete in itself.

    Curves, confusion matrices, distributions of m, π and Ξ, accuracies of sampled networks, recipes and versions.
    """
    from retrograde import recipes

    page = recipes.report_runs(folders, folders[0] / "report.html" if out is None else out)
    print_json({"report": str(page), "runs": [str(folder) for folder in folders]}) if json else print(page)
