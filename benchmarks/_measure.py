"""How every benchmark here measures: contenders in processes of their own, timed in turn, ratios within one run."""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PACKAGES = ("retrograde", "jax", "jaxlib", "equinox", "optax", "numpy", "torch")
SWITCHES = (1, os.cpu_count() or 1)  # numbers of threads that are tried
# Settings that pin a BLAS to one processor's kernels: peers run with the kernels that they choose themselves.
PINNED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_DEBUG_CPU_TYPE")


@dataclass(frozen=True)
class Contender:
    """What is timed.

    Attributes:
        make: Module-level function that prepares the work, in a process of its own, and returns it: a function without
            arguments, whose result is numbers by name, or a function that computes them once the clock has stopped.
        arguments: Arguments of `make`.
        threads: Number of threads of every pool of the process; `None` leaves them alone.
    """

    make: Callable[..., Callable[[], Any]]
    arguments: tuple = ()
    threads: int | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat, what the first call returned, and the most memory the process held [MB]."""

    seconds: list[float]
    first: Any
    memory_mb: float

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)


def race(contenders: Mapping[str, Contender], *, repeats: int, warm: int = 6) -> dict[str, Timing]:
    """Times contenders in turn, A B C A B C …, so that whatever else the machine does meets all alike.

    Each lives in its own process, where its thread pools and its allocator cannot disturb another's.

    Args:
        contenders: By name.
        repeats: Calls of each that are timed.
        warm: Calls of each before that. The first updates of an ensemble are dearer than those of a training run:
            their gradients exceed the clip's limit, so that singular values are computed.

    Returns:
        The timings by name.
    """
    context = multiprocessing.get_context("spawn")
    running = {}
    for name, contender in contenders.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, contender), daemon=True)
        with _environment(contender.threads):
            process.start()
        theirs.close()
        running[name] = (process, ours)
    first = {name: _answer(name, pipe) for name, (_, pipe) in running.items()}
    seconds = {name: [] for name in running}
    for repeat in range(-warm, repeats):
        for name, (_, pipe) in running.items():
            pipe.send(True)
            elapsed = _answer(name, pipe)
            if repeat >= 0:
                seconds[name].append(elapsed)
    timings = {}
    for name, (process, pipe) in running.items():
        pipe.send(False)
        timings[name] = Timing(seconds[name], first[name], pipe.recv())
        process.join()
    return timings


def _answer(name, pipe):
    try:
        return pipe.recv()
    except EOFError:
        raise SystemExit(f"{name} stopped: see its error above. Peers come with the extra `benchmarks`.") from None


@contextmanager
def _environment(threads):
    before = dict(os.environ)
    for name in PINNED:
        os.environ.pop(name, None)
    if threads is not None:
        pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "PJRT_NPROC")
        os.environ.update(dict.fromkeys(pools, str(threads)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(pipe, contender):
    import resource

    work = contender.make(*contender.arguments)
    result = work()
    pipe.send(result() if callable(result) else result)
    while pipe.recv():
        start = time.perf_counter()
        work()
        pipe.send(time.perf_counter() - start)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes or kilobytes
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def on_threads(name: str, make: Callable, arguments: tuple, *, tell: bool = False) -> dict[str, Contender]:
    """One contender for each number of threads that is tried, named `"name, n threads"`.

    With `tell`, the number is the last argument of `make` too.
    """
    numbers = sorted(set(SWITCHES))
    return {f"{name}, {_threads(n)}": Contender(make, (*arguments, n) if tell else arguments, n) for n in numbers}


def _threads(number):
    return "1 thread" if number == 1 else f"{number} threads"


def best(timings: Mapping[str, Timing], name: str) -> tuple[str, float]:
    """The fastest of the contenders called `name` or `"name, …"`, and its median [s]."""
    mine = {key: timing.median for key, timing in timings.items() if key == name or key.startswith(f"{name}, ")}
    key = min(mine, key=mine.get)
    return key, mine[key]


def ready(tree: Any) -> Any:
    """Waits for JAX arrays."""
    import jax

    return jax.block_until_ready(tree)


def arguments(docstring: str, **options: dict) -> argparse.Namespace:
    """Reads the command line: `--json`, `--repeats`, `--quick`, and what `options` adds."""
    parser = argparse.ArgumentParser(description=docstring.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--repeats", type=int, help="timed calls of each contender")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats: to see that it runs")
    for name, option in options.items():
        parser.add_argument(f"--{name}", **option)
    return parser.parse_args()


def setting(*peers: str) -> dict:
    """Where and with what was measured; `peers` are further packages whose versions matter."""
    versions = {}
    for package in (*PACKAGES, *peers):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "versions": versions,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def report(name: str, rows: list[dict], *, where: dict, notes: list[str], as_json: bool) -> None:
    """Prints the result of a benchmark.

    Args:
        name: Of the benchmark.
        rows: One dictionary for each line of the table, all with the same keys.
        where: What `setting` returned before measuring.
        notes: What to know when reading the table.
        as_json: Print one JSON object.
    """
    if as_json:
        print(json.dumps({"benchmark": name, "setting": where, "rows": rows, "notes": notes}, indent=1))
        return
    print(describe(where))
    print()
    print(table(rows))
    print()
    for note in notes:
        print(note)


def describe(where: dict) -> str:
    """One line about where and with what was measured."""
    versions = ", ".join(f"{package} {number}" for package, number in where["versions"].items())
    return (
        f"{where['system']}, {where['cores']} cores, load {where['load_before']} before; "
        f"Python {where['python']}, {versions}"
    )


def table(rows: list[dict]) -> str:
    """A table in Markdown, aligned so that it reads well as text too."""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    numeric = [all(not isinstance(row[key], str) for row in rows) for key in rows[0]]

    def line(values):
        pairs = zip(values, widths, numeric, strict=True)
        return "| " + " | ".join(v.rjust(w) if right else v.ljust(w) for v, w, right in pairs) + " |"

    rule = (
        "|" + "|".join("-" * (w + 1) + (":" if right else "-") for w, right in zip(widths, numeric, strict=True)) + "|"
    )
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def _text(value):
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return str(value)
