"""Softmax attention of token i over the keys j with |i - j| <= w (sliding window, arXiv 2004.05150, section 3.1)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from lra_bench.kernels.softmax_attention import LOWEST


def local_attention_reference(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    window: int,
) -> Float[Array, "B H L K"]:
    """Full attention under a band."""
    i = jnp.arange(q.shape[2])
    there = mask[:, None, None, :] & (abs(i[:, None] - i[None, :]) <= window)
    scores = jnp.einsum("bhmk,bhlk->bhml", q, k, preferred_element_type=jnp.float32) / jnp.sqrt(q.shape[-1])
    scores = jnp.where(there, scores, LOWEST)
    weights = jnp.where(there, jnp.exp(scores - scores.max(-1, keepdims=True)), 0)
    weights = weights / jnp.maximum(weights.sum(-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
    return jnp.einsum("bhml,bhlk->bhmk", weights.astype(v.dtype), v)


def local_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    window: int,
) -> Float[Array, "B H L K"]:
    """The same by chunks of w queries, each with the keys of its own chunk and both neighbours."""
    B, H, L, K = q.shape
    w = min(window, L)
    fill = -L % w
    q = jnp.pad(q, ((0, 0), (0, 0), (0, fill), (0, 0))) * K**-0.5
    k, v = (jnp.pad(x, ((0, 0), (0, 0), (w, w + fill), (0, 0))) for x in (k, v))
    mask = jnp.pad(mask, ((0, 0), (w, w + fill)))
    i, j = jnp.arange(w)[:, None], jnp.arange(3 * w)[None, :] - w
    near = abs(i - j) <= window

    def chunk(c: Array) -> Array:
        query = lax.dynamic_slice_in_dim(q, c * w, w, 2)
        key, value = (lax.dynamic_slice_in_dim(x, c * w, 3 * w, 2) for x in (k, v))
        there = lax.dynamic_slice_in_dim(mask, c * w, 3 * w, 1)[:, None, None, :] & near
        scores = jnp.einsum("bhmk,bhlk->bhml", query, key, preferred_element_type=jnp.float32)
        scores = jnp.where(there, scores, LOWEST)
        weights = jnp.where(there, jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True))), 0)
        weights = weights / jnp.maximum(weights.sum(-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
        return jnp.einsum("bhml,bhlk->bhmk", weights.astype(v.dtype), value)

    out = lax.map(chunk, jnp.arange((L + fill) // w))
    return jnp.moveaxis(out, 0, 2).reshape(B, H, L + fill, K)[:, :, :L]
