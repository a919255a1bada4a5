"""Do what another network does."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from retrograde.tasks._abstract import Trials, check_integer
from retrograde.tasks._endless import AbstractEndlessTask


class Mimic(AbstractEndlessTask):
    r"""The outputs of a fixed random network, the teacher, are to be told from its inputs, which are coins.

    $$z' = (1-\alpha)\,z + \alpha \tanh(W_\mathrm{in} x + W_\mathrm{rec} z + b), \qquad y = W_\mathrm{out} z' + c,$$

    with $z = 0$ before the first step. $W_\mathrm{in}$ is drawn from N(0, 1/`inputs`), $W_\mathrm{rec}$ is a random
    orthogonal matrix, $W_\mathrm{out}$ is from N(0, 1/`neurons`), the biases $b$ and $c$ from N(0, 0.1²). A network of
    `LeakyRate(neurons, "tanh", alpha, leak="activity")` with the weights of `teacher` makes no error.

    There are `latents` fair coins in a step, each shown on `inputs / latents` neighbouring channels: so many dimensions
    the input has. The loss sums over outputs; what the source prints is divided by their number. With the default
    numbers the best constant answer costs about 2.5.

    Attributes:
        inputs: Number of input channels.
        neurons: Number of the teacher's neurons.
        outputs: Number of outputs.
        alpha: Leak $\alpha$ of the teacher per step [1], in (0, 1].
        latents: Number of different coins in a step, a divisor of `inputs`.
        steps: Length of a trial [step].
        repeat: How long each coin is shown [step] (`tau_task` in the source).
        teacher_seed: Which teacher.
        seed: Which endless series of trials.
        teacher: Weights of the teacher, shape `post pre`: `"input"`, `"recurrent"`, `"output"`; and its biases, of
            shape `post 1`: `"bias"`, `"output_bias"`.

    Raises:
        ValueError: If a number is too small, `alpha` is not in (0, 1], or `latents` does not divide `inputs`.

    Example:
        >>> task = Mimic(inputs=4, neurons=8, outputs=2, steps=10)
        >>> trials = task.take(jnp.arange(3))
        >>> trials.inputs.shape, trials.targets.shape
        ((10, 3, 4), (10, 3, 2))

    Source:
        Marschall, Cho and Savin (2020), J. Mach. Learn. Res. 21(135):1-34, and its code's `Mimic_RNN`. Differs from it:
        trials of finite length, each from the teacher's initial state, instead of one endless stream.
    """

    inputs: int = eqx.field(static=True)
    neurons: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    alpha: float = eqx.field(static=True)
    latents: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    repeat: int = eqx.field(static=True)
    teacher_seed: int = eqx.field(static=True)
    seed: int = eqx.field(static=True)
    teacher: dict[str, Float[Array, "_post _pre"]]

    def __init__(
        self,
        inputs: int = 32,
        neurons: int = 32,
        outputs: int = 32,
        alpha: float = 1.0,
        latents: int | None = None,
        steps: int = 50,
        repeat: int = 1,
        teacher_seed: int = 0,
        seed: int = 0,
    ):
        latents = inputs if latents is None else latents
        least = {"inputs": 1, "neurons": 1, "outputs": 1, "latents": 1, "steps": 1, "repeat": 1, "teacher_seed": 0}
        numbers = (inputs, neurons, outputs, latents, steps, repeat, teacher_seed)
        for (name, value), number in zip(least.items(), numbers, strict=True):
            check_integer("Mimic", name, number, value)
        check_integer("Mimic", "seed", seed, 0)
        if not 0 < alpha <= 1:
            raise ValueError(f"`Mimic(alpha=...)` is dt/tau and must lie in (0, 1], got {alpha}.")
        if inputs % latents:
            raise ValueError(
                f"`Mimic(latents=...)` must divide the number of inputs, {inputs}, so that each coin has as many "
                f"channels; got {latents}."
            )
        self.inputs = inputs
        self.neurons = neurons
        self.outputs = outputs
        self.alpha = alpha
        self.latents = latents
        self.steps = steps
        self.repeat = repeat
        self.teacher_seed = teacher_seed
        self.seed = seed
        self.teacher = _teacher(inputs, neurons, outputs, teacher_seed)

    @property
    def target_steps(self) -> int:
        return self.steps

    @property
    def loss(self) -> str:
        return "half_squared_error"

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        dtype = jnp.result_type(float)
        count = -(-self.steps // self.repeat)

        def draw(key):
            # Whole numbers: the same trials in float32 and float64.
            return jr.bits(key, (count, self.latents), jnp.uint32) & 1

        coins = jax.vmap(draw, out_axes=1)(self.keys(index, split)).astype(dtype)
        coins = jnp.repeat(coins, self.repeat, axis=0)[: self.steps]
        x = jnp.repeat(coins, self.inputs // self.latents, axis=2)
        return Trials(x, self._answer(x), jnp.ones(x.shape[:2], dtype))

    def _answer(self, x: Float[Array, "time batch input"]) -> Float[Array, "time batch output"]:
        """Runs the teacher."""
        weights = {name: value.astype(x.dtype).T for name, value in self.teacher.items()}

        def step(z, drive):
            z = (1 - self.alpha) * z + self.alpha * jnp.tanh(drive + z @ weights["recurrent"])
            return z, z

        start = jnp.zeros((x.shape[1], self.neurons), x.dtype)
        _, z = jax.lax.scan(step, start, x @ weights["input"] + weights["bias"][None])
        return z @ weights["output"] + weights["output_bias"][None]


def _teacher(inputs: int, neurons: int, outputs: int, seed: int) -> dict[str, Array]:
    # NumPy freezes this generator's stream for good, whatever the floating type; JAX's depends on both.
    random = np.random.RandomState(seed)
    weights = {
        "input": random.standard_normal((neurons, inputs)) / inputs**0.5,
        "recurrent": random.standard_normal((neurons, neurons)),
        "output": random.standard_normal((outputs, neurons)) / neurons**0.5,
        "bias": 0.1 * random.standard_normal((neurons, 1)),
        "output_bias": 0.1 * random.standard_normal((outputs, 1)),
    }
    Q, R = np.linalg.qr(weights["recurrent"])
    weights["recurrent"] = Q * np.sign(np.diagonal(R))  # without it the draw is not uniform over rotations
    return {name: jnp.asarray(value) for name, value in weights.items()}
