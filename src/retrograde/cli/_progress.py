"""Live progress on standard error; silent where that is no terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def live_progress(quiet: bool = False) -> Iterator[Callable[[Any], None]]:
    """Shows how far training is.

    Args:
        quiet: Whether to show nothing.

    Yields:
        A function for `fit(on_progress=...)`.
    """
    with _bar(quiet) as update:
        update("compiling", None, 0, "a few seconds, once")

        def show(progress: Any) -> None:
            done = progress.step >= progress.steps
            update("measuring" if done else "training", progress.steps, progress.step, _numbers(progress))

        yield show


@contextlib.contextmanager
def stage_progress() -> Iterator[Callable[[Any], None]]:
    """Shows how far a job of several parts is.

    Yields:
        A function for the `on_progress` of `comparison.run_contenders` and `papers.reproduce`.
    """
    with _bar(False) as update:

        def show(stage: Any) -> None:
            what = f"{stage.number}/{stage.total} {stage.label}"
            if stage.progress is None:
                update(what, stage.total, stage.number - 1, "compiling and measuring")
            else:
                share = stage.progress.step / stage.progress.steps
                update(what, stage.total, stage.number - 1 + share, _numbers(stage.progress))

        yield show


@contextlib.contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[str, float | None, float, str], None]]:
    """A bar with words before and numbers behind; yields a function that moves it."""
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, numbers="")
        yield lambda words, total, done, numbers: bar.update(
            task, description=words, total=total, completed=done, numbers=numbers
        )


def _numbers(progress: Any) -> str:
    numbers = [f"{progress.step:,}/{progress.steps:,}"]
    if progress.loss == progress.loss:
        numbers.append(f"loss {progress.loss:.3f}")
    if progress.accuracy == progress.accuracy:
        numbers.append(f"accuracy {100 * progress.accuracy:.1f} %")
    if progress.validation_accuracy == progress.validation_accuracy:
        numbers.append(f"held out {100 * progress.validation_accuracy:.1f} %")
    if progress.steps_per_second == progress.steps_per_second:
        numbers += [f"{progress.steps_per_second:.0f} updates/s", f"{_clock(progress.seconds_left)} left"]
    return "  ".join(numbers)


@contextlib.contextmanager
def download_progress() -> Iterator[Callable[[str, int, int | None], None] | None]:
    """Shows how far a download is.

    Yields:
        A function for `data.fetch_mnist(progress=...)`, or `None` where nothing is to be shown.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        files = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in files:
                files[name] = bar.add_task(name, total=total)
            bar.update(files[name], completed=done, total=total)

        yield show


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
