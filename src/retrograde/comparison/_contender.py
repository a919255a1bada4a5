"""One of those compared: trained, and measured while it trains."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from retrograde import analysis, training
from retrograde.comparison._plan import Measuring, slug
from retrograde.network import Network
from retrograde.recipes import Recipe, to_toml
from retrograde.report import Measures, draw_figure, measure, plain, read_json, read_record, write_file, write_json
from retrograde.tasks import AbstractTask
from retrograde.training import DivergedError, Progress

PROBES, COST = "probes.json", "cost.json"


@dataclasses.dataclass(frozen=True)
class Contender:
    """A rule on a network on a task, ready to run.

    Attributes:
        labels: What task, network and rule are called.
        kind: Name of the rule, whatever its settings: gives the colour.
        task: What is to be learnt.
        network: Key → untrained network.
        options: For `fit`: rule, optimiser, steps, key, seeds and the like.
        samples: How often the trained network is measured.
        recipe: The recipe that says all this, if there is one.
    """

    labels: tuple[str, str, str]
    kind: str
    task: AbstractTask
    network: Callable[..., Network]
    options: Mapping[str, Any]
    samples: int
    recipe: Recipe | None = None

    @property
    def path(self) -> Path:
        """Its run folder, within that of the comparison."""
        return Path("runs", *map(slug, self.labels))

    @property
    def loss(self) -> Callable:
        """`(outputs, trials) -> scalar`."""
        return self.options.get("loss") or training.task_loss(self.task)

    def first_network(self) -> Network:
        """The untrained network of the first seed, with the feedback that the rule wants, as `fit` makes it."""
        key = jr.split(jr.fold_in(self.options["key"], 0), 3)[0]
        return self.options["rule"].prepare(self.network(key), key=jr.fold_in(key, 1))

    def coverage(self) -> dict[str, analysis.Coverage]:
        """Which parameters the rule assigns credit to."""
        return analysis.coverage(self.first_network(), self.options["rule"], key=self.options["key"])

    def compile_update(self) -> training.Update:
        """One of its updates, to be timed."""
        chosen = {name: self.options[name] for name in ("rule", "optimiser", "batch", "key")}
        return training.compile_update(self.first_network(), self.task, loss=self.loss, **chosen)


def probe_steps(steps: int, points: int) -> list[int]:
    """Numbers of updates after which to measure: 0, and up to `steps` evenly in the logarithm."""
    later = {round(step) for step in np.geomspace(1, steps, max(points - 1, 1))} if points > 1 else set()
    return sorted({0, *later})


def run_contender(
    contender: Contender,
    folder: Path,
    measuring: Measuring,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> None:
    """Trains one contender, or goes on where it was interrupted; what is finished stays as it is.

    Args:
        contender: What to train.
        folder: Its run folder.
        measuring: What to measure on the way.
        on_progress: As in `fit`.
        on_warning: As in `fit`.

    Raises:
        RunError: If the folder cannot be used or written.
    """
    if is_finished(folder):
        return
    probes = read_probes(folder)
    steps = probe_steps(contender.options["steps"], measuring.points)

    def probe(step: int, network: Network, rule_state: PyTree) -> None:
        measured = {"alignment": _alignment(contender, network, rule_state, measuring)}
        if measuring.bands and step in (steps[0], steps[-1]):
            measured["credit"] = _credit(contender, network, rule_state, measuring)
        probes[step] = measured
        write_json(folder / PROBES, {str(step): found for step, found in probes.items()})

    try:
        result = training.fit(
            contender.network,
            contender.task,
            **contender.options,
            folder=folder,
            resume=True,
            pauses=steps,
            on_pause=probe,
            on_progress=on_progress,
            on_warning=on_warning,
        )
    except DivergedError as error:
        result = error.result
    seeds, key = contender.options.get("seeds", 1), jr.fold_in(contender.options["key"], 2**31 - 1)
    measures = measure(result.network, contender.task, seeds=seeds, samples=contender.samples, key=key)
    if contender.recipe is not None:
        text = to_toml(contender.recipe)
        write_file(folder / "recipe.toml", lambda new: new.write_text(text, encoding="utf-8"))
    measures.save(folder)  # the last: from here on it is finished
    draw_figure(read_record(folder), folder / "figure.png")


def is_finished(folder: Path) -> bool:
    """Whether a contender has been trained and measured, to the end or until it diverged."""
    return (folder / "result.json").exists() and Measures.load(folder) is not None


def _each_seed(contender: Contender, network: Network, rule_state: PyTree):
    """Network, rule's state and key of each seed."""
    seeds = contender.options.get("seeds", 1)
    for seed in range(seeds):
        key = jr.fold_in(jr.fold_in(contender.options["key"], seed), 2**31 - 3)
        if seeds == 1:
            yield network, rule_state, key
        else:
            pick = lambda leaf, seed=seed: leaf[seed] if eqx.is_array(leaf) else leaf  # noqa: E731
            yield *jax.tree.map(pick, (network, rule_state)), key


@eqx.filter_jit
def _sample(task, key, batch):
    """Trials; one program is quicker to compile than its operations one by one."""
    return task.sample(key, batch)


def _alignment(contender, network, rule_state, measuring) -> dict[str, list[list[float | None]]]:
    """Cosine and ratio of norms of each seed, by layer."""
    found: dict[str, list] = {}
    for one, state, key in _each_seed(contender, network, rule_state):
        trials_key, key = jr.split(key)
        trials = _sample(contender.task, trials_key, measuring.batch)
        alignment = analysis.gradient_alignment(
            one, trials, contender.options["rule"], loss=contender.loss, key=key, rule_state=state
        )
        for layer, values in alignment.items():
            found.setdefault(layer, []).append([plain(value) for value in values])
    return found


def _credit(contender, network, rule_state, measuring) -> dict[str, Any]:
    """Delivered share, its direction, and size of the true credit of each seed, by layer and band."""
    found: dict[str, Any] = {"delivered": {}, "cosine": {}, "size": {}}
    for one, state, key in _each_seed(contender, network, rule_state):
        trials_key, key = jr.split(key)
        trials = _sample(contender.task, trials_key, measuring.batch)
        credit = analysis.credit_by_lag(
            one,
            trials,
            contender.options["rule"],
            loss=contender.loss,
            key=key,
            bands=measuring.bands,
            draws=measuring.draws,
            rule_state=state,
        )
        found |= {"first": credit.first.tolist(), "last": credit.last.tolist()}
        for what in ("delivered", "cosine", "size"):
            for layer, values in getattr(credit, what).items():
                found[what].setdefault(layer, []).append([plain(value) for value in values])
    return found


def read_probes(folder: Path) -> dict[int, dict[str, Any]]:
    """What was measured while training, by number of updates made."""
    return {int(step): found for step, found in read_json(folder / PROBES, {}).items()}
