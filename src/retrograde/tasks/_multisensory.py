"""Say whether events come fast or slowly, seen, heard, or both."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from retrograde.tasks._abstract import Trials, check_integer
from retrograde.tasks._endless import AbstractEndlessTask


class Multisensory(AbstractEndlessTask):
    r"""Events come in one modality or in all at once, and whether their rate is high or low is to be said.

    Every modality has a channel that grows with the rate and one that falls with it; one more channel is the cue that
    starts the trial:

    | phase | length | channels of the modalities shown | cue | outputs wanted | counts |
    | --- | --- | --- | --- | --- | --- |
    | fixation | `fixation` | 0 | 0 | `low`, `low` | yes |
    | stimulus | `stimulus` | tuned to the rate, 0.4 to 1.2 | 1 | | no |
    | decision | `decision` | 0 | 1 | `high` for what is right, `low` for the other | yes |
    | rest | up to `duration` | 0 | 0 | | no |

    Output 0 says that the rate is above `boundary`, output 1 that it is not. To all channels a baseline and white noise
    are added, of standard deviation $\sigma\sqrt{2/\alpha}$ with $\alpha$ = `dt`/`tau`, so that what a leaky neuron
    sees of it does not depend on the time step.

    Trials come in rounds: each `condition` once, in order, and then `catch` trials without stimulus and cue, in all of
    which both outputs are to stay low. `sample` gives trials in succession from the beginning of a round, so a batch of
    `round` trials has every condition once.

    Attributes:
        rates: Rates of the events [event/s].
        boundary: Rates above are high [event/s].
        modalities: Names of the modalities. Each is shown alone, and all together.
        dt: Time step [ms].
        tau: Time constant of the neurons that the noise is meant for [ms].
        fixation: Time before the stimulus [ms].
        stimulus: Length of the stimulus [ms].
        decision: Time after it in which the answer counts [ms].
        duration: Length of a trial [ms].
        catch: Number of catch trials in a round.
        noise: $\sigma$, size of the noise of an input channel [unit of the input].
        baseline: What every channel shows at least [unit of the input].
        low: Output of what is not chosen [1].
        high: Output of what is [1].
        seed: Which endless series of trials.

    Raises:
        ValueError: If phases do not fit into the trial or are no whole number of steps, a number is too small, or
            the boundary leaves no rate on one of its sides.

    Example:
        >>> task = Multisensory()
        >>> task.sample(jr.key(0), task.round).inputs.shape
        (125, 30, 5)
        >>> task.conditions[0], task.conditions[-1]
        ((('visual',), 9.0), (('visual', 'auditory'), 16.0))

    Source:
        Song, Yang and Wang (2016), PLoS Comput. Biol. 12(2):e1004792, after Raposo et al. (2014); constants of Zou, Li
        and Huang (2023), Phys. Rev. E 107, 024307, who test with `dt=0.5, fixation=500, duration=1800, catch=0`.
        Differs from them: any number of modalities.
    """

    rates: tuple[float, ...] = eqx.field(static=True, default=(9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0))
    boundary: float = eqx.field(static=True, default=12.5)
    modalities: tuple[str, ...] = eqx.field(static=True, default=("visual", "auditory"))
    dt: float = eqx.field(static=True, default=20.0)
    tau: float = eqx.field(static=True, default=100.0)
    fixation: float = eqx.field(static=True, default=100.0)
    stimulus: float = eqx.field(static=True, default=1000.0)
    decision: float = eqx.field(static=True, default=300.0)
    duration: float = eqx.field(static=True, default=2500.0)
    catch: int = eqx.field(static=True, default=6)
    noise: float = eqx.field(static=True, default=0.01)
    baseline: float = eqx.field(static=True, default=0.2)
    low: float = eqx.field(static=True, default=0.2)
    high: float = eqx.field(static=True, default=1.0)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        for name in ("catch", "seed"):
            check_integer("Multisensory", name, getattr(self, name), 0)
        for name in ("dt", "tau", "stimulus", "decision"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`Multisensory({name}=...)` must be positive, got {getattr(self, name)}.")
        for name in ("fixation", "noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`Multisensory({name}=...)` must not be negative, got {getattr(self, name)}.")
        for name in ("fixation", "stimulus", "decision", "duration"):
            steps = getattr(self, name) / self.dt
            if abs(steps - round(steps)) > 1e-6:
                raise ValueError(
                    f"`Multisensory({name}={getattr(self, name):g})` must be a whole number of steps of dt={self.dt:g} "
                    f"ms, got {steps:g} steps."
                )
        if self.fixation + self.stimulus + self.decision > self.duration + 1e-6 * self.dt:
            raise ValueError(
                f"`Multisensory(duration={self.duration:g})` is shorter than fixation, stimulus and decision, "
                f"{self.fixation + self.stimulus + self.decision:g} ms."
            )
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"`Multisensory(modalities=...)` must be different names, got {self.modalities!r}.")
        if len({rate > self.boundary for rate in self.rates}) < 2:
            raise ValueError(
                f"`Multisensory(boundary={self.boundary:g})` must leave rates on both sides, got {self.rates!r}."
            )

    @property
    def conditions(self) -> tuple[tuple[tuple[str, ...], float], ...]:
        """Modalities shown and rate, of every condition of a round, in order."""
        shown: list[tuple[str, ...]] = [(name,) for name in self.modalities]
        if len(self.modalities) > 1:
            shown.append(self.modalities)
        return tuple((names, rate) for names in shown for rate in self.rates)

    @property
    def round(self) -> int:
        """Number of trials in a round: conditions, and catch trials."""
        return len(self.conditions) + self.catch

    @property
    def inputs(self) -> int:
        return 2 * len(self.modalities) + 1

    @property
    def outputs(self) -> int:
        return 2

    @property
    def steps(self) -> int:
        return self._steps(self.duration)

    @property
    def target_steps(self) -> int:
        return self.steps

    @property
    def loss(self) -> str:
        return "half_squared_error"

    def sample(self, key: Key[Array, ""], batch: int, split: str = "train") -> Trials:
        """Gives trials in succession, from the beginning of a round that is drawn at random.

        Args:
            key: Key of the draw.
            batch: Number of trials; `round`, or a multiple of it, for all conditions alike.
            split: One of `splits`.

        Returns:
            The trials.

        Raises:
            ValueError: If there is no such split.
        """
        rounds = (jnp.iinfo(jnp.int32).max - batch) // self.round
        first = self.round * jr.randint(key, (), 0, rounds, dtype=jnp.int32)
        return self.take(first + jnp.arange(batch, dtype=jnp.int32), split)

    def take(self, index: Int[Array, " batch"], split: str = "train") -> Trials:
        dtype = jnp.result_type(float)
        keys = self.keys(index, split)
        shape = (self.steps, self.inputs)
        # Drawn in float32: the same trials whatever the default type is.
        noise = jax.vmap(lambda key: jr.normal(key, shape, jnp.float32), out_axes=1)(keys).astype(dtype)

        number = index % self.round
        time = jnp.arange(self.steps)[:, None]
        begin = self._steps(self.fixation)
        end = begin + self._steps(self.stimulus)
        last = end + self._steps(self.decision)
        is_catch = (number >= len(self.conditions))[None]
        is_shown = (time >= begin) & (time < end) & ~is_catch
        is_cued = (time >= begin) & (time < last) & ~is_catch
        is_decision = is_cued & (time >= end)

        strength, is_high = (jnp.asarray(table)[number] for table in self._tables(np.dtype(dtype)))
        tuned = is_shown[:, :, None].astype(dtype) * strength[None]
        signal = jnp.concatenate([tuned, is_cued[:, :, None].astype(dtype)], axis=-1)
        right = jnp.stack([is_high, ~is_high], axis=-1)[None]
        return Trials(
            inputs=signal + self.baseline + self.noise * math.sqrt(2 * self.tau / self.dt) * noise,
            targets=jnp.where(is_decision[:, :, None] & right, self.high, self.low).astype(dtype),
            mask=((time < begin) | is_decision | is_catch).astype(dtype),
        )

    def _steps(self, length: float) -> int:
        return round(length / self.dt)

    def _tables(self, dtype: np.dtype) -> tuple[Float[np.ndarray, "trial channel"], np.ndarray]:
        """What each trial of a round shows in the modalities' channels, and whether its rate is high."""
        slowest, fastest = min(self.rates), max(self.rates)
        strength = np.zeros((self.round, self.inputs - 1), dtype)
        is_high = np.zeros(self.round, bool)
        for trial, (shown, rate) in enumerate(self.conditions):
            share = (rate - slowest) / (fastest - slowest)
            present = np.array([name in shown for name in self.modalities])
            strength[trial] = np.concatenate([present * (0.4 + 0.8 * share), present * (0.4 + 0.8 * (1 - share))])
            is_high[trial] = rate > self.boundary
        return strength, is_high
