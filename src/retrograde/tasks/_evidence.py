"""Count cues left and right, and turn to where more of them were."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from retrograde.encoders import poisson
from retrograde.tasks._abstract import Trials, check_durations, check_integer, check_rates
from retrograde.tasks._endless import AbstractEndlessTask


class EvidenceAccumulation(AbstractEndlessTask):
    r"""Cues come left and right; after a delay it is to be said on which side there were more.

    | phase | length | neurons of the left or right | recall neurons | noise neurons |
    | --- | --- | --- | --- | --- |
    | cues, `cues` times | `silence`, then `cue` | side of the cue: `cue_rate`, during `cue` | | `noise_rate` |
    | delay | `delay` | | | `noise_rate` |
    | recall | `recall` | | `recall_rate` | `noise_rate` |

    Input neurons, in groups of `group`: left, right, recall, noise; each fires in every step with the probability
    rate · dt / 1000. In every trial one side is the more likely, both with the same chance, and each cue is on the
    other side with the probability `minority`. What counts is where more cues *were*: class 0 left, 1 right, at every
    step of the recall. `decision_error` measures the decisions. An answer at chance costs `log(2)` nats.

    Attributes:
        cues: Number of cues, odd.
        cue: Length of a cue [ms].
        silence: Time before each cue [ms].
        delay: Time between the last cue and recall [ms].
        recall: Length of the recall [ms].
        group: Number of neurons in each of the four groups.
        cue_rate: Rate of the neurons of a side during its cues [Hz].
        recall_rate: Rate of the recall neurons during recall [Hz].
        noise_rate: Rate of the noise neurons [Hz].
        minority: Probability of a cue on the less likely side.
        dt: Length of a step [ms].
        seed: Which endless series of trials.

    Raises:
        ValueError: If a number is too small, a length is no whole number of steps, a rate exceeds one spike in a
            step, or the number of cues is even.

    Example:
        >>> task = EvidenceAccumulation()
        >>> task.take(jnp.arange(3)).inputs.shape, task.target_steps
        ((2250, 3, 40), 150)

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, doi:10.1038/s41467-020-17236-y, figure 3, and its code's
        `tutorial_evidence_accumulation_with_alif.py`, with these defaults; after Engelhard et al. (2019), Nature
        570:509-513. The delay of the article varies; here, as in its code, it does not.
    """

    cues: int = eqx.field(static=True, default=7)
    cue: float = eqx.field(static=True, default=100.0)
    silence: float = eqx.field(static=True, default=50.0)
    delay: float = eqx.field(static=True, default=1050.0)
    recall: float = eqx.field(static=True, default=150.0)
    group: int = eqx.field(static=True, default=10)
    cue_rate: float = eqx.field(static=True, default=40.0)
    recall_rate: float = eqx.field(static=True, default=40.0)
    noise_rate: float = eqx.field(static=True, default=10.0)
    minority: float = eqx.field(static=True, default=0.3)
    dt: float = eqx.field(static=True, default=1.0)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        for name, least in {"cues": 1, "group": 1, "seed": 0}.items():
            check_integer("EvidenceAccumulation", name, getattr(self, name), least)
        if self.cues % 2 == 0:
            raise ValueError(
                f"`EvidenceAccumulation(cues=...)` must be odd, so that no trial is a draw, got {self.cues}."
            )
        if not 0 <= self.minority <= 0.5:
            raise ValueError(f"`EvidenceAccumulation(minority=...)` must lie between 0 and 0.5, got {self.minority}.")
        if not self.dt > 0:
            raise ValueError(f"`EvidenceAccumulation(dt=...)` must be positive, got {self.dt}.")
        check_durations(self, {"cue": 1, "silence": 0, "delay": 0, "recall": 1})
        check_rates(self, ("cue_rate", "recall_rate", "noise_rate"))

    @property
    def inputs(self) -> int:
        return 4 * self.group

    @property
    def outputs(self) -> int:
        return 2

    @property
    def steps(self) -> int:
        before = self.cues * (self._steps("silence") + self._steps("cue"))
        return before + self._steps("delay") + self._steps("recall")

    @property
    def target_steps(self) -> int:
        return self._steps("recall")

    @property
    def loss(self) -> str:
        return "cross_entropy"

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        dtype = jnp.result_type(float)
        is_right, spikes = jax.vmap(self._draw, out_axes=(0, 1))(self.keys(index, split))
        label = (2 * jnp.sum(is_right, axis=1, dtype=jnp.int32) > self.cues).astype(jnp.int32)
        return Trials(
            inputs=spikes.astype(dtype),
            targets=jnp.broadcast_to(label[None], (self.target_steps, len(index))),
            mask=jnp.ones((self.target_steps, len(index)), dtype),
        )

    def _draw(self, key):
        cue_key, spike_key = jr.split(key)
        chance = jr.uniform(cue_key, (self.cues + 1,), jnp.float32)
        is_right_likely = chance[0] < 0.5
        is_right = (chance[1:] < self.minority) != is_right_likely
        return is_right, poisson(spike_key, self._rates(is_right), dt=self.dt)

    def _rates(self, is_right) -> Float[Array, "time input"]:
        """Rates of all neurons [Hz]."""
        time = np.arange(self.steps)
        number, within = np.divmod(time, self._steps("silence") + self._steps("cue"))
        is_cue = jnp.asarray((number < self.cues) & (within >= self._steps("silence")))
        right_now = is_right[np.minimum(number, self.cues - 1)]
        is_recall = jnp.asarray(time >= self.steps - self._steps("recall"))
        groups = [
            self.cue_rate * (is_cue & ~right_now).astype(jnp.float32),
            self.cue_rate * (is_cue & right_now).astype(jnp.float32),
            self.recall_rate * is_recall.astype(jnp.float32),
            jnp.full(self.steps, self.noise_rate, jnp.float32),
        ]
        return jnp.repeat(jnp.stack(groups, axis=1), self.group, axis=1)

    def _steps(self, name: str) -> int:
        return round(getattr(self, name) / self.dt)


def decision_error(
    outputs: Float[Array, "steps batch class"], trials: Trials, *, window: int | None = None
) -> Float[Array, ""]:
    """Share of trials in which the answer, averaged over the window that counts, is wrong.

    The decision of a trial is the class with the largest mean output over the steps under the mask (weighted by it),
    so that one noisy step decides nothing. It suits tasks with one class for a whole trial.

    Args:
        outputs: Scores of the classes, shape `steps batch class`, for the steps that the targets cover.
        trials: Their `targets` are class numbers, shape `steps batch`. What counts as the class of a trial is that of
            the last step under the mask.
        window: Where several decisions are asked for in a trial, the length of a window; each is taken for itself
            [steps]. The recalls of `StoreRecall` are a symbol long.

    Returns:
        The share, 0 to 1 [1], of those trials (windows) that have a target; in the dtype of `outputs`. 0 if none has.

    Raises:
        ValueError: If the targets are no class numbers, the shapes do not fit together, or the steps are not a whole
            number of windows.

    Example:
        >>> trials = Trials(jnp.zeros((5, 1, 2)), targets=jnp.array([[1], [1]]), mask=jnp.ones((2, 1)))
        >>> float(decision_error(jnp.array([[[0.0, 0.9]], [[0.5, 0.0]]]), trials))  # the mean is 0.25, 0.45
        0.0

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, and its code: the criterion of evidence accumulation.
    """
    if not jnp.issubdtype(trials.targets.dtype, jnp.integer):
        raise ValueError(f"`decision_error` needs class numbers, got targets of dtype {trials.targets.dtype}.")
    if outputs.shape[:2] != trials.targets.shape:
        raise ValueError(
            f"`decision_error` got outputs for steps and trials {outputs.shape[:2]} but targets of shape "
            f"{trials.targets.shape}. Run the network with `readout_steps=task.target_steps`."
        )
    targets, mask = trials.targets, trials.mask
    if window is not None:
        if window < 1 or outputs.shape[0] % window:
            raise ValueError(f"`decision_error(window={window})` must divide the {outputs.shape[0]} steps.")
        outputs, targets, mask = (_by_window(x, window) for x in (outputs, targets, mask))
    weight = mask.astype(outputs.dtype)
    # What the network says outside the window, even NaN, is nobody's business.
    score = jnp.sum(jnp.where(weight[:, :, None] > 0, weight[:, :, None] * outputs, 0), axis=0)
    steps = jnp.arange(weight.shape[0], dtype=jnp.int32)[:, None]
    last = jnp.max(jnp.where(weight > 0, steps, 0), axis=0)
    wanted = jnp.take_along_axis(targets, last[None], axis=0)[0]
    has_target = jnp.any(weight > 0, axis=0).astype(outputs.dtype)
    is_wrong = (jnp.argmax(score, axis=-1).astype(wanted.dtype) != wanted).astype(outputs.dtype)
    return jnp.sum(has_target * is_wrong) / jnp.maximum(jnp.sum(has_target), 1)


def _by_window(values: Array, window: int) -> Array:
    """Windows side by side, as trials."""
    return jnp.moveaxis(values.reshape(-1, window, *values.shape[1:]), 1, 0).reshape(window, -1, *values.shape[2:])
