"""Training a network."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from retrograde.analysis import check_coverage
from retrograde.network import Network
from retrograde.rules import BPTT, RULES, AbstractOnlineRule, AbstractRule
from retrograde.tasks import AbstractTask
from retrograde.training._checkpoints import Checkpoints
from retrograde.training._early_stop import EarlyStop
from retrograde.training._errors import DivergedError, RunError
from retrograde.training._evaluate import evaluate, task_loss
from retrograde.training._history import METRICS, Rows
from retrograde.training._optimisers import trainable_labels
from retrograde.training._result import Progress, Result
from retrograde.training._run import Run, read_run
from retrograde.training._update import Problem, TrainingState, dispatch

DISPATCH = 256  # most updates of one dispatch
TIMING_SECONDS = 5.0  # between two lines of `timing.csv`
REPORT_SECONDS = 0.25  # a dispatch takes about so long, once its speed is known


def fit(
    network: Network | Callable[[Key[Array, ""]], Network],
    task: AbstractTask,
    *,
    rule: AbstractRule,
    optimiser: optax.GradientTransformation,
    steps: int,
    key: Key[Array, ""],
    batch: int = 128,
    loss: Callable | None = None,
    regulariser: Callable | None = None,
    penalty: Callable | None = None,
    update: str | int = "trial",
    seeds: int = 1,
    log_every: int = 10,
    validate_every: int | None = None,
    validation_split: str = "test",
    early_stop: EarlyStop | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 200,
    keep: int = 3,
    recipe: dict | None = None,
    tensorboard: bool | None = None,
    pauses: Sequence[int] = (),
    on_pause: Callable[[int, Network, PyTree], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Result:
    """Trains a network on a task.

    One update is: a batch of trials, the rule's gradient of their mean loss, the optimiser's step, and
    `network.project()`. Many updates run as one compiled program, the same one for the whole run. A finite task
    is gone through in epochs, in an order drawn anew for each, without its last partial batch.

    Everything random in update $k$ follows from `key` and $k$ alone, so a run that was stopped and resumed gives the
    same numbers, to the last bit, as one that was not.

    Args:
        network: The network, or a function key → network (needed for several seeds).
        task: Where trials come from.
        rule: How credit flows back.
        optimiser: From `retrograde.training.optimiser`, or any Optax transformation.
        steps: Updates to make in all, those before a resume included.
        key: Seeds weights, order of the trials, and noise.
        batch: Trials per update.
        loss: `(outputs, trials) -> scalar`; by default the one that the task names.
        regulariser: `network -> scalar`, added to the loss that is differentiated, not to the one that is reported.
        penalty: `activity -> scalar`, likewise added; has an attribute `populations`, the names of those whose activity
            it takes. See `retrograde.losses.FiringRate`.
        update: When to change the parameters: `"trial"`, at the end of each batch of trials; `"step"`, at every time
            step; or a number of time steps (the rest of a trial makes a shorter one). Inside a trial only rules can
            that run forward in time (`AbstractOnlineRule`); network and traces run on across updates, the loss must be
            a sum over steps, and `steps` counts batches of trials.
        seeds: Number of networks trained side by side, with weights, trials and noise of their own.
        log_every: Updates that one row of the history averages over.
        validate_every: Measure loss and accuracy on the whole of `validation_split` after so many updates.
        validation_split: A split of the task.
        early_stop: When to end before `steps`.
        folder: Run folder to write; see `Run`. Without one nothing is saved.
        resume: Whether to go on from the last checkpoint in `folder`, if there is one.
        checkpoint_every: Updates between two checkpoints.
        keep: How many of the latest checkpoints to keep.
        recipe: Stored in `run.json`, for the record.
        tensorboard: Whether to write TensorBoard events too; by default if `tensorboardX` is installed.
        pauses: Numbers of updates after which `on_pause` is called; 0 is before the first. A resumed run does not come
            by those before its checkpoint again.
        on_pause: Called with the number of updates made, the network and the rule's state (with several seeds their
            arrays have a first axis `seed`), before that update's checkpoint is written. Their arrays do not outlive
            the call. It changes no number of the run.
        on_progress: Called a few times per second.
        on_warning: Told of damaged checkpoints that were passed over; by default Python warnings.

    Returns:
        The trained network and its history.

    Raises:
        DivergedError: If a loss, gradient or parameter is no longer finite. The last good state is kept.
        RunError: If the folder cannot be used, or not be written any longer.
        CheckpointError: If no checkpoint can be read, or they belong to another network.
        CoverageError: If the rule assigns no credit to something that is to be trained.
        ValueError: If an argument is out of range.

    Example:
        >>> import jax, optax, retrograde as rg
        >>> task = rg.tasks.DelayedRecall(symbols=2, delay=2)
        >>> network = rg.Network.single_layer(task, rg.neurons.LeakyRate(10), key=jax.random.key(0))
        >>> result = rg.fit(
        ...     network, task, rule=rg.rules.BPTT(), optimiser=optax.adam(1e-2), steps=50, key=jax.random.key(1)
        ... )
        >>> result.step, result.network.inputs == task.inputs
        (50, True)
    """
    started = time.perf_counter()
    _check_numbers(
        steps=steps, batch=batch, seeds=seeds, log_every=log_every, checkpoint_every=checkpoint_every, keep=keep
    )
    if validate_every is not None:
        _check_numbers(validate_every=validate_every)
    if early_stop is not None and early_stop.metric.startswith("validation") and validate_every is None:
        raise ValueError(f"`EarlyStop(metric={early_stop.metric!r})` needs `validate_every`, else it is never measured")
    _check_task(task, batch)
    every = _update_every(update, rule)
    if penalty is not None and every is not None:
        raise ValueError(f"`penalty` is known when a trial ends: with it `update` must be 'trial', not {update!r}")
    settings = {
        "steps": steps,
        "batch": batch,
        "seeds": seeds,
        "log_every": log_every,
        "validate_every": validate_every,
        "validation_split": validation_split,
        "update": update,
        "key": [str(jr.key_impl(key)), *np.asarray(jr.key_data(key)).tolist()],
    }
    run = nullcontext() if folder is None else Run(folder, settings=settings, recipe=recipe, keep=keep, resume=resume)
    with run:
        session = _Session(
            network=network,
            task=task,
            rule=rule,
            optimiser=optimiser,
            loss=task_loss(task) if loss is None else loss,
            regulariser=regulariser,
            penalty=penalty,
            every=every,
            key=key,
            plan=_Plan(
                steps, batch, seeds, log_every, validate_every, validation_split, checkpoint_every, early_stop, pauses
            ),
            run=None if folder is None else run,
            on_pause=on_pause,
            on_progress=on_progress,
            on_warning=on_warning or (lambda message: warnings.warn(message, stacklevel=2)),
            started=started,
        )
        session.start(tensorboard)
        return session.train()


def _check_numbers(**numbers) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}")


def _update_every(update: str | int, rule: AbstractRule) -> int | None:
    """Time steps between two updates inside a trial; `None` for one at its end."""
    if update == "trial":
        return None
    every = 1 if update == "step" else update
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"`update={update!r}` must be 'trial', 'step' or a number of time steps, 1 or more")
    if not isinstance(rule, AbstractOnlineRule):
        names = ", ".join(sorted(kind.__name__ for kind in RULES.values() if issubclass(kind, AbstractOnlineRule)))
        raise ValueError(
            f"`update={update!r}` changes parameters inside a trial, and `{type(rule).__name__}` knows its gradient at "
            f"the end only. Rules that run forward in time: {names}."
        )
    return every


def _check_task(task: AbstractTask, batch: int) -> None:
    size = task.size("train")
    if size is not None and size < batch:
        raise ValueError(
            f"`batch={batch}` is more than the {size} training trials of {type(task).__name__}; take at most {size}"
        )


@dataclasses.dataclass(frozen=True)
class _Plan:
    steps: int
    batch: int
    seeds: int
    log_every: int
    validate_every: int | None
    validation_split: str
    checkpoint_every: int
    early_stop: EarlyStop | None
    pauses: Sequence[int]

    def next_stop(self, step: int, saves: bool) -> int:
        """The next step at which the host has something to do."""
        every = [self.validate_every] + [self.checkpoint_every] * saves
        if self.early_stop is not None and not self.early_stop.metric.startswith("validation"):
            every.append(self.log_every)
        pauses = [pause for pause in self.pauses if pause > step]
        return min([self.steps, *pauses] + [(step // n + 1) * n for n in every if n is not None])


class _Session:
    """One call of `fit`: the loop on the host around the compiled program."""

    def __init__(
        self,
        *,
        network,
        task,
        rule,
        optimiser,
        loss,
        regulariser,
        penalty,
        every,
        key,
        plan,
        run,
        on_pause,
        on_progress,
        on_warning,
        started,
    ):
        self.plan, self.run, self.key, self.task, self.loss = plan, run, key, task, loss
        self.on_pause, self.on_progress, self.on_warning = on_pause, on_progress, on_warning
        self.started = self.timed = started
        many = plan.seeds > 1
        keys = jax.vmap(lambda seed: jr.split(seed_key(key, seed), 3))(jnp.arange(plan.seeds))
        one, self.network = _build(network, rule, keys[:, 0], plan.seeds)
        self.one, self.rule = one, rule
        self.trainable, self.labels = one.trainable(), jax.tree.leaves(trainable_labels(one))
        if not self.labels:
            raise ValueError("this network has nothing to train: all its projections are frozen")
        params, rest = eqx.partition(self.network, self.trainable)
        # copies: the program consumes its state, and these arrays are the caller's
        params = jax.tree.map(lambda x: jnp.array(x, dtype=x.dtype), params)
        optimiser_state = (eqx.filter_vmap(optimiser.init) if many else optimiser.init)(params)
        rule_state = (eqx.filter_vmap(rule.init) if many else rule.init)(self.network)
        size = task.size("train")
        shape = (plan.seeds, size) if many else (size,)
        self.state = TrainingState(
            params=params,
            optimiser_state=jax.tree.map(_fresh, optimiser_state),
            rule_state=jax.tree.map(_fresh, rule_state),
            order=None if size is None else jnp.zeros(shape, jnp.int32),
            step=jnp.zeros((), jnp.int32),
        )
        self.problem = Problem(
            rest=jax.tree.map(_to_jax, rest),
            trainable=self.trainable,
            task=jax.tree.map(_to_jax, task),
            rule=rule,
            optimiser=optimiser,
            loss=loss,
            regulariser=regulariser,
            penalty=penalty,
            data_keys=keys[:, 1] if many else keys[0, 1],
            noise_keys=keys[:, 2] if many else keys[0, 2],
            batch=plan.batch,
            every=every,
            buffer=DISPATCH,
        )
        self.step = 0
        self.rows, self.written = Rows(plan.seeds), 0
        self.pending = np.zeros((0, plan.seeds, 3))  # metrics of the updates since the last complete row
        self.validation = np.full((plan.seeds, 2), np.nan)
        self.speed = _Speed()

    def start(self, tensorboard: bool | None) -> None:
        """Takes up the last checkpoint; if there is none, makes sure that the rule reaches all there is to train."""
        offset = None
        if self.run is not None:
            checkpoints = self.run.checkpoints
            if checkpoints.steps():
                self.step, saved = checkpoints.load(self._checkpoint(0), self.on_warning)
                self.state = dataclasses.replace(saved["state"], params=saved["params"])
                self.pending = saved["pending"][: int(saved["pending_count"])]
                offset = int(saved["metrics_offset"])
            checkpoints.tidy(self.step)
            self.rows = self.run.open_metrics(offset, self.plan.seeds, tensorboard, self.step)
            self.written = len(self.rows.steps)
            if self.step > self.plan.steps:
                raise RunError(
                    f"{self.run.folder} has made {self.step} updates already; to resume it give `steps` of at least "
                    f"that, not {self.plan.steps}"
                )
        if self.step == 0 and not isinstance(self.rule, BPTT):
            check_coverage(self.one, self.rule, key=self.key)
        history = self.rows.history()
        for i, metric in enumerate(("validation_loss", "validation_accuracy")):
            _, values = history.measured(metric)
            if values.size:
                self.validation[:, i] = values[:, -1]

    def train(self) -> Result:
        plan, stopped = self.plan, self._is_stopped()
        if self.step == 0:
            self._pause()
        while self.step < plan.steps and not stopped:
            before = self.step
            self.speed.begin()
            target = min(plan.next_stop(self.step, self.run is not None), self.step + self.speed.steps(DISPATCH))
            self.state, buffer, flags = dispatch((self.problem, jnp.asarray(target, self.state.step.dtype)), self.state)
            step, metrics, flags = jax.device_get((self.state.step, buffer, flags))
            self.step = int(step)
            self.speed.measure(self.step - before)
            metrics = np.asarray(metrics[: self.step - before], np.float64)
            self._log(metrics)
            if flags.any():
                self._diverged(flags)
            if plan.validate_every is not None and self.step % plan.validate_every == 0:
                self._validate()
            stopped = self._is_stopped()
            self._flush()
            self._pause()
            if self.step % plan.checkpoint_every == 0:
                self._save()
            self._report(metrics)
        return self._close(stopped, failure=None)

    def _pause(self) -> None:
        if self.on_pause is not None and self.step in self.plan.pauses:
            self.on_pause(self.step, self._network(), self.state.rule_state)

    def _is_stopped(self) -> bool:
        early_stop = self.plan.early_stop
        return early_stop is not None and bool(self.rows.steps) and early_stop.is_reached(self.rows.history())

    def _log(self, metrics: np.ndarray) -> None:
        """Appends the rows that are complete now."""
        every = self.plan.log_every
        self.pending = np.concatenate([self.pending, metrics])
        complete = len(self.pending) // every
        first = self.step - len(self.pending)
        for row in range(complete):
            self._append(first + (row + 1) * every, self.pending[row * every : (row + 1) * every].mean(axis=0))
        self.pending = self.pending[complete * every :]

    def _validate(self) -> None:
        key = jr.fold_in(jr.fold_in(self.key, 2**31 - 2), self.step)
        measured = evaluate(
            self._network(),
            self.task,
            key,
            split=self.plan.validation_split,
            loss=self.loss,
            seeds=None if self.plan.seeds == 1 else self.plan.seeds,
        )
        self.validation = np.stack([measured.losses[:, 0], measured.accuracies[:, 0]], axis=1).astype(np.float64)
        self._append(self.step, None, self.validation)

    def _append(self, step: int, training: np.ndarray | None, validation: np.ndarray | None = None) -> None:
        table = np.full((self.plan.seeds, len(METRICS)), np.nan)
        if training is not None:
            table[:, :3] = training
        if validation is not None:
            table[:, 3:] = validation
        self.rows.append(step, table)

    def _flush(self) -> None:
        """Writes the rows not yet written, each of which is complete."""
        if self.run is not None:
            for step, table in zip(self.rows.steps[self.written :], self.rows.tables[self.written :], strict=True):
                self.run.write_events(step, table)
            self.run.write_metrics(self.rows.lines(self.written))
        self.written = len(self.rows.steps)

    def _save(self) -> None:
        if self.run is not None:
            self.run.checkpoints.save(self.step, self._checkpoint(self.run.metrics_offset()))

    def _checkpoint(self, offset: int) -> dict[str, PyTree]:
        pending = np.zeros((self.plan.log_every, self.plan.seeds, 3))
        pending[: len(self.pending)] = self.pending
        return {
            "params": self.state.params,
            "state": eqx.tree_at(lambda state: state.params, self.state, None),
            "pending": pending,
            "pending_count": np.asarray(len(self.pending)),
            "metrics_offset": np.asarray(offset),
        }

    def _network(self) -> Network:
        return eqx.combine(self.state.params, eqx.filter(self.network, self.trainable, inverse=True))

    def _report(self, metrics: np.ndarray) -> None:
        now, rate = time.perf_counter(), self.speed.rate
        if self.run is not None and (now - self.timed >= TIMING_SECONDS or self.step == self.plan.steps):
            self.run.write_timing(self.step, now - self.started, rate)
            self.timed = now
        if self.on_progress is not None:
            loss, accuracy, _ = metrics.mean(axis=(0, 1))
            validation_loss, validation_accuracy = self.validation.mean(axis=0)
            self.on_progress(
                Progress(
                    step=self.step,
                    steps=self.plan.steps,
                    loss=float(loss),
                    accuracy=float(accuracy),
                    validation_loss=float(validation_loss),
                    validation_accuracy=float(validation_accuracy),
                    steps_per_second=rate,
                    seconds=now - self.started,
                    seconds_left=(self.plan.steps - self.step) / rate,
                )
            )

    def _diverged(self, flags: np.ndarray) -> None:
        """Keeps what is good, and says what is not."""
        groups = tuple(
            label for label, bad in zip(self.labels, np.any(flags[:, 1:], axis=0).tolist(), strict=True) if bad
        )
        where = ", ".join(groups) if len(groups) < len(self.labels) else f"all {len(groups)} parameter groups"
        what = []
        if flags[:, 0].any():
            what.append("the loss")
        if groups:
            what.append(f"the gradient or the new value of {where}")
        seeds = ", ".join(str(seed) for seed in np.flatnonzero(flags.any(axis=1)))
        message = (
            f"training diverged at update {self.step + 1}"
            + (f" (seed {seeds})" if self.plan.seeds > 1 else "")
            + f": {' and '.join(what)} became NaN or infinite. That update was not applied; "
        )
        message += f"the state after update {self.step} is kept"
        message += f" in {self.run.folder}. " if self.run is not None else " in this error's `result`. "
        message += "Try a lower learning rate, a gradient clip (`clip_spectral`), or smaller initial weights"
        result = self._close(stopped=False, failure=message)
        raise DivergedError(message, step=self.step + 1, groups=groups, result=result)

    def _close(self, stopped: bool, failure: str | None) -> Result:
        # first the checkpoint, then rows that an uninterrupted longer run would not have: resuming cuts them off
        self._flush()
        self._save()
        if len(self.pending):
            self._append(self.step, self.pending.mean(axis=0))
        every = self.plan.validate_every
        if failure is None and every is not None and self.step % every != 0:
            self._validate()
        self._flush()
        seconds = time.perf_counter() - self.started
        if self.run is not None:
            self.run.write_result(
                {
                    "step": self.step,
                    "steps": self.plan.steps,
                    "seeds": self.plan.seeds,
                    "stopped_early": stopped,
                    "failure": failure,
                    "seconds": round(seconds, 3),
                }
                | self._last_row()
            )
        return Result(
            network=self._network(),
            history=self.rows.history(),
            step=self.step,
            seeds=self.plan.seeds,
            seconds=seconds,
            stopped_early=stopped,
            folder=None if self.run is None else self.run.folder,
            task=self.task,
            loss=self.loss,
            key=self.key,
        )

    def _last_row(self) -> dict[str, list[float | None]]:
        """The latest value of each metric, one per seed."""
        history = self.rows.history()
        latest = {}
        for metric in METRICS:
            _, values = history.measured(metric)
            latest[metric] = [None if np.isnan(x) else float(x) for x in values[:, -1]] if values.size else []
        return latest


class _Speed:
    """Measures updates per second, and from that how many to ask for at once."""

    def __init__(self):
        self.rate = float("nan")
        self._next = 1
        self._calls = 0

    def begin(self) -> None:
        self._began = time.perf_counter()

    def measure(self, done: int) -> None:
        self._calls += 1
        if self._calls == 1 or done == 0:
            return  # mostly compilation
        rate = done / (time.perf_counter() - self._began)
        self.rate = rate if np.isnan(self.rate) else 0.7 * self.rate + 0.3 * rate
        # a first, short measurement says little: grow by and by
        self._next = max(1, min(4 * self._next, int(self.rate * REPORT_SECONDS)))

    def steps(self, most: int) -> int:
        return min(self._next, most)


def _build(network, rule: AbstractRule, keys: Key[Array, " seed"], seeds: int) -> tuple[Network, Network]:
    """One network, and all of them stacked, with the feedback that the rule wants."""
    if isinstance(network, Network):
        if seeds > 1:
            raise ValueError(
                f"`seeds={seeds}` needs a function key -> network, so that each seed has its own weights; got a network"
            )
        prepared = rule.prepare(network, key=jr.fold_in(keys[0], 1))
        return prepared, prepared
    networks = [network(key) for key in keys]
    if not isinstance(networks[0], Network):
        raise TypeError(f"`network` must be a Network or a function that returns one, not {type(networks[0]).__name__}")
    networks = [rule.prepare(one, key=jr.fold_in(key, 1)) for one, key in zip(networks, keys, strict=True)]
    return networks[0], networks[0] if seeds == 1 else jax.tree.map(_stack, *networks)


def _stack(*leaves):
    if eqx.is_array(leaves[0]) or isinstance(leaves[0], np.ndarray):
        return jnp.stack([jnp.asarray(leaf) for leaf in leaves])
    if any(leaf != leaves[0] for leaf in leaves):
        raise ValueError(f"a setting of the network differs between seeds: {leaves}; only arrays may")
    return leaves[0]


def _fresh(leaf):
    """A copy that the program may consume, without weak type."""
    if not eqx.is_array(leaf) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jnp.array(leaf, dtype=leaf.dtype)


def _to_jax(leaf):
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf


def load_network(
    folder: str | Path,
    network: Network | Callable[[Key[Array, ""]], Network],
    *,
    seed: int = 0,
    step: int | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Network:
    """The network of the last checkpoint of a run.

    Args:
        folder: Run folder of `fit`.
        network: What `fit` was given, or any network of the same structure.
        seed: Which of the seeds.
        step: Take the checkpoint of this step, if it is still there.
        on_warning: Told of damaged checkpoints that were passed over; by default Python warnings.

    Returns:
        The trained network of that seed.

    Raises:
        RunError: If the folder is not a run, or has no such seed.
        CheckpointError: If no checkpoint can be read, or it belongs to another network.
    """
    settings = read_run(folder)["settings"]
    seeds = settings["seeds"]
    if not 0 <= seed < seeds:
        raise RunError(f"{folder} has the seeds 0 to {seeds - 1}, not {seed}")
    if not isinstance(network, Network):
        network = network(jr.split(seed_key(_stored_key(settings["key"]), seed), 3)[0])
    params, rest = eqx.partition(network, network.trainable())
    shapes = params if seeds == 1 else jax.tree.map(lambda x: jnp.broadcast_to(x, (seeds, *x.shape)), params)
    template = {"params": shapes}
    warn = on_warning or (lambda message: warnings.warn(message, stacklevel=2))
    _, saved = Checkpoints(Path(folder) / "checkpoints", keep=1).load(template, warn, step)
    params = saved["params"] if seeds == 1 else jax.tree.map(lambda x: x[seed], saved["params"])
    return eqx.combine(params, rest)


def seed_key(key: Key[Array, ""], seed) -> Key[Array, ""]:
    """Key of one seed: of its weights, its trials and its noise."""
    return jr.fold_in(key, seed)


def _stored_key(stored: list) -> Key[Array, ""]:
    impl, *data = stored
    return jr.wrap_key_data(jnp.asarray(data, jnp.uint32), impl=impl)
