from pathlib import Path
from typing import Annotated, Literal

import typer

from retrograde.cli._errors import Failure
from retrograde.cli._print import Json, print_json, print_table
from retrograde.cli._progress import download_progress

app = typer.Typer(help="Data sets: which there are, fetch one, check what is here.", no_args_is_help=True)


@app.command("list")
def list_sets(json: Json = False) -> None:
    """List the data sets and whether they are on this machine."""
    _print(_states(check=False), json)


@app.command()
def check(json: Json = False) -> None:
    """Check the data sets that are on this machine against their digests."""
    states = _states(check=True)
    _print(states, json)
    if damaged := [state["name"] for state in states if state["state"] == "damaged"]:
        raise Failure(f"retrograde: damaged: {', '.join(damaged)}")


@app.command()
def fetch(
    name: Annotated[Literal["mnist"], typer.Argument(help="What to fetch: mnist (70,000 digits, 11 MB).")],
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to keep it; the user's cache by default.")
    ] = None,
    mirror: Annotated[
        list[str], typer.Option(metavar="URL", help="Folder on the web that has the files. Repeatable.")
    ] = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Download a data set: checked, and continued where it broke off."""
    from retrograde import data

    with download_progress() as show:
        folder = data.fetch_mnist(to, mirrors=mirror or data.MIRRORS, progress=show)
    print_json({"name": name, "folder": str(folder)}) if json else print(folder)


def _states(check: bool) -> list[dict[str, str]]:
    from retrograde import data

    def state(name: str, what: str, find, load) -> dict[str, str]:
        try:
            place = str(find())
        except data.DataError as error:
            return {"name": name, "what": what, "state": "absent", "where": str(error)}
        if check:
            try:
                load()
            except data.DataError as error:
                return {"name": name, "what": what, "state": "damaged", "where": str(error)}
        return {"name": name, "what": what, "state": "intact" if check else "here", "where": place}

    return [
        state("digits", "5,000 MNIST digits, shipped", lambda: Path(data.__file__).parent, data.load_digits),
        state("mnist", "70,000 MNIST digits", data.mnist_folder, data.load_mnist),
    ]


def _print(states: list[dict[str, str]], json: bool) -> None:
    if json:
        print_json(states)
    else:
        print_table([list(state.values()) for state in states], ["data set", "what", "state", "where"])
