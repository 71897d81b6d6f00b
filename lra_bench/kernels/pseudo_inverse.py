"""The Moore-Penrose inverse of square matrices by a fixed number of matrix products (arXiv 2102.03902, equation 14; the
iteration is Razavi et al.'s, of third order). In float32.

Z starts as A^T / (|A|_1 |A|_inf), each matrix with its own norms, so that the matrices of a batch do not see each
other, and every step multiplies the error I - A Z by itself three times.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from lra_bench.kernels.product import product


def pseudo_inverse_reference(a: Float[Array, "... m m"], steps: int) -> Float32[Array, "... m m"]:
    """By a singular value decomposition, to which `steps` is nothing."""
    return jnp.linalg.pinv(a.astype(jnp.float32))


def pseudo_inverse(a: Float[Array, "... m m"], steps: int) -> Float32[Array, "... m m"]:
    """Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4, so many times. Of a zero matrix: zero."""
    a = a.astype(jnp.float32)
    one = jnp.eye(a.shape[-1])
    size = abs(a).sum(-2, keepdims=True).max(-1, keepdims=True) * abs(a).sum(-1, keepdims=True).max(-2, keepdims=True)
    z = jnp.swapaxes(a, -1, -2) / jnp.where(size > 0, size, 1)
    for _ in range(steps):
        az = product("...ij,...jk->...ik", a, z)
        inner = 15 * one - product("...ij,...jk->...ik", az, 7 * one - az)
        z = product("...ij,...jk->...ik", z, 13 * one - product("...ij,...jk->...ik", az, inner)) / 4
    return z
