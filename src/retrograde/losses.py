"""What an answer costs: outputs and trials in, one number out."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from retrograde.tasks import Trials


def cross_entropy(outputs: Float[Array, "steps batch class"], trials: Trials) -> Float[Array, ""]:
    r"""Mean cross-entropy between the softmax of the outputs and the targets.

    $$L = \frac{\sum_{tb} w_{tb} \, \ell_{tb}}{\sum_{tb} w_{tb}}, \qquad
      \ell_{tb} = -\sum_c q_{tbc} \log \mathrm{softmax}(o_{tb})_c,$$

    with the mask $w$ and the target distribution $q$, which for a class number is 1 on that class. If the mask is 0
    everywhere, so is the loss, and its gradient.

    Args:
        outputs: Unnormalised log probabilities $o$ [nat], shape `steps batch class`, for the steps that the targets
            cover.
        trials: Their `targets` are class numbers, shape `steps batch`, or probabilities, shape `steps batch class`.

    Returns:
        The loss [nat], in the dtype of `outputs`.

    Raises:
        ValueError: If the shapes do not fit together.

    Example:
        >>> trials = Trials(jnp.zeros((5, 1, 2)), targets=jnp.array([[1]]), mask=jnp.ones((1, 1)))
        >>> float(cross_entropy(jnp.log(jnp.array([[[0.2, 0.8]]])), trials))  # -log 0.8
        0.2231435...
    """
    soft = jnp.issubdtype(trials.targets.dtype, jnp.floating)
    _check_shapes("cross_entropy", outputs, trials, soft)
    log_probability = jax.nn.log_softmax(_counted(outputs, trials))
    if soft:
        losses = -jnp.sum(trials.targets.astype(outputs.dtype) * log_probability, axis=-1)
    else:
        losses = -jnp.take_along_axis(log_probability, trials.targets[:, :, None], axis=-1)[:, :, 0]
    return _masked_mean(losses, trials)


def mean_squared_error(outputs: Float[Array, "steps batch output"], trials: Trials) -> Float[Array, ""]:
    r"""Mean squared difference between outputs and targets.

    $$L = \frac{\sum_{tb} w_{tb} \, \ell_{tb}}{\sum_{tb} w_{tb}}, \qquad
      \ell_{tb} = \frac{1}{K} \sum_{k=1}^{K} (o_{tbk} - y_{tbk})^2,$$

    with the mask $w$. If the mask is 0 everywhere, so is the loss, and its gradient. (No factor ½, and the mean over
    the $K$ outputs: papers differ in both, and their learning rates with them. See `half_squared_error`.)

    Args:
        outputs: The answers $o$, shape `steps batch output`, for the steps that the targets cover.
        trials: Their `targets` $y$ are numbers of the same shape.

    Returns:
        The loss [unit of the targets, squared], in the dtype of `outputs`.

    Raises:
        ValueError: If the shapes do not fit together, or the targets are class numbers.

    Example:
        >>> trials = Trials(jnp.zeros((5, 1, 2)), targets=jnp.array([[[1.0, 2.0]]]), mask=jnp.ones((1, 1)))
        >>> float(mean_squared_error(jnp.array([[[1.0, 4.0]]]), trials))
        2.0
    """
    return _masked_mean(jnp.mean(_error("mean_squared_error", outputs, trials) ** 2, axis=-1), trials)


def half_squared_error(outputs: Float[Array, "steps batch output"], trials: Trials) -> Float[Array, ""]:
    r"""Half the squared difference between outputs and targets, summed over outputs and averaged over steps and trials.

    $$L = \frac{\sum_{tb} w_{tb} \, \ell_{tb}}{\sum_{tb} w_{tb}}, \qquad
      \ell_{tb} = \frac12 \sum_{k=1}^{K} (o_{tbk} - y_{tbk})^2,$$

    with the mask $w$, so that the derivative of $\ell_{tb}$ by an output is just the error $o_{tbk} - y_{tbk}$. If the
    mask is 0 everywhere, so is the loss, and its gradient.

    Args:
        outputs: The answers $o$, shape `steps batch output`, for the steps that the targets cover.
        trials: Their `targets` $y$ are numbers of the same shape.

    Returns:
        The loss [unit of the targets, squared], in the dtype of `outputs`.

    Raises:
        ValueError: If the shapes do not fit together, or the targets are class numbers.

    Example:
        >>> trials = Trials(jnp.zeros((5, 1, 2)), targets=jnp.array([[[1.0, 2.0]]]), mask=jnp.ones((1, 1)))
        >>> float(half_squared_error(jnp.array([[[1.0, 5.0]]]), trials))
        4.5

    Source:
        Murray (2019), eLife 8:e43299. The code of Marschall, Cho and Savin (2020), J. Mach. Learn. Res. 21(135), learns
        with its derivative, but prints the loss divided by $K$.
    """
    return _masked_mean(jnp.sum(_error("half_squared_error", outputs, trials) ** 2, axis=-1) / 2, trials)


def accuracy(outputs: Float[Array, "steps batch class"], trials: Trials) -> Float[Array, ""]:
    """Share of entries under the mask at which the largest output is the target's class.

    Args:
        outputs: Scores of the classes, shape `steps batch class`, for the steps that the targets cover.
        trials: Their `targets` are class numbers, or probabilities, of which the largest counts as the class (of equal
            ones the first).

    Returns:
        The share, 0 to 1 [1], in the dtype of `outputs`; 0 if the mask is 0 everywhere.

    Raises:
        ValueError: If the shapes do not fit together.

    Example:
        >>> trials = Trials(jnp.zeros((5, 2, 2)), targets=jnp.array([[1, 0]]), mask=jnp.ones((1, 2)))
        >>> float(accuracy(jnp.array([[[0.1, 0.9], [0.2, 0.8]]]), trials))
        0.5
    """
    soft = jnp.issubdtype(trials.targets.dtype, jnp.floating)
    _check_shapes("accuracy", outputs, trials, soft)
    labels = jnp.argmax(trials.targets, axis=-1) if soft else trials.targets
    is_right = jnp.argmax(outputs, axis=-1).astype(labels.dtype) == labels
    return _masked_mean(is_right.astype(outputs.dtype), trials)


class FiringRate(eqx.Module):
    r"""A penalty on neurons that fire more, or less, often than they should.

    $$E = c \sum_j (f_j - f^*)^2, \qquad f_j = \frac{1}{TB} \sum_{tb} z_{tbj}.$$

    It is a function of the spikes alone, so under a local rule it reaches the weights by their eligibility traces, as
    a learning signal of its own that no readout filters.

    Attributes:
        target: $f^*$ [spikes per step]; 0.01 are 10 Hz at steps of 1 ms.
        strength: $c$ [1].
        populations: Whose neurons.

    Raises:
        ValueError: If `target` or `strength` is negative, or there is no population.

    Example:
        >>> penalty = FiringRate(target=0.25, strength=2.0)
        >>> float(penalty({"hidden": jnp.array([[[1.0, 0.0]], [[0.0, 0.0]]])}))  # 2 (0.25² + 0.25²)
        0.25

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, Methods, and the authors' programs: $c$ is 1 for evidence
        accumulation, 150 (they write 300 with a factor ½) for pattern generation.
    """

    target: float = 0.01
    strength: float = 1.0
    populations: tuple[str, ...] = eqx.field(static=True, default=("hidden",))

    def __check_init__(self):
        for name in ("target", "strength"):
            value = getattr(self, name)
            if isinstance(value, float | int) and not value >= 0:
                raise ValueError(f"`FiringRate({name}=...)` must not be negative, got {value}.")
        if not self.populations:
            raise ValueError("`FiringRate(populations=...)` must name at least one population.")

    def __call__(self, activity: dict[str, Float[Array, "time batch neuron"]]) -> Float[Array, ""]:
        """The penalty, given the activity of (at least) `populations`."""
        rates = [jnp.mean(activity[name], axis=(0, 1)) for name in self.populations]
        return self.strength * jnp.sum((jnp.concatenate(rates) - self.target) ** 2)


# Name in `task.loss` and in recipes → function.
LOSSES: dict[str, Callable[[Float[Array, "steps batch output"], Trials], Float[Array, ""]]] = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    "half_squared_error": half_squared_error,
}


def _error(name, outputs, trials):
    """Output minus target where it counts."""
    if not jnp.issubdtype(trials.targets.dtype, jnp.floating):
        raise ValueError(
            f"`{name}` needs targets that are numbers, got class numbers (dtype {trials.targets.dtype}). "
            "Use `cross_entropy`, or give the targets as floating point, shape `steps batch output`."
        )
    _check_shapes(name, outputs, trials, has_outputs=True)
    return _counted(outputs, trials) - trials.targets.astype(outputs.dtype)


def _counted(outputs, trials):
    """Sets outputs that do not count to 0, so that one that has overflowed there cannot make the gradient NaN."""
    return jnp.where(trials.mask.astype(bool)[:, :, None], outputs, jnp.zeros_like(outputs))


def _masked_mean(values, trials):
    weight = trials.mask.astype(values.dtype)
    total = jnp.sum(weight)
    # What fills up the targets where they do not count (NaN, class -1 or 255) is nobody's business.
    values = jnp.where(weight != 0, values, jnp.zeros_like(values))
    return jnp.sum(weight * values) / jnp.where(total == 0, jnp.ones_like(total), total)


def _check_shapes(name: str, outputs, trials: Trials, has_outputs: bool) -> None:
    targets, mask = trials.targets.shape, trials.mask.shape
    if len(outputs.shape) != 3:
        raise ValueError(f"`{name}` needs outputs of shape `steps batch output`, got shape {outputs.shape}.")
    if len(targets) != (3 if has_outputs else 2):
        kind = (
            "floating-point targets of shape `steps batch output`"
            if has_outputs
            else "class numbers of shape `steps batch`"
        )
        raise ValueError(f"`{name}` needs {kind}, got targets of shape {targets} and dtype {trials.targets.dtype}.")
    if mask != targets[:2]:
        raise ValueError(f"`{name}` got targets of shape {targets} but a mask of shape {mask}: it needs {targets[:2]}.")
    if outputs.shape[0] != targets[0]:
        raise ValueError(
            f"`{name}` got outputs for {outputs.shape[0]} steps but targets for {targets[0]}. Targets cover the last "
            "steps of a trial: run the network with `readout_steps=task.target_steps`."
        )
    if outputs.shape[1] != targets[1]:
        raise ValueError(f"`{name}` got outputs for {outputs.shape[1]} trials but targets for {targets[1]}.")
    if has_outputs and outputs.shape[2] != targets[2]:
        raise ValueError(
            f"`{name}` got {outputs.shape[2]} outputs but targets with {targets[2]}. Give the network's readout "
            "population `task.outputs` neurons."
        )
