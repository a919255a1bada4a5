import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optax
from jaxtyping import Array, Key

from retrograde import recipes
from retrograde.comparison._contender import Contender
from retrograde.comparison._outcome import Comparison
from retrograde.comparison._plan import Measuring, slug
from retrograde.comparison._run import run_contenders
from retrograde.network import Network
from retrograde.rules import AbstractRule
from retrograde.tasks import AbstractTask
from retrograde.training import Stage

Maker = Callable[[AbstractTask, Key[Array, ""]], Network]


def compare(
    networks: Maker | Mapping[str, Maker],
    tasks: AbstractTask | Mapping[str, AbstractTask],
    *,
    rules: Sequence[AbstractRule] | Mapping[str, AbstractRule],
    optimiser: optax.GradientTransformation | Callable[[Network], optax.GradientTransformation],
    steps: int,
    key: Key[Array, ""],
    seeds: int = 1,
    folder: str | Path | None = None,
    samples: int = 1,
    points: int = 6,
    bands: int = 6,
    draws: int = 1,
    probe_batch: int = 64,
    repeats: int = 15,
    on_progress: Callable[[Stage], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
    **options: Any,
) -> Comparison:
    """Compares rules on equal footing: learning, alignment, credit by lag, time, memory and arithmetic.

    Every rule trains every network on every task. For a seed, all start from the same weights and see the same trials
    and the same noise.

    Args:
        networks: A function `(task, key) -> Network`, or several by name.
        tasks: What is to be learnt, or several by name.
        rules: The rules; give them by name where one comes with several settings.
        optimiser: As for `fit`, or a function of a network that makes one.
        steps: Updates that each makes.
        key: Seeds weights, trials and noise.
        seeds: Networks that each rule trains, for error bars.
        folder: Where to write runs, tables, pictures and page; what is finished there is not run again. Without one
            nothing is kept but what is returned.
        samples: How often a trained network is measured, if it is random.
        points: Times at which a rule's gradient is compared with the exact one.
        bands: Bands of lags in which delivered credit is measured; 0: not at all.
        draws: Draws over which the delivered credit of a random rule is averaged.
        probe_batch: Trials on which both are measured.
        repeats: Updates that are timed.
        on_progress: Told how far it is.
        on_warning: Told of damaged checkpoints that were passed over.
        **options: More of what `fit` takes, such as `batch`, `validate_every` or `loss`.

    Returns:
        What was found: `outcomes`, one for each task, network and rule, and `summary()`.

    Raises:
        CoverageError: If a rule assigns no credit to something that is to be trained.
        RunError: If the folder holds something else, or cannot be used or written.
        ValueError: If two of those compared have one name, or an argument is out of range.

    Example:
        >>> import jax, optax, retrograde as rg
        >>> comparison = rg.compare(
        ...     lambda task, key: rg.Network.single_layer(task, rg.neurons.LeakyRate(8), key=key),
        ...     rg.tasks.DelayedRecall(symbols=2, delay=3),
        ...     rules=[rg.rules.BPTT(), rg.rules.TruncatedBPTT(1)],
        ...     optimiser=optax.adam(1e-2),
        ...     steps=3,
        ...     key=jax.random.key(0),
        ...     points=2,
        ...     bands=2,
        ... )
        >>> credit = [outcome.credit(0)["delivered"]["all"].round(3).tolist() for outcome in comparison.outcomes]
        >>> credit  # of lag 0, and of all others
        [[[1.0, 1.0]], [[1.0, 0.0]]]
    """
    named_rules = rules if isinstance(rules, Mapping) else _by_name(rules)
    network_makers = networks if isinstance(networks, Mapping) else {"network": networks}
    named_tasks = tasks if isinstance(tasks, Mapping) else {_name(tasks): tasks}
    for argument, names in (("rules", named_rules), ("networks", network_makers), ("tasks", named_tasks)):
        if len({slug(name) for name in names}) < len(names):
            raise ValueError(f"`{argument}` has names that differ in signs only: {', '.join(names)}.")

    def contender(task: str, network: str, rule: str) -> Contender:
        maker, given = network_makers[network], named_tasks[task]
        made = optimiser
        if not isinstance(optimiser, optax.GradientTransformation):
            made = optimiser(maker(given, key))
        chosen = {"rule": named_rules[rule], "optimiser": made, "steps": steps, "key": key, "seeds": seeds}
        return Contender(
            (task, network, rule),
            _name(named_rules[rule]),
            given,
            lambda key: maker(given, key),
            {"batch": 128, **options, **chosen},
            samples,
        )

    contenders = [contender(t, n, r) for t in named_tasks for n in network_makers for r in named_rules]
    measuring = Measuring(points, bands, draws, probe_batch, repeats)
    with contextlib.nullcontext(folder) if folder is not None else tempfile.TemporaryDirectory() as place:
        name = "comparison" if folder is None else Path(folder).name
        return run_contenders(name, contenders, place, measuring, on_progress=on_progress, on_warning=on_warning)


def _name(part: Any) -> str:
    """What recipes call a rule or task, or its class's name if they know it not."""
    for kind in ("rules", "tasks"):
        for name, known in recipes.registry(kind).items():
            if known is type(part):
                return name
    return type(part).__name__


def _by_name(rules: Sequence[AbstractRule]) -> dict[str, AbstractRule]:
    names = [_name(rule) for rule in rules]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"`rules` has several {', '.join(repeated)}; give each a name, as in {{'window 5': TruncatedBPTT(5), ...}}."
        )
    return dict(zip(names, rules, strict=True))
