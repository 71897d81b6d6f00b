"""A convolution over the length whose filter is the same for all entries of a head (the C of arXiv 2102.03902, as it
was released), as two products with small banded matrices.

XLA's grouped convolutions are slow on a CPU, and their gradients slower. Cut into blocks no shorter than the filter's
reach, each block of outputs meets one block of inputs and the next one: y_n = T_0 x_n + T_1 x_(n+1).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lra_bench.kernels.product import product

BLOCK = 32  # outputs of a product, unless the filter reaches further


def depthwise_convolution_reference(x: Float[Array, "B H L K"], w: Float[Array, "H T"]) -> Float[Array, "B H L K"]:
    """y_l = sum_t w_t x_(l + t - (T - 1) / 2): one shifted copy of x for each entry of the filter. T is odd."""
    L, reach = x.shape[2], w.shape[1] // 2
    wide = jnp.pad(x.astype(jnp.float32), ((0, 0), (0, 0), (reach, reach), (0, 0)))
    shifted = (wide[:, :, t : t + L] * w[:, t, None, None] for t in range(w.shape[1]))
    return sum(shifted, jnp.zeros(x.shape)).astype(x.dtype)


@jax.checkpoint
def depthwise_convolution(x: Float[Array, "B H L K"], w: Float[Array, "H T"]) -> Float[Array, "B H L K"]:
    """The same, block by block. Beyond its ends x is zero."""
    (B, H, L, K), T = x.shape, w.shape[1]
    size = max(BLOCK, T - 1)
    right = -L % size + size - T // 2
    blocks = jnp.pad(x, ((0, 0), (0, 0), (T // 2, right), (0, 0))).reshape(B, H, -1, size, K)
    here, there = (_band(w, size, ahead).astype(x.dtype) for ahead in (0, size))
    y = product("hij,bhnjk->bhnik", here, blocks[:, :, :-1]) + product("hij,bhnjk->bhnik", there, blocks[:, :, 1:])
    return y.reshape(B, H, -1, K)[:, :, :L].astype(x.dtype)


def looking_back(
    convolved: Callable[[Float[Array, "B L D"]], Float[Array, "B L D"]], reach: int
) -> Callable[[Float[Array, "B L D"]], Float[Array, "B L D"]]:
    """A convolution whose filter has `reach` taps to each side, so many places later: it sees none that come after."""

    def later(x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return convolved(jnp.pad(x, ((0, 0), (reach, 0), (0, 0))))[:, : x.shape[1]]

    return later


def _band(w: Float[Array, "H T"], size: int, ahead: int) -> Float[Array, "H size size"]:
    """Result i holds w_t in column i + t - ahead."""
    t = np.arange(size)[None, :] + ahead - np.arange(size)[:, None]
    inside = (t >= 0) & (t < w.shape[1])
    return jnp.where(inside, w[:, np.where(inside, t, 0)], 0)
