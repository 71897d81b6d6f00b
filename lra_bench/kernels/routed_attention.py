"""Attention inside clusters that each take as many queries and as many keys (arXiv 2003.05997, algorithm 1).

A query in several clusters gets the mean of what they give it, a query in none gets 0.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.impl import XLA
from lra_bench.kernels.patterns import Blocks
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import KEEP_ATTENDED, LOWEST, softmax_attention_reference


def routed_attention_reference(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    queries: Int[Array, "B H C w"],
    keys: Int[Array, "B H C w"],
) -> Float[Array, "B H L V"]:
    """One cluster after another, in full attention under its keys' mask."""
    B, H, L, _ = q.shape
    q, k, v = (x.reshape(B * H, 1, L, -1) for x in (q, k, v))
    total, times = jnp.zeros((B * H, L, v.shape[-1])), jnp.zeros((B * H, L, 1))
    for c in range(queries.shape[2]):
        taken, mask = ((x[:, :, c, :, None] == jnp.arange(L)).any(2).reshape(B * H, L) for x in (queries, keys))
        y = softmax_attention_reference(q, k, v, mask)[:, 0]
        total, times = total + jnp.where(taken[..., None], y, 0), times + taken[..., None]
    return (total / jnp.maximum(times, 1)).reshape(B, H, L, -1).astype(v.dtype)


def routed_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    queries: Int[Array, "B H C w"],
    keys: Int[Array, "B H C w"],
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same, of the tokens that each cluster takes only. For the backward pass the arguments are kept, and what the
    clusters' attention gave.

    Args:
        queries: the places of the queries that each of C clusters takes; -1: none.
        keys: likewise of the keys.
        impl: as `impl.chosen` says it.
    """
    return jax.checkpoint(partial(_attend, impl=impl), policy=KEEP_ATTENDED)(q, k, v, queries, keys)


def _attend(q: Array, k: Array, v: Array, queries: Array, keys: Array, *, impl: str) -> Float[Array, "B H L V"]:
    B, H, L, _ = q.shape
    size, i, j = queries.shape[-1], queries.reshape(B * H, -1), keys.reshape(B * H, -1)
    rows = jnp.arange(B * H)[:, None]
    q, k, v = (x.reshape(B * H, L, -1)[rows, jnp.maximum(at, 0)][:, None] for x, at in ((q, i), (k, j), (v, j)))
    y, _ = block_attention(q, k, v, j >= 0, Blocks(size), impl=impl)
    at = jnp.where(i >= 0, i, L)  # one row behind the last, for what is no query
    total = jnp.zeros((B * H, L + 1, v.shape[-1])).at[rows, at].add(y[:, 0].astype(jnp.float32))
    times = jnp.zeros((B * H, L + 1)).at[rows, at].add(1.0)
    mean = total / jnp.maximum(times, 1)[..., None]
    return mean[:, :L].reshape(B, H, L, -1).astype(v.dtype)


def nearest(
    x: Float[Array, "B H L K"], mask: Bool[Array, "B L"], centroids: Float[Array, "H C K"], count: int
) -> Int[Array, "B H C w"]:
    """The places of the w = `count` tokens whose inner product with each centroid is largest; -1: there are fewer."""
    value, place = lax.top_k(jnp.where(mask[:, None, None], _inner(x, centroids), LOWEST), count)
    return jnp.where(value > LOWEST / 2, place, -1)


def closest(x: Float[Array, "B H L K"], centroids: Float[Array, "H C K"]) -> Int[Array, "B H L"]:
    """The centroid with the largest inner product, the first of several; the last one where a number is none.

    An argmax as two reductions of floats, which a CPU does in a third of the time.
    """
    scores, last = _inner(x, centroids), centroids.shape[1] - 1
    rank = jnp.arange(last + 1, dtype=jnp.float32)[:, None]
    return jnp.where(scores == scores.max(2, keepdims=True), rank, last).min(2).astype(jnp.int32)


def _inner(x: Float[Array, "B H L K"], centroids: Float[Array, "H C K"]) -> Float32[Array, "B H C L"]:
    """Inner products. The centroids are repeated for each text: as one factor of all texts they would come out as
    [H, C, B, L], and be transposed."""
    return product("bhck,bhlk->bhcl", jnp.broadcast_to(centroids, (len(x), *centroids.shape)), x)
