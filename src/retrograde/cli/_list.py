from typing import Annotated, Literal

import typer

from retrograde.cli._print import Json, print_json, print_table

KINDS = ("neurons", "synapses", "rules", "tasks", "recipes", "comparisons")


def list_parts(
    kind: Annotated[
        Literal["neurons", "synapses", "rules", "tasks", "recipes", "comparisons"] | None,
        typer.Argument(help="What to list; everything if left out.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """List the parts that a recipe may name, and the recipes and comparisons that come with retrograde."""
    from retrograde import recipes

    content = {name: recipes.describe(name) for name in (KINDS if kind is None else (kind,))}
    if json:
        print_json(content)
        return
    for name, parts in content.items():
        print_table([[part, line] for part, line in parts.items()], [name[:-1], ""])
