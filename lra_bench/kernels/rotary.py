"""Rotary positions (RoFormer, arXiv 2104.09864, equation 34): pairs of a query's or key's entries are turned by an
angle that grows with the position, so that q_i . k_j depends on i - j.

Entry i is paired with entry i + K/2, not with i + 1: the same function up to an order of the columns of W_q and W_k,
and whole halves are cheap to take.

Where weights are products of features, phi(q_i) . phi(k_j), it is the features that are turned, and only above the line
of the fraction, so that what is below stays positive (equation 19): of a turned vector, relu and elu know no distance.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

BASE = 10000.0


def rotary(x: Float[Array, "B H L K"]) -> Float[Array, "B H L K"]:
    """Turn the pair i of token l by l * 10000^(-2i/K); computed in float32. K is even."""
    return _turned(x, *(jnp.asarray(table, jnp.float32) for table in _turns(*x.shape[-2:])))


def rotary_reference(x: Float[Array, "B H L K"]) -> Float[Array, "B H L K"]:
    """Each pair as a complex number, times e^(i angle)."""
    cos, sin = _turns(*x.shape[-2:])
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = (a + 1j * b) * (cos + 1j * sin)
    return jnp.concatenate([turned.real, turned.imag], axis=-1).astype(x.dtype)


def turning(length: int) -> Callable[[Float[Array, "B H N K"], Int[Array, "N"]], Float[Array, "B H N K"]]:
    """The same of some of `length` tokens, whose places are given beside them."""

    def turn(x: Float[Array, "B H N K"], i: Int[Array, "N"]) -> Float[Array, "B H N K"]:
        cos, sin = (jnp.asarray(table, jnp.float32)[i] for table in _turns(length, x.shape[-1]))
        return _turned(x, cos, sin)

    return turn


def rotary_at(x: Float[Array, "B H N K"], i: Int[Array, "N"]) -> Float[Array, "B H N K"]:
    """The same of tokens at the places `i`, which need not be known before it runs."""
    angle = i[:, None] * jnp.asarray(BASE ** (-np.arange(0, x.shape[-1], 2) / x.shape[-1]), jnp.float32)
    return _turned(x, jnp.cos(angle), jnp.sin(angle))


def _turned(x: Float[Array, "B H L K"], cos: Float[Array, "L J"], sin: Float[Array, "L J"]) -> Float[Array, "B H L K"]:
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


def _turns(length: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of the angles, [L, K/2]."""
    angle = np.arange(length)[:, None] * BASE ** (-np.arange(0, width, 2) / width)
    return np.cos(angle), np.sin(angle)
