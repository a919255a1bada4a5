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
    name: Annotated[
        Literal["mnist", "ecg"],
        typer.Argument(help="What to fetch: mnist (70,000 digits, 11 MB) or ecg (heart beats as spikes, 0.7 MB)."),
    ],
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
        if name == "mnist":
            folder = data.fetch_mnist(to, mirrors=mirror or data.MIRRORS, progress=show)
        else:
            folder = data.fetch_ecg(to, mirrors=mirror or data.ECG_MIRRORS, progress=show)
    print_json({"name": name, "folder": str(folder)}) if json else print(folder)


@app.command()
def pack(
    name: Annotated[
        Literal["fsdd", "nmnist"],
        typer.Argument(help="What to pack: fsdd (spoken digits) or nmnist (digits before an event camera)."),
    ],
    recordings: Annotated[
        Path, typer.Argument(metavar="RECORDINGS", help="The folder with the recordings as they are distributed.")
    ],
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to keep it; the user's cache by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Turn recordings that you have downloaded into the one file that is read here: checked."""
    from retrograde import data

    file = {"fsdd": data.pack_spoken_digits, "nmnist": data.pack_nmnist}[name](recordings, to)
    print_json({"name": name, "file": str(file)}) if json else print(file)


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
        state("ecg", "759 stretches of heart beats as spikes", data.ecg_folder, data.load_ecg),
        state("fsdd", "3,000 spoken digits", data.spoken_digits_folder, data.load_spoken_digits),
        state("nmnist", "1,100 digits before an event camera", data.nmnist_folder, data.load_nmnist),
    ]


def _print(states: list[dict[str, str]], json: bool) -> None:
    if json:
        print_json(states)
    else:
        print_table([list(state.values()) for state in states], ["data set", "what", "state", "where"])
