"""A depthwise convolution of a few taps (arXiv 2302.10866, section 3.1), as a sum of shifted copies.

For the three taps that gated mechanisms put before themselves; `depthwise_convolution` is for long filters.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def short_convolution_reference(x: Float[Array, "B L D"], taps: Float[Array, "T D"]) -> Float[Array, "B L D"]:
    """y_l = sum_t w_t x_(l + t - (T - 1) / 2), channel by channel. T is odd."""
    rows = [[jnp.convolve(text, w[::-1], mode="full") for text, w in zip(x_.T, taps.T, strict=True)] for x_ in x]
    reach = len(taps) // 2
    return jnp.array(rows).swapaxes(1, 2)[:, reach : reach + x.shape[1]].astype(x.dtype)


@jax.checkpoint
def short_convolution(x: Float[Array, "B L D"], taps: Float[Array, "T D"]) -> Float[Array, "B L D"]:
    """The same. Beyond its ends x is zero."""
    (T, _), L = taps.shape, x.shape[1]
    wide = jnp.pad(x, ((0, 0), (T // 2, T // 2), (0, 0)))
    shifted = (wide[:, t : t + L] * taps[t].astype(x.dtype) for t in range(T))
    return sum(shifted, jnp.zeros_like(x))
