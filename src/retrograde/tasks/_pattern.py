"""Draw a curve, driven by noise that is always the same."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from retrograde.tasks._abstract import AbstractTask, Trials, check_integer, check_split, check_trials_exist


class PatternGeneration(AbstractTask):
    r"""A sum of sine waves is to be produced, driven by spikes that are random but the same in every trial.

    $$y_k(t) \propto \sum_i A_{ki} \sin\!\Big(2\pi n_i \frac{t}{T - 1} + \phi_{ki}\Big) - \text{its value at } t = 0,
      \qquad t = 0 \ldots T-1,$$

    with $n_i = \lfloor T / P_i \rfloor$ whole cycles of each wave, amplitudes $A_{ki}$ from U(½, 2) and phases
    $\phi_{ki}$ from U(0, 2π). Each curve starts at 0 and is scaled so that $\max|y_k| = 1$. Every input neuron fires
    independently in every step with the probability `rate · dt / 1000`. Both are drawn once, from `seed`.

    The task is one trial, in `"train"` and in `"test"` the same: there is nothing to hold out. Train with `batch=1`.
    The loss is `half_squared_error`, a mean over steps: the source's loss, ½ the *sum* of the squared errors, is
    `steps` times it, and so are its gradients.

    Attributes:
        inputs: Number of input neurons.
        outputs: Number of curves.
        steps: $T$, length of the trial [step].
        rate: Rate of every input neuron [Hz].
        periods: $P_i$, about how long a cycle of each wave lasts [step]. At most `steps`.
        dt: Length of a step [ms].
        seed: Which curve and which input.
        spikes: The input, 0 or 1, shape `time input`.
        curve: The target, shape `time output`.

    Raises:
        ValueError: If a number is too small, the rate is not between 0 and `1000 / dt`, there is no wave, or a period
            is shorter than 3 steps or longer than the trial.

    Example:
        >>> task = PatternGeneration()
        >>> trial = task.take(jnp.array([0]))
        >>> trial.inputs.shape, float(trial.targets[0, 0, 0]), float(abs(trial.targets).max())
        ((1000, 1, 100), 0.0, 1.0)

    Source:
        Bellec et al. (2020), Nat. Commun. 11:3625, doi:10.1038/s41467-020-17236-y, supplement, and its code's
        `tutorial_pattern_generation.py`, with these defaults. Differs from it: several outputs are ours.
    """

    inputs: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    rate: float = eqx.field(static=True)
    periods: tuple[int, ...] = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    seed: int = eqx.field(static=True)
    spikes: UInt8[Array, "time input"]
    curve: Float[Array, "time output"]

    def __init__(
        self,
        inputs: int = 100,
        outputs: int = 1,
        steps: int = 1000,
        rate: float = 50.0,
        periods: tuple[int, ...] = (1000, 500, 333, 200),
        dt: float = 1.0,
        seed: int = 0,
    ):
        for name, value, least in (("inputs", inputs, 1), ("outputs", outputs, 1), ("steps", steps, 3)):
            check_integer("PatternGeneration", name, value, least)
        check_integer("PatternGeneration", "seed", seed, 0)
        if not dt > 0:
            raise ValueError(f"`PatternGeneration(dt=...)` must be positive, got {dt}.")
        if not 0 <= rate * dt <= 1000:
            raise ValueError(
                f"`PatternGeneration(rate=...)` must lie between 0 and {1000 / dt:g} Hz, one spike in a step of {dt:g} "
                f"ms, got {rate}."
            )
        if not periods:
            raise ValueError("`PatternGeneration(periods=...)` is empty: name the period of at least one wave.")
        for period in periods:
            check_integer("PatternGeneration", "periods", period, 3)
            if period > steps:
                raise ValueError(
                    f"`PatternGeneration(periods=...)` has a period of {period} steps, longer than the trial, "
                    f"`steps={steps}`: not one cycle would fit."
                )
        self.inputs = inputs
        self.outputs = outputs
        self.steps = steps
        self.rate = rate
        self.periods = tuple(periods)
        self.dt = dt
        self.seed = seed
        # NumPy freezes this generator's stream for good, whatever the floating type; JAX's depends on both.
        random = np.random.RandomState(seed)
        self.spikes = jnp.asarray(random.uniform(size=(steps, inputs)) < rate * dt / 1000, jnp.uint8)
        cycles = np.array([steps // period for period in self.periods])
        self.curve = jnp.asarray(_curve(random, steps, outputs, cycles), jnp.result_type(float))

    @property
    def target_steps(self) -> int:
        return self.steps

    @property
    def loss(self) -> str:
        return "half_squared_error"

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test")

    def size(self, split: str = "train") -> int:
        check_split(self, split)
        return 1

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        check_trials_exist(self, index, split)
        batch, dtype = len(index), jnp.result_type(float)
        return Trials(
            inputs=jnp.broadcast_to(self.spikes.astype(dtype)[:, None], (self.steps, batch, self.inputs)),
            targets=jnp.broadcast_to(self.curve.astype(dtype)[:, None], (self.steps, batch, self.outputs)),
            mask=jnp.ones((self.steps, batch), dtype),
        )


def _curve(random: np.random.RandomState, steps: int, outputs: int, cycles: np.ndarray) -> np.ndarray:
    amplitude = random.uniform(0.5, 2.0, (outputs, len(cycles)))
    phase = random.uniform(0.0, 2 * np.pi, (outputs, len(cycles)))
    turn = 2 * np.pi * np.linspace(0.0, 1.0, steps)[:, None, None] * cycles
    curve = np.sum(amplitude * np.sin(turn + phase), axis=-1)
    curve -= curve[0]
    return curve / np.abs(curve).max(axis=0)
