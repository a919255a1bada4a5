"""Back-propagation through time, whole and truncated."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..network import Network
from ..stepping import Now, draw_noise, from_state, step
from ..synapses import Moments
from ..unroll import State, Trajectory, unroll
from ._abstract import AbstractRule


class BPTT(AbstractRule):
    r"""Back-propagation through time: the exact transposition.

    All recurrent projections carry credit,

    $$c_t = \frac{\partial L}{\partial I_t} = \Big(\frac{\partial s_t}{\partial I_t}\Big)^{\!\top} d_t, \qquad
      d_t = q_t + \Big(\frac{\partial s_{t+1}}{\partial s_t}\Big)^{\!\top} d_{t+1}
          + \Big(\frac{\partial z_t}{\partial s_t}\Big)^{\!\top} W^\top c_{t+1}.$$

    On spike-and-slab weights this is generalised back-propagation through time (gBPTT).

    Attributes:
        checkpoint: Whether to store the state at the borders of segments only and run each segment again on the way
            back: memory ∝ √T instead of T, for about a third more time [1].
        segment: Steps of a segment; chosen from the sizes if `None`.

    Raises:
        ValueError: If `segment` is not a positive whole number.

    Source:
        Werbos (1990), Proc. IEEE 78:1550. Chen et al. (2016), arXiv:1604.06174 (checkpoints).
    """

    checkpoint: bool = False
    segment: int | None = None

    def __check_init__(self):
        check_steps("BPTT", "segment", self.segment)

    def unroll(self, network: Network, *args: Any, **options: Any) -> Trajectory:
        """Runs the network; credit flows back through everything."""
        segment = self.segment
        if self.checkpoint and segment is None:
            segment = max(1, round(args[2].shape[0] ** 0.5))
        return unroll(network, *args, credit="open", segment=segment, checkpoint=self.checkpoint, **options)


class TruncatedBPTT(AbstractRule):
    """Back-propagation through time that reaches back a bounded number of steps.

    Without `sliding`, time is cut into windows and credit stops at their borders: the gradient of a loss inside a
    window reaches back to the window's first step. With `sliding`, every step's loss reaches back `window` steps,
    its own counted: exact to that horizon, at `window` times the cost and memory. A window that covers the trial gives
    BPTT.

    Attributes:
        window: Length of a window [steps].
        sliding: Whether each step has a window of its own, which ends with it.

    Raises:
        ValueError: If `window` is not a positive whole number.

    Source:
        Williams & Peng (1990), Neural Comput. 2:490; fixed windows are "E-BPTT", sliding ones have the sum over time of
        "F-BPTT" of Marschall, Cho & Savin (2020), JMLR 21.
    """

    window: int = eqx.field(default=10)
    sliding: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_steps("TruncatedBPTT", "window", self.window)

    def unroll(self, network: Network, *args: Any, **options: Any) -> Trajectory:
        """Runs the network; credit flows back to the beginning of the window."""
        if self.sliding:
            return _sliding(self.window, network, *args, **options)
        return unroll(network, *args, credit="open", segment=self.window, cut=True, **options)


def _sliding(
    window: int,
    network: Network,
    moments: dict[str, Moments],
    state: State,
    inputs: Float[Array, "time batch input"],
    *,
    key: Key[Array, ""] | None,
    noise: dict[str, Float[Array, "time batch channel"]],
    drive: dict[str, Float[Array, "time batch channel"]],
    resample: Any = None,
    readout_steps: int | None = None,
    record: tuple[str, ...] = (),
) -> Trajectory:
    """Runs the network, then from every step's window again, all windows side by side as if they were trials."""
    if resample is not None:
        raise ValueError('`TruncatedBPTT(sliding=True)` needs fixed weights: use `weights="mean-field"` or "quenched".')
    time, batch, _ = inputs.shape
    first, steps = from_state(network, state), jnp.arange(time, dtype=state.step.dtype)
    window = min(window, time)

    def draw(step, given):
        return draw_noise(network, moments, step, batch, inputs.dtype, key, given)

    drawn = jax.vmap(draw)(state.step + steps, noise)

    def advance(now, given):
        inputs, noise, drive = given
        return step(network, moments, now, inputs, noise, drive=drive)[0], now

    _, before = jax.lax.scan(advance, first, (inputs, drawn, drive))
    before = jax.lax.stop_gradient(before)
    # The first window begins at the initial state, whose credit counts; the others at states that are taken as given.
    before = jax.tree.map(lambda start, all: jnp.concatenate([start[None], all[1:]]), first, before)
    wanted = steps[-(readout_steps or time) :] if not record else steps
    begins = jnp.maximum(wanted - window + 1, 0)

    def fold(leaf, axis):
        """`"window batch"` as one axis of trials."""
        leaf = jnp.moveaxis(leaf, 0, axis)
        return leaf.reshape(*leaf.shape[:axis], wanted.size * batch, *leaf.shape[axis + 2 :])

    def gathered(now):
        at = jax.tree.map(lambda leaf: leaf[begins], (now.neurons, now.idle)), (now.older, now.inputs)
        neurons, idle = jax.tree.map(lambda leaf: fold(leaf, 0), at[0])
        older, past = jax.tree.map(lambda leaf: fold(leaf[begins], 1), at[1])
        return Now(neurons, older, past, idle, state.step)

    def walk(now, offset):
        when = wanted - window + 1 + offset
        there = jnp.maximum(when, 0)
        given = jax.tree.map(lambda leaf: fold(leaf[there], 0), (inputs, drawn, drive))
        after, activity, *_ = step(network, moments, now, given[0], given[1], drive=given[2])
        begun = jnp.repeat(when >= 0, batch)
        kept = jax.tree.map(
            lambda new, old: new if new.ndim == 0 else jnp.where(begun.reshape(-1, 1), new, old), after, now
        )
        return kept, activity

    _, activity = jax.lax.scan(walk, gathered(before), jnp.arange(window, dtype=steps.dtype))
    names = {network.readout, *record}
    last = {name: activity[name][-1].reshape(wanted.size, batch, -1) for name in names}
    after = unroll(network, moments, state, inputs, key=key, noise=noise, drive=drive, readout_steps=1).state
    outputs = last[network.readout][-(readout_steps or time) :]
    return Trajectory(outputs, {name: last[name] for name in record}, jax.lax.stop_gradient(after))


def check_steps(rule: str, field: str, steps: int | None) -> None:
    """Refuses what is no number of steps."""
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"`{rule}({field}=...)` is a number of time steps, 1 or more, got {steps!r}.")
