r"""Learning curves of weight and node perturbation, for a linear readout.

A readout $y_{it} = \sum_j w_{ij} r_{jt}$ of orthogonal inputs is to give $\sum_j w^*_{ij} r_{jt} + d_{it}$, where
$d$ is orthogonal to all inputs. After `n` trials with plain steps $w \leftarrow w - \eta g$ the error
$E = \frac1{2T} \sum_{it} (y_{it} - y^*_{it})^2$ is on average

$$\langle E(n) \rangle = (E(0) - E_\mathrm{f})\, a^n + E_\mathrm{f}, \qquad
  E_\mathrm{f} = E_\mathrm{opt} + \frac{b}{1-a}.$$

Züge, Klos & Memmesheimer (2023), Phys. Rev. X 13, 021006. Their programs have $a$ for all cases, and $b$ where every
trial shows the same inputs; $b$ for many subtasks was derived here, by the same steps, and agrees with simulation.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

PerturbationRule = Literal[
    "weight_perturbation", "active_weight_perturbation", "node_perturbation", "hybrid_perturbation"
]


@dataclasses.dataclass(frozen=True)
class LinearTask:
    r"""A linear readout of orthogonal inputs, of which each trial shows some.

    Attributes:
        outputs: $M$, number of outputs [1].
        steps: $T$, number of time steps of a trial [1].
        task_inputs: $N_\mathrm{task}$, number of inputs that trials choose from [1].
        trial_inputs: $N_\mathrm{trial}$, number of inputs in each trial; all if `None` [1].
        power: $\alpha^2$, mean square of an input over the steps of a trial that shows it [unit of the input²].
        unrealisable: $E_\mathrm{opt}$, error that no weights can remove [unit of the error].

    Raises:
        ValueError: If a trial shows more inputs than there are, or a number is not positive.

    Example:
        >>> task = LinearTask(outputs=10, steps=100, task_inputs=50, power=2.0)
        >>> [round(final_error(task, f"{kind}_perturbation", sigma=0.04), 3) for kind in ("weight", "node")]
        [1.008, 2.004]
    """

    outputs: int
    steps: int
    task_inputs: int
    trial_inputs: int | None = None
    power: float = 1.0
    unrealisable: float = 0.0

    def __post_init__(self):
        for name in ("outputs", "steps", "task_inputs", "trial_inputs", "power"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`LinearTask({name}=...)` must be positive, got {value}.")
        if not self.shown <= self.task_inputs <= self.steps:
            raise ValueError(
                f"`LinearTask` needs trial_inputs ≤ task_inputs ≤ steps, got {self.shown}, {self.task_inputs} and "
                f"{self.steps}: no more inputs than steps can be orthogonal."
            )
        if not self.unrealisable >= 0:
            raise ValueError(f"`LinearTask(unrealisable=...)` cannot be negative, got {self.unrealisable}.")

    @property
    def shown(self) -> int:
        """Number of inputs in a trial."""
        return self.task_inputs if self.trial_inputs is None else self.trial_inputs

    @property
    def share(self) -> float:
        """Share of the inputs that a trial shows [1]."""
        return self.shown / self.task_inputs


def _moved(task: LinearTask, rule: PerturbationRule) -> int:
    """Number of weights that a trial moves and that some trial uses."""
    return task.outputs * (task.task_inputs if rule == "weight_perturbation" else task.shown)


def _step(task: LinearTask, rule: PerturbationRule, rate: float | None) -> float:
    """Learning rate of a rule whose mean is the gradient."""
    rate = optimal_rate(task, rule) if rate is None else rate
    return rate * task.power * task.steps if rule == "hybrid_perturbation" else rate


def optimal_rate(task: LinearTask, rule: PerturbationRule) -> float:
    r"""The learning rate of fastest decay, $\eta^* = 1/((D+2)\,\alpha^2)$.

    $D$ counts the weights that matter and that a trial moves: $M N_\mathrm{task}$ for weight perturbation,
    $M N_\mathrm{trial}$ for the others. For hybrid perturbation, whose mean is $T\alpha^2$ times the gradient, it is
    that much less. Twice the rate no longer converges.

    Args:
        task: The task.
        rule: The rule; `"active_weight_perturbation"` leaves weights of silent inputs alone. For that and the hybrid,
            inputs that a trial does not show are silent.

    Returns:
        The rate, for plain steps against the rule's estimate.
    """
    rate = 1 / ((_moved(task, rule) + 2) * task.power)
    return rate / (task.power * task.steps) if rule == "hybrid_perturbation" else rate


def decay_factor(task: LinearTask, rule: PerturbationRule, *, rate: float | None = None) -> float:
    r"""What a trial leaves of the error, $a = 1 - p\,(2\eta\alpha^2 - \eta^2\alpha^4 (D+2))$.

    $p = N_\mathrm{trial}/N_\mathrm{task}$, $D$ as in `optimal_rate`. Gradient descent has $(1-\eta\alpha^2)^2$ for
    $p = 1$, and needs one step at its best rate where perturbation needs about $D$.

    Args:
        task: The task.
        rule: The rule.
        rate: Learning rate $\eta$; the optimal one if `None`.

    Returns:
        The factor [1].
    """
    x = _step(task, rule, rate) * task.power
    return 1 - task.share * (2 * x - x**2 * (_moved(task, rule) + 2))


def added_error(task: LinearTask, rule: PerturbationRule, *, rate: float | None = None, sigma: float = 0.0) -> float:
    r"""The error $b$ that each trial adds.

    $$b_\mathrm{WP} = \tfrac p8\, \sigma^2 \eta^2\alpha^4\, M\,(D_\mathrm{trial}+2)(D+4), \qquad
      b_\mathrm{NP} = p\,\eta^2\alpha^4 \Big[\tfrac18 \sigma^2 \tfrac{D_\mathrm{trial}}{T} (MT+2)(MT+4)
        + D_\mathrm{trial} E_\mathrm{opt}\Big],$$

    with $D_\mathrm{trial} = M N_\mathrm{trial}$ and $D$ as in `optimal_rate`. Node perturbation's noise has as many
    dimensions as there are outputs and steps, and what cannot be learned adds to it.

    Args:
        task: The task.
        rule: The rule.
        rate: Learning rate $\eta$; the optimal one if `None`.
        sigma: Standard deviation of the perturbation of an output in a step [unit of the output]. Weight perturbation
            by $\sigma_w$ has $\sigma = \sigma_w \sqrt{\alpha^2 N_\mathrm{trial}}$.

    Returns:
        The error per trial [unit of the error].
    """
    gain = task.share * (_step(task, rule, rate) * task.power) ** 2
    shown, nodes = task.outputs * task.shown, task.outputs * task.steps
    if rule == "node_perturbation":
        noise = sigma**2 / 8 * shown / task.steps * (nodes + 2) * (nodes + 4)
        return gain * (noise + shown * task.unrealisable)
    return gain * sigma**2 / 8 * task.outputs * (shown + 2) * (_moved(task, rule) + 4)


def final_error(task: LinearTask, rule: PerturbationRule, *, rate: float | None = None, sigma: float = 0.0) -> float:
    r"""The error in the end, $E_\mathrm{f} = E_\mathrm{opt} + b/(1-a)$.

    Args:
        task: The task.
        rule: The rule.
        rate: Learning rate; the optimal one if `None`.
        sigma: As for `added_error`.

    Returns:
        The error, infinite if the rate is too high [unit of the error].
    """
    lost = 1 - decay_factor(task, rule, rate=rate)
    if lost <= 0:
        return float("inf")
    return task.unrealisable + added_error(task, rule, rate=rate, sigma=sigma) / lost


def learning_curve(
    task: LinearTask,
    rule: PerturbationRule,
    trials: Int[np.ndarray, " point"],
    *,
    start: float,
    rate: float | None = None,
    sigma: float = 0.0,
) -> Float[np.ndarray, " point"]:
    r"""The mean error after some numbers of trials, $(E(0) - E_\mathrm{f})\,a^n + E_\mathrm{f}$.

    Args:
        task: The task.
        rule: The rule.
        trials: Numbers of trials $n$ [1].
        start: Error before learning, $E(0)$ [unit of the error].
        rate: Learning rate; the optimal one if `None`.
        sigma: As for `added_error`.

    Returns:
        The errors [unit of the error].
    """
    final = final_error(task, rule, rate=rate, sigma=sigma)
    return (start - final) * decay_factor(task, rule, rate=rate) ** trials + final


def irrelevant_variance(
    task: LinearTask,
    trials: Int[np.ndarray, " point"],
    *,
    start: float,
    rate: float | None = None,
    sigma: float = 0.0,
) -> Float[np.ndarray, " point"]:
    r"""How far weight perturbation has moved a weight that transmits nothing: its variance after some trials.

    It walks at random, in each trial by

    $$v(n) = \eta^2 \big[2\alpha^2 (E(n) - E_\mathrm{opt}) + \tfrac14 \alpha^4\sigma_w^2\,
      D_\mathrm{trial}(D_\mathrm{trial}+2)\big], \qquad \sigma_w^2 = \sigma^2/(\alpha^2 N_\mathrm{trial}).$$

    Node perturbation, hybrid perturbation and weight perturbation of active inputs only never move it.

    Args:
        task: The task.
        trials: Numbers of trials $n$ [1].
        start: Error before learning, $E(0)$ [unit of the error].
        rate: Learning rate; the optimal one if `None`.
        sigma: As for `added_error`.

    Returns:
        The variances, $\sum_{k<n} v(k)$ [unit of the weights²].
    """
    rule: PerturbationRule = "weight_perturbation"
    rate = optimal_rate(task, rule) if rate is None else rate
    shown = task.outputs * task.shown
    decay, final = decay_factor(task, rule, rate=rate), final_error(task, rule, rate=rate, sigma=sigma)
    excess = (start - final) * (1 - decay**trials) / (1 - decay) + (final - task.unrealisable) * trials
    finite = 0.25 * task.power * sigma**2 / task.shown * shown * (shown + 2)
    return rate**2 * (2 * task.power * excess + finite * trials)
