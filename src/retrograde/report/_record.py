import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrograde.report._measures import Measures
from retrograde.training import History, read_history, read_run


@dataclasses.dataclass(frozen=True)
class Record:
    """What a run folder says.

    Attributes:
        name: Name of the folder.
        folder: The run folder.
        origin: Recipe, versions, devices and settings: the content of `run.json`.
        history: What was measured while training.
        measures: What was measured afterwards; `None` if the run is not finished.
    """

    name: str
    folder: Path
    origin: Mapping[str, Any]
    history: History
    measures: Measures | None


def read_record(folder: str | os.PathLike) -> Record:
    """Reads a run folder, finished or not.

    Args:
        folder: A folder that `retrograde train` has made.

    Returns:
        What is in it.

    Raises:
        RunError: If it is no run folder, or damaged.
    """
    folder = Path(folder)
    return Record(folder.resolve().name, folder, read_run(folder), read_history(folder), Measures.load(folder))
