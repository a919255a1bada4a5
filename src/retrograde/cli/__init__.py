"""The command `retrograde`. Importing it imports no JAX: each command loads what it needs when it runs."""

import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from retrograde.cli._compare import compare
from retrograde.cli._data import app as data_app
from retrograde.cli._doctor import doctor
from retrograde.cli._errors import Interrupted, explain
from retrograde.cli._evaluate import evaluate
from retrograde.cli._list import list_parts
from retrograde.cli._report import report
from retrograde.cli._reproduce import papers, reproduce
from retrograde.cli._resume import resume
from retrograde.cli._sample import sample
from retrograde.cli._train import train

# Plain help, without Rich: it starts in a third of the time.
app = typer.Typer(
    name="retrograde",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(train)
app.command()(compare)
app.command()(reproduce)
app.command()(resume)
app.command()(evaluate)
app.command()(sample)
app.command()(report)
app.command()(papers)
app.command("list")(list_parts)
app.add_typer(data_app, name="data")
app.command()(doctor)


def _print_version(wanted: bool) -> bool:
    if wanted:
        import retrograde

        print(f"retrograde {retrograde.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def retrograde(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Temporal credit assignment in recurrent networks: any network, any learning rule, any task.

    Begin with `retrograde train`: an ensemble of networks learns to read handwritten digits.
    """


def _silence_warnings() -> None:
    """Keeps other packages' advice to programmers from the user, unless somebody asked for it."""
    asked = (
        sys.warnoptions or os.environ.get("RETROGRADE_DEBUG") or any(rule[0] == "error" for rule in warnings.filters)
    )
    if not asked:
        warnings.simplefilter("ignore")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Every error that a person can cause ends here as one message on standard error; `RETROGRADE_DEBUG=1` shows the
    traceback as well.

    Args:
        arguments: What stands behind `retrograde` on the command line.

    Returns:
        The exit status: 0, 1 for a failure, 2 for input that cannot be used, 130 or 143 if interrupted.
    """
    try:
        _silence_warnings()
        status = app(args=None if arguments is None else list(arguments), prog_name="retrograde", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:
        # Who reads our output has had enough (`retrograde list | head`); Python would complain at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Interrupted, KeyboardInterrupt, SystemExit, Exception) as error:
        message, status = explain(error)
        if message:
            print(message, file=sys.stderr)
        if os.environ.get("RETROGRADE_DEBUG"):
            import traceback

            traceback.print_exc()
        return status
