"""Remember a cue, wait, and choose: the reward comes at the end."""

# mypy: disable-error-code="misc, override"
# (It does not know that a property may stand in for an `eqx.AbstractVar`.)

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key

from retrograde.encoders import poisson
from retrograde.reinforcement._environment import AbstractEnvironment, Percept


class CuedChoiceState(eqx.Module):
    """Where an episode stands.

    Attributes:
        side: The cue: 0 left, 1 right.
        step: Steps made [1].
    """

    side: Int[Array, ""]
    step: Int[Array, ""]


class CuedChoice(AbstractEnvironment):
    """A cue on the left or on the right, a delay, and a signal at which to choose that side.

    Inputs are spikes of four groups of neurons: left cue, right cue, signal, and noise that never stops. The one action
    that matters is that of the last step; its reward is 1 for the side of the cue and -1 for the other, and all other
    rewards are 0. To choose at random is worth 0, to choose right always 1.

    Attributes:
        cue: Length of the cue [ms].
        delay: Time between cue and signal [ms].
        signal: Length of the signal, at the end of which the choice is made [ms].
        group: Number of neurons in each of the four groups.
        rate: Rate of the neurons of cue and signal while there is one [Hz].
        noise_rate: Rate of the noise neurons [Hz].
        dt: Length of a step [ms].

    Raises:
        ValueError: If a length is shorter than a step, or a rate exceeds one spike in a step.

    Source:
        The delayed-reward version of evidence accumulation in Bellec et al. (2020), Nat. Commun. 11:3625, in small:
        one cue, timings of our own.
    """

    cue: float = eqx.field(static=True, default=40.0)
    delay: float = eqx.field(static=True, default=60.0)
    signal: float = eqx.field(static=True, default=30.0)
    group: int = eqx.field(static=True, default=10)
    rate: float = eqx.field(static=True, default=100.0)
    noise_rate: float = eqx.field(static=True, default=10.0)
    dt: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        for name, least in (("cue", self.dt), ("delay", 0.0), ("signal", self.dt)):
            if not getattr(self, name) >= least:
                raise ValueError(f"`CuedChoice({name}=...)` must be at least {least:g} ms, got {getattr(self, name)}.")
        for name in ("rate", "noise_rate"):
            if not 0 <= getattr(self, name) * self.dt <= 1000:
                raise ValueError(
                    f"`CuedChoice({name}=...)` must lie between 0 and {1000 / self.dt:g} Hz, one spike in a step, got "
                    f"{getattr(self, name)}."
                )
        if self.group < 1:
            raise ValueError(f"`CuedChoice(group=...)` must be at least 1, got {self.group}.")

    @property
    def inputs(self) -> int:
        return 4 * self.group

    @property
    def actions(self) -> int:
        return 2

    @property
    def steps(self) -> int:
        """Length of an episode [steps]."""
        return round((self.cue + self.delay + self.signal) / self.dt)

    def reset(self, key: Key[Array, ""]) -> tuple[CuedChoiceState, Percept]:
        """Draws the side of the cue."""
        side_key, key = jr.split(key)
        state = CuedChoiceState(jr.bernoulli(side_key).astype(jnp.int32), jnp.zeros((), jnp.int32))
        return state, self._see(state, key)

    def step(
        self, state: CuedChoiceState, action: Array, key: Key[Array, ""]
    ) -> tuple[CuedChoiceState, Percept, Float[Array, ""], Bool[Array, ""]]:
        """Rewards the last action of an episode."""
        is_last = state.step == self.steps - 1
        right = jnp.where(action.astype(jnp.int32) == state.side, 1.0, -1.0)
        after = CuedChoiceState(state.side, state.step + 1)
        return after, self._see(after, key), jnp.where(is_last, right, 0.0), is_last

    def _see(self, state: CuedChoiceState, key: Key[Array, ""]) -> Percept:
        is_cue = state.step < round(self.cue / self.dt)
        is_signal = state.step >= round((self.cue + self.delay) / self.dt)
        rates = jnp.stack(
            [
                jnp.where(is_cue & (state.side == 0), self.rate, 0.0),
                jnp.where(is_cue & (state.side == 1), self.rate, 0.0),
                jnp.where(is_signal, self.rate, 0.0),
                jnp.asarray(self.noise_rate),
            ]
        )
        spikes = poisson(key, jnp.repeat(rates, self.group), dt=self.dt)
        return Percept(spikes.astype(jnp.result_type(float)), state.step == self.steps - 1)
