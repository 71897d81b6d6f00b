"""(x - mean) / sqrt(variance + 1e-6) * scale + bias over the last axis, in float32 (arXiv 1607.06450).

The backward pass keeps x and each row's mean and inverse deviation, no normalized copy of x.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def layer_norm_reference(
    x: Float[Array, "... D"], scale: Float[Array, "D"], bias: Float[Array, "D"]
) -> Float[Array, "... D"]:
    """The definition."""
    mean, inverse = _statistics(x.astype(jnp.float32))
    return ((x.astype(jnp.float32) - mean) * inverse * scale + bias).astype(x.dtype)


@jax.custom_vjp
def layer_norm(x: Float[Array, "... D"], scale: Float[Array, "D"], bias: Float[Array, "D"]) -> Float[Array, "... D"]:
    """The same."""
    return layer_norm_reference(x, scale, bias)


def _keep(x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    mean, inverse = _statistics(x.astype(jnp.float32))
    y = ((x.astype(jnp.float32) - mean) * inverse * scale + bias).astype(x.dtype)
    return y, (x, scale, mean, inverse)


def _backward(kept: tuple[Array, ...], g: Array) -> tuple[Array, Array, Array]:
    x, scale, mean, inverse = kept
    g = g.astype(jnp.float32)
    unit, pull = (x.astype(jnp.float32) - mean) * inverse, g * scale
    dx = inverse * (pull - pull.mean(-1, keepdims=True) - unit * (pull * unit).mean(-1, keepdims=True))
    rows = tuple(range(g.ndim - 1))
    return dx.astype(x.dtype), (g * unit).sum(rows), g.sum(rows)


def _statistics(x: Float[Array, "... D"]) -> tuple[Float[Array, "... 1"], Float[Array, "... 1"]]:
    """The mean, and one over the standard deviation."""
    mean = x.mean(-1, keepdims=True)
    return mean, lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + 1e-6)


layer_norm.defvjp(_keep, _backward)
