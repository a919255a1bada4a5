"""Counter-based Gaussian noise: the draw at (key, step, trial, channel) is a pure function of those four.

So the noise of a pass does not depend on how its time axis is cut into segments: streamed, checkpointed and
plain passes see the same numbers, and nothing has to be stored between the forward and the backward pass.

The bits come from two rounds of a 32-bit multiply–xorshift mixer (the "lowbias32" form: C. Wellons, *Prospecting
for hash functions*, public domain), about five times cheaper on a CPU than Threefry; half of a training step would
otherwise go into the generator. Good enough for training noise, checked in the tests for moments, distribution and
correlations along every axis; not for cryptography, nor for integrals that need more than 23 bits per draw.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """Scrambles 32-bit integers, one to one."""
    x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * np.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def normal(
    key: Key[Array, ""],
    start: int | Int[Array, ""],
    shape: tuple[int, int, int],
    dtype=None,
    stream: int = 0,
) -> Float[Array, "time batch channel"]:
    """Draws standard normal noise for a stretch of time.

    Args:
        key: Seeds the noise of one pass.
        start: Number of the first time step.
        shape: `(time, batch, channel)`.
        dtype: Floating type; JAX's default if `None`.
        stream: Tells apart the populations of a pass, for less than a key of their own would cost.

    Returns:
        Independent draws of N(0, 1) [1], equal to the same steps of any longer or shorter stretch.
    """
    time, batch, channel = shape
    dtype = jnp.zeros(0).dtype if dtype is None else jnp.dtype(dtype)
    first, second = jr.bits(key, (2,), jnp.uint32)
    first = _mix(first + np.uint32(stream))
    now = jnp.asarray(start, jnp.uint32) + jnp.arange(time, dtype=jnp.uint32)
    # Two words for each step, so that no two steps share a stretch of draws.
    offset = _mix(_mix(now ^ first) + second)
    salt = _mix(offset ^ first)
    place = jnp.arange(batch * channel, dtype=jnp.uint32).reshape(batch, channel)
    bits = _mix(_mix(place[None] + offset[:, None, None]) ^ salt[:, None, None])
    # 23 bits to the midpoints of equal intervals of (-1, 1): symmetric, never ±1, at most 5.2 standard deviations.
    uniform = (bits >> 9).astype(dtype) * 2.0**-22 - (1.0 - 2.0**-23)
    return np.sqrt(2.0).item() * jax.lax.erf_inv(uniform)
