import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from retrograde.network import Network
from retrograde.recipes._build import Experiment, build
from retrograde.recipes._read import check
from retrograde.recipes._schema import Recipe
from retrograde.recipes._toml import to_toml
from retrograde.report import Measures, draw_figure, measure, read_record, save_arrays, write_file, write_page
from retrograde.training import Progress, Result, RunError, evaluate, fit, load_network, read_run


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished and measured run.

    Attributes:
        recipe: What was run.
        result: The trained network and its history.
        measures: The network in numbers.
        folder: The run folder.
        figure: The picture in it.
        seconds: Time that training and measuring took [s].
    """

    recipe: Recipe
    result: Result
    measures: Measures
    folder: Path
    figure: Path
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Gives the run in one table of numbers: what `--json` prints."""
        return {
            "recipe": self.recipe.name,
            "task": self.recipe.task.name,
            "rule": self.recipe.rule.name,
            "steps": self.result.step,
            "seeds": self.result.seeds,
            **self.measures.summary(),
            "samples": next(iter(self.measures.accuracies.values())).shape[1],
            "seconds": round(self.seconds, 3),
            "run": str(self.folder),
            "figure": str(self.figure),
        }


def new_folder(name: str, parent: str | Path = "runs") -> Path:
    """Makes a folder for a run that has none of its own: `runs/digits-1`, `runs/digits-2`, …

    Args:
        name: What will run.
        parent: Where to make it.
    """
    parent, number = Path(parent), 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                folder = parent / f"{name}-{number}"
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder
    except OSError as error:
        raise RunError(
            f"cannot make a run folder in {parent}: {error.strerror}; name one that can be written with `--out FOLDER`"
        ) from error


def run(
    experiment: Experiment,
    folder: str | Path,
    *,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Outcome:
    """Trains what a recipe describes, measures it and draws the figure.

    Args:
        experiment: What to run, from `build`.
        folder: Run folder; new or empty, unless `resume`.
        resume: Whether to go on from the folder's last checkpoint.
        on_progress: Told how far training is, a few times per second.
        on_warning: Told of damaged checkpoints that were passed over.

    Returns:
        The finished run.

    Raises:
        RunError: If the folder cannot be used, the disk is full, or the loss is no longer finite.
    """
    started, folder, recipe = time.perf_counter(), Path(folder), experiment.recipe
    if not resume and (folder / "run.json").exists():
        raise RunError(
            f"{folder} holds a run already; go on with it by `retrograde resume {folder}`, or name another folder"
        )
    result = fit(
        experiment.network,
        experiment.task,
        **fit_options(experiment),
        folder=folder,
        resume=resume,
        on_progress=on_progress,
        on_warning=on_warning,
    )
    measures = _measure(experiment, result.network, recipe.evaluation.samples)
    write_file(folder / "recipe.toml", lambda new: new.write_text(to_toml(recipe), encoding="utf-8"))
    measures.save(folder)
    figure = draw_figure(read_record(folder), folder / "figure.png")
    return Outcome(recipe, result, measures, folder, figure, time.perf_counter() - started)


def fit_options(experiment: Experiment) -> dict[str, Any]:
    """Gives what a recipe says to `fit`: rule, optimiser, numbers, and the recipe itself for the record."""
    training = experiment.recipe.training
    return {
        "rule": experiment.rule,
        "optimiser": experiment.optimiser,
        "steps": training.steps,
        "key": jr.key(training.seed),
        "batch": training.batch,
        "seeds": training.seeds,
        "update": training.update,
        "log_every": training.log_every,
        "validate_every": training.validate_every or None,
        "validation_split": training.validation_split,
        "early_stop": experiment.early_stop(),
        "penalty": experiment.penalty(),
        "checkpoint_every": training.checkpoint_every,
        "keep": training.keep,
        "recipe": experiment.recipe.model_dump(exclude_none=True),
    }


def recipe_of(folder: str | Path, *, steps: int | None = None) -> Recipe:
    """Reads the recipe that a run folder was made with.

    Args:
        folder: A run folder.
        steps: Number of updates to put into it.

    Raises:
        RunError: If it is no run folder, or was made in Python without a recipe.
        RecipeError: If the recipe is not valid any longer.
    """
    content = read_run(folder).get("recipe")
    if not content:
        raise RunError(f"{folder} was made without a recipe, in Python; go on with it there, by `fit(resume=True)`")
    if steps is not None:
        content["training"]["steps"] = steps
    return check(content, f"{folder}/run.json")


def restore(folder: str | Path, *, on_warning: Callable[[str], None] | None = None) -> tuple[Experiment, Network]:
    """Reads the network of a run's last checkpoint.

    Args:
        folder: Its run folder, finished or not.
        on_warning: Told of damaged checkpoints that were passed over.

    Returns:
        The experiment, and its network; of several seeds, stacked along a first axis.

    Raises:
        RunError: If the folder is no run, or no checkpoint can be read.
    """
    experiment = build(recipe_of(folder))
    seeds = range(experiment.recipe.training.seeds)
    networks = [load_network(folder, experiment.network, seed=seed, on_warning=on_warning) for seed in seeds]
    if len(networks) == 1:
        return experiment, networks[0]
    return experiment, jax.tree.map(
        lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *networks
    )


def evaluate_run(
    folder: str | Path, *, samples: int | None = None, on_warning: Callable[[str], None] | None = None
) -> Measures:
    """Measures the network of a run's last checkpoint; if the run is finished, its folder keeps the numbers.

    Args:
        folder: Its run folder, finished or not.
        samples: Number of draws of each sampler; the recipe's if `None`.
        on_warning: Told of damaged checkpoints that were passed over.

    Raises:
        RunError: If the folder is no run, or no checkpoint can be read.
    """
    experiment, network = restore(folder, on_warning=on_warning)
    measures = _measure(experiment, network, samples or experiment.recipe.evaluation.samples)
    if (Path(folder) / "result.json").exists():
        measures.save(folder)
    return measures


@dataclasses.dataclass(frozen=True)
class DrawnNetwork:
    """One network of an ensemble.

    Attributes:
        number: Which draw, from 0.
        accuracy: Share of right answers on the test split [fraction]; NaN for a regression.
        loss: Mean loss on the test split.
        path: File with its weights.
    """

    number: int
    accuracy: float
    loss: float
    path: Path

    def summary(self) -> dict[str, Any]:
        """Gives what `retrograde sample --json` prints of it."""
        accuracy = None if self.accuracy != self.accuracy else self.accuracy
        return {"number": self.number, "accuracy": accuracy, "loss": self.loss, "path": str(self.path)}


def sample_run(
    folder: str | Path,
    *,
    networks: int,
    seed: int = 0,
    out: str | Path | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> list[DrawnNetwork]:
    """Draws networks from a trained ensemble, measures them and writes their weights.

    Args:
        folder: Run folder; of several seeds, the first network is drawn from.
        networks: How many to draw.
        seed: Seeds the draws: draw `i` does not depend on how many there are.
        out: Where to write them; `samples` in the run folder if `None`.
        on_warning: Told of damaged checkpoints that were passed over.

    Returns:
        The networks' accuracies, and where their weights are.

    Raises:
        RunError: If the folder is no run, no checkpoint can be read, or the files cannot be written.
    """
    experiment = build(recipe_of(folder))
    ensemble = load_network(folder, experiment.network, on_warning=on_warning)
    out = Path(folder) / "samples" if out is None else Path(out)
    drawn = []
    for number in range(networks):
        draw_key, noise_key = jr.split(jr.fold_in(jr.key(seed), number))
        network = ensemble.sample(draw_key)
        measured = evaluate(network, experiment.task, noise_key)
        weights = {name: np.asarray(moments.mean) for name, moments in network.moments().items()}
        path = out / f"network-{number}.npz"
        write_file(path, lambda new, weights=weights: save_arrays(new, weights))
        drawn.append(DrawnNetwork(number, measured.accuracy, measured.loss, path))
    return drawn


def report_runs(folders: Sequence[str | Path], path: str | Path) -> Path:
    """Writes one HTML page about one or several runs.

    Args:
        folders: Their folders.
        path: Where to write it.

    Raises:
        RunError: If a folder is no run, or the page cannot be written.
    """
    records = [read_record(folder) for folder in folders]
    return write_page(records, path, recipes=[to_toml(record.origin.get("recipe") or {}) for record in records])


def _measure(experiment: Experiment, network: Network, samples: int) -> Measures:
    training = experiment.recipe.training
    key = jr.fold_in(jr.key(training.seed), 2**31 - 1)
    return measure(network, experiment.task, seeds=training.seeds, samples=samples, key=key)
