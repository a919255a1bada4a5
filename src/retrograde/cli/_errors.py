"""From exceptions to messages: the one place that knows both."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path


class Interrupted(BaseException):
    """The user, or the system, ended a command.

    Attributes:
        number: The signal.
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.number = number


class Failure(Exception):
    """A command did its work, and the answer is that something is wrong: exit status 1, the message as it is."""


@contextlib.contextmanager
def resumable(folder: Path, command: str | None = None) -> Iterator[None]:
    """Says how to go on when a run is interrupted by Ctrl-C or told to end (SIGTERM).

    Args:
        folder: Where it is kept.
        command: What goes on with it; `retrograde resume` if `None`.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        raise Interrupted(
            f"retrograde: interrupted; what was learnt up to the last checkpoint is kept in {folder}\n"
            f"go on with: {command or f'retrograde resume {folder}'}",
            number,
        ) from None
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: object) -> None:
    raise Interrupted("retrograde: terminated", number)


def explain(error: BaseException) -> tuple[str, int]:
    """Turns an exception into a message for a person and an exit status.

    Args:
        error: What a command raised.

    Returns:
        The message, empty if all is said already, and the status: 2 where the input cannot be used, 1 where something
        failed, 128 + signal where it was interrupted.
    """
    if isinstance(error, Interrupted):
        return str(error), 128 + error.number
    if isinstance(error, KeyboardInterrupt):
        return "retrograde: interrupted", 128 + signal.SIGINT
    if isinstance(error, SystemExit):
        return "", error.code if isinstance(error.code, int) else 1
    if isinstance(error, Failure):
        return str(error), 1
    if hasattr(error, "format_message"):  # Typer's usage errors, wherever this version keeps their class
        context = getattr(error, "ctx", None)
        usage = f"\n{context.get_usage()}" if context else ""
        return f"retrograde: {error.format_message()}{usage}", getattr(error, "exit_code", 2)
    if type(error).__name__ == "Abort":
        return "retrograde: interrupted", 128 + signal.SIGINT
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            "retrograde: out of memory. Make `training.batch` or `neuron.size` smaller, or store less by "
            "`--set rule.checkpoint=true`.",
            1,
        )
    from retrograde.recipes import RecipeError

    if isinstance(error, RecipeError):
        return "\n".join(f"retrograde: {problem}" for problem in error.problems), 2
    from retrograde.data import DataError
    from retrograde.training import RunError

    if isinstance(error, RunError | OSError):
        return f"retrograde: {_words(error)}", 1
    if isinstance(error, DataError | ValueError | ImportError):
        return f"retrograde: {_words(error)}", 2
    return (
        f"retrograde: this should not have happened ({type(error).__name__}: {_words(error)}).\n"
        "Please report it with what you did; RETROGRADE_DEBUG=1 shows where it happened.",
        1,
    )


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
