"""Rotary positions (RoFormer, arXiv 2104.09864, equation 34): pairs of a query's or key's entries are turned by an
angle that grows with the position, so that q_i . k_j depends on i - j.

Entry i is paired with entry i + K/2, not with i + 1: the same function up to an order of the columns of W_q and W_k,
and whole halves are cheap to take.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

BASE = 10000.0


def rotary(x: Float[Array, "B H L K"]) -> Float[Array, "B H L K"]:
    """Turn the pair i of token l by l * 10000^(-2i/K); computed in float32. K is even."""
    cos, sin = (jnp.asarray(table, jnp.float32) for table in _turns(*x.shape[-2:]))
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


def rotary_reference(x: Float[Array, "B H L K"]) -> Float[Array, "B H L K"]:
    """Each pair as a complex number, times e^(i angle)."""
    cos, sin = _turns(*x.shape[-2:])
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = (a + 1j * b) * (cos + 1j * sin)
    return jnp.concatenate([turned.real, turned.imag], axis=-1).astype(x.dtype)


def _turns(length: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of the angles, [L, K/2]."""
    angle = np.arange(length)[:, None] * BASE ** (-np.arange(0, width, 2) / width)
    return np.cos(angle), np.sin(angle)
