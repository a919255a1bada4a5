"""Where claims are measured: scale, seeds, and trainings that go on where they stopped."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax.random as jr
import numpy as np
from jaxtyping import Array, Key

from retrograde import recipes
from retrograde.network import Network
from retrograde.papers._claim import Scale
from retrograde.reinforcement import Learning, Row
from retrograde.report import save_arrays, write_file
from retrograde.training import Progress, Result, fit

T = TypeVar("T")


class Lab:
    """Where the claims of one paper are measured, at one scale.

    Attributes:
        scale: How much to spend.
        seeds: How many networks to train of each kind.
        folder: Where trainings are kept.
    """

    def __init__(
        self,
        folder: Path,
        scale: Scale,
        seeds: int,
        on_progress: Callable[[Progress], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
    ):
        self.folder, self.scale, self.seeds = folder, scale, seeds
        self.on_progress, self.on_warning = on_progress, on_warning
        self._known: dict[Callable, Any] = {}

    def pick(self, *, smoke: T, laptop: T, paper: T) -> T:
        """The value for the present scale."""
        return {"smoke": smoke, "laptop": laptop, "paper": paper}[self.scale]

    def key(self, seed: int = 0) -> Key[Array, ""]:
        """The key of a seed, the same in every claim."""
        return jr.key(seed)

    def once(self, study: Callable[["Lab"], T]) -> T:
        """What several claims share: made when the first asks, then remembered."""
        if study not in self._known:
            self._known[study] = study(self)
        return self._known[study]

    def train_recipe(
        self,
        name: str,
        recipe: recipes.Recipe,
        *,
        watch: Callable[[Network], dict[str, Array]] | None = None,
        at: Sequence[int] = (),
        **options: Any,
    ) -> list[tuple[Result, dict[str, np.ndarray]]]:
        """Trains what a recipe says, one network for each seed; see `train`."""
        experiment = recipes.build(recipe)
        chosen = recipes.fit_options(experiment) | {"seeds": 1} | options
        return [
            self.train(
                f"{name}-{seed}",
                experiment.network,
                experiment.task,
                watch=watch,
                at=at,
                **chosen | {"key": self.key(seed)},
            )
            for seed in range(self.seeds)
        ]

    def train(
        self,
        name: str,
        network: Callable[[Key[Array, ""]], Network],
        task: Any,
        *,
        watch: Callable[[Network], dict[str, Array]] | None = None,
        at: Sequence[int] = (),
        **options: Any,
    ) -> tuple[Result, dict[str, np.ndarray]]:
        """Trains, or goes on with a training that was interrupted, or reads one that is finished.

        Args:
            name: Names the training among those of its scale.
            network: Key → network.
            task: What to learn.
            watch: What to keep of the network …
            at: … after so many updates; those that the training stops before are left out.
            **options: Of `fit`.

        Returns:
            The result, and what was watched, each array with a first axis `"moment"`; `"step"` are the moments.
        """
        folder = self.folder / "runs" / name

        def keep(step: int, network: Network, rule_state: Any) -> None:
            if watch is not None:
                seen = {key: np.asarray(value) for key, value in watch(network).items()}
                write_file(folder / "watched" / f"{step:08d}.npz", lambda new: save_arrays(new, seen))

        result = fit(
            network,
            task,
            folder=folder,
            resume=True,
            pauses=tuple(at),
            on_pause=keep,
            on_progress=self.on_progress,
            on_warning=self.on_warning,
            **options,
        )
        moments = []
        for step in sorted(set(at)):
            path = folder / "watched" / f"{step:08d}.npz"
            if step <= result.step and path.exists():
                with np.load(path) as file:
                    moments.append({"step": np.asarray(step), **file})
        names = moments[0] if moments else {}
        return result, {key: np.stack([moment[key] for moment in moments]) for key in names}

    def learn(
        self,
        name: str,
        run: Callable[[Callable[[Row], bool], Path], Learning],
        steps: int,
        seconds: float = math.inf,
    ) -> dict[str, np.ndarray]:
        """Learns from reward, or goes on with what was interrupted, or reads what is finished.

        Args:
            name: Names the learning among those of its scale.
            run: Learns, given what to call after each row and the folder to keep it in.
            steps: Steps that it makes …
            seconds: … if there is time for them; it stops after this [s].

        Returns:
            By row: `"step"`, `"episodes"`, mean `"reward"`, and `"seconds"` since it began.
        """
        folder = self.folder / "runs" / name
        path = folder / "rows.npz"
        asked = np.array([steps, seconds])
        if path.exists():
            with np.load(path) as file:
                found = dict(file)
            if np.array_equal(found.pop("asked"), asked):
                return found
            shutil.rmtree(folder)

        def on_row(row: Row) -> bool:
            if self.on_progress is not None:
                share = max(row.step / steps, row.seconds / seconds)
                numbers = dict.fromkeys(("loss", "accuracy", "validation_loss", "validation_accuracy"), math.nan)
                speed, left = row.step / row.seconds, row.seconds * (1 / share - 1)
                self.on_progress(
                    Progress(row.step, steps, **numbers, steps_per_second=speed, seconds=row.seconds, seconds_left=left)
                )
            return row.seconds > seconds

        learning = run(on_row, folder / "checkpoints")
        found = {name: getattr(learning, name) for name in Row._fields}
        write_file(path, lambda new: save_arrays(new, found | {"asked": asked}))
        return found
