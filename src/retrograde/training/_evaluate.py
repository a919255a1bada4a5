"""How well a trained network does on a split, averaged over draws of its noise or its weights."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from retrograde import losses
from retrograde.network import Network
from retrograde.tasks import AbstractTask, Trials

WEIGHTS = ("mean-field", "annealed", "quenched", "mean")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy of each draw, and what the network answered.

    Attributes:
        losses: Mean loss over the split.
        accuracies: Share of correct answers [fraction]; NaN for a regression.
        predictions: Class with the largest output; `None` for a regression.
        targets: What the task wanted, labels or values.
        mask: Which of them count.
    """

    losses: Float[np.ndarray, "seed sample"]
    accuracies: Float[np.ndarray, "seed sample"]
    predictions: Int[np.ndarray, "seed sample steps trial"] | None
    targets: Shaped[np.ndarray, "steps trial *output"]
    mask: Shaped[np.ndarray, "steps trial"]

    @property
    def loss(self) -> float:
        """Mean loss over all draws."""
        return float(self.losses.mean())

    @property
    def loss_sd(self) -> float:
        """Standard deviation of the loss over all draws, of all seeds."""
        return float(self.losses.std())

    @property
    def accuracy(self) -> float:
        """Mean accuracy over all draws [fraction]."""
        return float(self.accuracies.mean())

    @property
    def accuracy_sd(self) -> float:
        """Standard deviation of the accuracy over all draws, of all seeds [fraction]."""
        return float(self.accuracies.std())


def evaluate(
    network: Network,
    task: AbstractTask,
    key: Key[Array, ""],
    *,
    split: str = "test",
    weights: str = "mean-field",
    samples: int = 1,
    batch: int = 500,
    trials: int = 1000,
    loss: Callable | None = None,
    seeds: int | None = None,
) -> Evaluation:
    """Runs a network over a whole split, `samples` times, as one compiled program.

    Args:
        network: A `Network`, or several stacked along a first axis (then give `seeds`).
        task: The task.
        key: Draws noise and weights.
        split: `"test"` or `"train"`.
        weights: `"mean-field"` (pooled noise, drawn afresh in each sample), `"annealed"` (weights drawn in each time
            step), `"quenched"` (each sample is one network, drawn once for the whole split) or `"mean"` (noise off).
        samples: Number of draws.
        batch: Trials at a time; bounds the memory.
        trials: Trials to take from a task that has no end.
        loss: As in `fit`; by default the task's own.
        seeds: Length of the first axis of a stacked network.

    Returns:
        Losses, accuracies and predictions of every draw.

    Raises:
        ValueError: If `weights` is unknown or `samples`, `batch` or `trials` is not positive.

    Example:
        >>> import jax, retrograde as rg
        >>> task = rg.tasks.DelayedRecall(symbols=2, delay=2)
        >>> network = rg.Network.single_layer(task, rg.neurons.LeakyRate(10), key=jax.random.key(0))
        >>> rg.evaluate(network, task, jax.random.key(1), trials=100).predictions.shape  # seed sample steps trial
        (1, 1, 1, 100)
    """
    if weights not in WEIGHTS:
        raise ValueError(f"`weights={weights!r}` is unknown; pick one of {', '.join(WEIGHTS)}")
    for name, value in (("samples", samples), ("batch", batch), ("trials", trials)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    size = task.size(split)
    size = trials if size is None else size
    chosen = task_loss(task) if loss is None else loss
    options = _Options(chosen, split, weights, size, _batch_size(size, batch))
    # one key for the weights, one for each batch; drawn here, as each draw adds to the compile time of a program
    keys = jr.split(key, (1 if seeds is None else seeds, samples, 1 + -(-size // options.batch)))
    if seeds is None:
        network = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, network)
    loss_sums, correct, counts, predictions, targets, mask = jax.device_get(_evaluate((network, task), keys, options))
    return Evaluation(
        losses=loss_sums / counts,
        accuracies=correct / counts,
        predictions=None if predictions is None else _join(predictions, size, lead=2),
        targets=_join(targets[0, 0], size),
        mask=_join(mask[0, 0], size),
    )


@dataclasses.dataclass(frozen=True)
class _Options:
    loss: Callable
    split: str
    weights: str
    size: int
    batch: int


@eqx.filter_jit
def _evaluate(network_and_task, keys: Key[Array, "seed sample draw"], options: _Options):
    network, task = network_and_task
    arrays, static = eqx.partition(network, eqx.is_array)

    # one seed after the other: on a batch of hundreds of trials `vmap` gains nothing but memory
    def one_seed(arrays_and_keys):
        arrays, keys = arrays_and_keys
        return jax.lax.map(lambda keys: _one_sample(eqx.combine(arrays, static), task, keys, options), keys)

    return jax.lax.map(one_seed, (arrays, keys))


def _one_sample(network, task, keys, options):
    weights = options.weights
    if weights == "quenched":
        # one network for the whole split; its weights have no variance left for the mean field
        network, weights = network.sample(keys[0]), "mean-field"

    def one_batch(number_and_key):
        number, key = number_and_key
        trials = _take(task, number, options)
        outputs = network(trials.inputs, key=key, weights=weights, readout_steps=task.target_steps).outputs
        count = trials.mask.sum().astype(outputs.dtype)
        loss, correct, predictions = options.loss(outputs, trials) * count, jnp.full_like(count, jnp.nan), None
        if task.loss == "cross_entropy":
            correct = losses.accuracy(outputs, trials) * count
            predictions = jnp.argmax(outputs, axis=-1)
        return (loss, correct, count), (predictions, trials.targets, trials.mask)

    sums, answers = jax.lax.map(one_batch, (jnp.arange(keys.shape[0] - 1), keys[1:]))
    return (*jax.tree.map(jnp.sum, sums), *answers)


def _take(task, number: Int[Array, ""], options: _Options) -> Trials:
    """The trials of one batch; what pads the last one is masked out."""
    index = number * options.batch + jnp.arange(options.batch)
    trials = task.take(jnp.minimum(index, options.size - 1), options.split)
    inside: Bool[Array, " batch"] = index < options.size
    mask = jnp.where(inside[None, :], trials.mask, jnp.zeros_like(trials.mask))
    return eqx.tree_at(lambda trials: trials.mask, trials, mask)


def _batch_size(size: int, most: int) -> int:
    """The largest divisor of `size` that is at least half of `most`, else `most` and a padded batch."""
    divisors = (n for n in range(min(size, most), most // 2, -1) if size % n == 0)
    return next(divisors, min(size, most))


def _join(batches: np.ndarray, size: int, lead: int = 0) -> np.ndarray:
    """`"*lead number steps batch ..."` → `"*lead steps trial ..."`, without the padding."""
    moved = np.moveaxis(batches, lead, lead + 1)
    before, (steps, number, batch), after = moved.shape[:lead], moved.shape[lead : lead + 3], moved.shape[lead + 3 :]
    joined = moved.reshape(*before, steps, number * batch, *after)
    return np.take(joined, np.arange(size), axis=lead + 1)


def task_loss(task: AbstractTask) -> Callable:
    """The loss function that a task names."""
    if task.loss not in losses.LOSSES:
        known = ", ".join(losses.LOSSES)
        raise ValueError(f"task {type(task).__name__} names the loss {task.loss!r}; known are {known}")
    return losses.LOSSES[task.loss]
