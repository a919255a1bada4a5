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
    if quiet or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("compiling", total=None, numbers="a few seconds, once")

        def show(progress: Any) -> None:
            numbers = [f"{progress.step:,}/{progress.steps:,}", f"loss {progress.loss:.3f}"]
            if progress.accuracy == progress.accuracy:
                numbers.append(f"accuracy {100 * progress.accuracy:.1f} %")
            if progress.validation_accuracy == progress.validation_accuracy:
                numbers.append(f"held out {100 * progress.validation_accuracy:.1f} %")
            if progress.steps_per_second == progress.steps_per_second:
                numbers += [f"{progress.steps_per_second:.0f} updates/s", f"{_clock(progress.seconds_left)} left"]
            done = progress.step >= progress.steps
            bar.update(
                task,
                description="measuring" if done else "training",
                total=progress.steps,
                completed=progress.step,
                numbers="  ".join(numbers),
            )

        yield show


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
