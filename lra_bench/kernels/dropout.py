"""Dropout (JMLR 15(56), 2014) whose noise is an integer hash of (key, position): no array of random bits is stored.

The usual counter-based generator costs more than attention on a CPU. Here each element's 32 bits are a function of
the key and of the element's index in the whole array, two rounds of a full-avalanche mixer, recomputed in the backward
pass. The index is global, so any number of devices draws the same noise.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt32


def _mix(h: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32 bits in which each input bit turns each output bit with probability 1/2."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x7FEB352D)
    h = (h ^ (h >> 15)) * jnp.uint32(0x846CA68B)
    return h ^ (h >> 16)


def bits(key: jax.Array, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """32 random bits for each element of an array of `shape` (below 2^32 elements)."""
    first, second = jax.random.bits(key, (2,))
    index, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        index = index + lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        stride *= shape[axis]
    return _mix(_mix(index ^ first) ^ second)


def dropout_reference(x: Float[Array, "..."], key: jax.Array, rate: float) -> Float[Array, "..."]:
    """Zero each element with probability `rate`, and scale what stays so that the mean stays."""
    keep = bits(key, x.shape) >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def dropout(x: Float[Array, "..."], key: jax.Array, rate: float) -> Float[Array, "..."]:
    """The same; the backward pass draws the noise again instead of keeping it."""
    return dropout_reference(x, key, rate)


def _forward(x: Array, key: jax.Array, rate: float) -> tuple[Array, jax.Array]:
    return dropout_reference(x, key, rate), key


def _backward(rate: float, key: jax.Array, g: Array) -> tuple[Array, None]:
    return dropout_reference(g, key, rate), None


dropout.defvjp(_forward, _backward)
