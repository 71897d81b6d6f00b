"""A depthwise convolution of a few taps (arXiv 2302.10866, section 3.1), as a sum of shifted copies.

For the few taps that gated mechanisms put before themselves; `depthwise_convolution` is for long filters.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def short_convolution_reference(
    x: Float[Array, "B L D"], taps: Float[Array, "T D"], causal: bool = False
) -> Float[Array, "B L D"]:
    """y_l = sum_t w_t x_(l + t - (T - 1) / 2), channel by channel, and T is odd; causally x_(l + t - T + 1)."""
    rows = [[jnp.convolve(text, w[::-1], mode="full") for text, w in zip(x_.T, taps.T, strict=True)] for x_ in x]
    reach = 0 if causal else len(taps) // 2
    return jnp.array(rows).swapaxes(1, 2)[:, reach : reach + x.shape[1]].astype(x.dtype)


def short_convolution(
    x: Float[Array, "B L D"], taps: Float[Array, "T D"], causal: bool = False
) -> Float[Array, "B L D"]:
    """The same. Beyond its ends x is zero."""
    return jax.checkpoint(partial(_convolved, causal=causal))(x, taps)


def _convolved(x: Float[Array, "B L D"], taps: Float[Array, "T D"], causal: bool) -> Float[Array, "B L D"]:
    (T, _), L = taps.shape, x.shape[1]
    around = (T - 1, 0) if causal else (T // 2, T // 2)
    wide = jnp.pad(x, ((0, 0), around, (0, 0)))
    shifted = (wide[:, t : t + L] * taps[t].astype(x.dtype) for t in range(T))
    return sum(shifted, jnp.zeros_like(x))
