"""softmax(Q K^T / sqrt K + S) V with logits S of their own, learned and the same for every text (arXiv 2005.00743), or
softmax(S) V. A block of queries at a time: beside S itself no array of M x L numbers exists.

S is held [M, H, L], so that a block of its rows is a slice, and so is the block's gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST

QUERIES = 64  # of a block


def biased_attention_reference(
    q: Float[Array, "B H M K"] | None,
    k: Float[Array, "B H L K"] | None,
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    s: Float[Array, "M H L"],
) -> Float[Array, "B H M V"]:
    """The equation, with all weights in memory."""
    scores = s.swapaxes(0, 1).astype(jnp.float32)[None]
    if q is not None and k is not None:
        scores = scores + product("bhmk,bhlk->bhml", q, k) * q.shape[-1] ** -0.5
    there = mask[:, None, None, :]
    weights = jnp.where(there, jax.nn.softmax(jnp.where(there, scores, LOWEST), axis=-1), 0)
    return product("bhml,bhlk->bhmk", weights, v).astype(v.dtype)


def biased_attention(
    q: Float[Array, "B H M K"] | None,
    k: Float[Array, "B H L K"] | None,
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    s: Float[Array, "M H L"],
    impl: str = XLA,
) -> Float[Array, "B H M V"]:
    """The same, block by block; the backward pass makes a block's weights again. A row without any key gives 0."""
    M = len(s)
    size = at_once(impl, M, len(v) * s.size) or min(QUERIES, M)
    rows = jnp.pad(s, ((0, -M % size), (0, 0), (0, 0))).reshape(-1, size, *s.shape[1:])
    queries = None if q is None else _blocks(q * q.shape[-1] ** -0.5, size)

    hidden = jnp.where(mask, 0, LOWEST).astype(jnp.float32)[:, None, None, :]

    @jax.checkpoint
    def step(q: Array | None, k: Array | None, v: Array, s: Array) -> Float32[Array, "B H m V"]:
        scores = s.swapaxes(0, 1)[None].astype(jnp.float32) + hidden
        if q is not None and k is not None:
            scores = scores + product("bhmk,bhlk->bhml", q, k)
        top = lax.stop_gradient(jnp.maximum(scores.max(-1, keepdims=True), LOWEST / 2))
        weights = jnp.exp(scores - top)
        total = weights.sum(-1, keepdims=True)
        return product("bhml,bhlk->bhmk", weights.astype(v.dtype), v) / jnp.where(total > 0, total, 1)

    y = lax.map(lambda block: step(block[0], k, v, block[1]), (queries, rows))
    return jnp.moveaxis(y, 0, 2).reshape(*y.shape[1:3], -1, y.shape[-1])[:, :, :M].astype(v.dtype)


def _blocks(x: Float[Array, "B H M K"], size: int) -> Float[Array, "N B H size K"]:
    """The length in blocks to be walked over, the last one filled up with zeros."""
    B, H, M, K = x.shape
    return jnp.moveaxis(jnp.pad(x, ((0, 0), (0, 0), (0, -M % size), (0, 0))).reshape(B, H, -1, size, K), 2, 0)
