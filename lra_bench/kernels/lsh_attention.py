"""Attention among tokens of one bucket (LSH attention, arXiv 2001.04451, section 2): queries and keys are the same
vectors, sorted by bucket and cut into chunks; a chunk meets itself and its neighbors. Several rounds of hashing are
joined by the logsumexp of each. Causally there are no chunks, whose bounds later tokens move: a token sees the latest
ones of its bucket.

Tokens that are not there lie in a bucket of their own, the last, and are nobody's keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.patterns import Blocks, Window
from lra_bench.kernels.product import product
from lra_bench.kernels.reordered import reordered
from lra_bench.kernels.softmax_attention import LOWEST

ALONE = -1e5  # added to a token's logit for itself: it sees itself only where it sees nobody else


@dataclass(frozen=True)
class Chunks(Blocks):
    """Chunks of sorted tokens, whose places are bucket * length + rank."""

    length: int = 1
    across: bool = False  # see other buckets' tokens in the chunks too

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        itself = jnp.where(i == j, ALONE, 0).astype(jnp.float32)
        return itself if self.across else jnp.where(i // self.length == j // self.length, itself, LOWEST)


@dataclass(frozen=True)
class Trail(Window):
    """A sorted token sees the latest ones of its bucket up to itself, whose places are bucket * length + rank: whatever
    comes later lies behind them, or moves all of a bucket alike."""

    length: int = 1
    causal: bool = True
    itself: float = 0.0  # added to a token's logit for itself

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        near = super().bias(i, j) + jnp.where(i == j, self.itself, 0).astype(jnp.float32)
        return jnp.where(i // self.length == j // self.length, near, LOWEST)


def buckets(
    x: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    rotations: Float[Array, "H K R c"],
    factors: tuple[int, ...],
) -> Int[Array, "B H R L"]:
    """h(x) = argmax [xR; -xR] for each of R rounds, without a gradient.

    Args:
        rotations: a random direction for every two buckets.
        factors: buckets of each of several hashes, whose pairs are the buckets; c is half their sum.
    """
    turned = jax.lax.stop_gradient(product("bhlk,hkrc->bhrlc", x, rotations))
    bucket, start = jnp.zeros(turned.shape[:-1], jnp.int32), 0
    for factor in factors:
        part = turned[..., start : start + factor // 2]
        bucket = bucket * factor + jnp.argmax(jnp.concatenate([part, -part], axis=-1), axis=-1).astype(jnp.int32)
        start += factor // 2
    last = 1
    for factor in factors:
        last *= factor
    return jnp.where(mask[:, None, None], bucket, last)


def unit(x: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """x / |x|, in float32."""
    x = x.astype(jnp.float32)
    K = x.shape[-1]
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * K**-0.5


def lsh_attention_reference(
    q: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    bucket: Int[Array, "B H R L"],
    chunks: Chunks,
) -> Float[Array, "B H L K"]:
    """Full attention under a mask for each round; the rounds' softmax sums joined."""
    L = q.shape[2]
    place = bucket * L + jnp.arange(L)
    rank = (place[..., None, :] < place[..., :, None]).sum(-1)
    i, j = rank[..., :, None] // chunks.size, rank[..., None, :] // chunks.size
    meet = (i - chunks.before <= j) & (j <= i + chunks.after) & mask[:, None, None, None, :]
    scores = product("bhmk,bhlk->bhml", q, unit(q))[:, :, None]
    scores = jnp.where(meet, scores + chunks.bias(place[..., :, None], place[..., None, :]), LOWEST)
    top = jnp.maximum(scores.max(-1, keepdims=True), LOWEST / 2)
    weights = jnp.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    total = jnp.where(total > 0, total, 1)
    rounds = product("bhrml,bhlk->bhrmk", weights / total, v)
    share = jax.nn.softmax(top + jnp.log(total), axis=2)
    return (share * rounds).sum(2).astype(v.dtype)


def lsh_attention(
    q: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    bucket: Int[Array, "B H R L"],
    chunks: Chunks,
    impl: str,
) -> Float[Array, "B H L K"]:
    """The same, of the chunks that meet only. The keys are the queries at unit length, and nothing scales the logits.

    Args:
        bucket: each token's bucket in every round; the last is for those that are not there.
        chunks: `length` is the L of the arrays.
        impl: of `block_attention`.
    """
    scale = q.shape[-1] ** 0.5
    return sorted_attention(q, v, mask, bucket, chunks, impl, lambda q: (q * scale, unit(q).astype(q.dtype)))


def sorted_attention(
    q: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    bucket: Int[Array, "B H R L"],
    pattern: Chunks | Trail,
    impl: str,
    queries_keys: Callable[[Array], tuple[Array, Array]],
) -> Float[Array, "B H L K"]:
    """Attention among sorted tokens, of which `queries_keys` makes queries and keys.

    One round after another; for the backward pass their outputs are kept, and nothing that is sorted.
    """
    (B, H, L, K), R = q.shape, bucket.shape[2]
    q, v, there = q.reshape(B * H, L, K), v.reshape(B * H, L, -1), jnp.repeat(mask, H, axis=0)

    @jax.checkpoint
    def attend(place: Int[Array, "N L"]) -> tuple[Array, Array]:
        order = place % L
        back = inverse(order)
        query, value = (reordered(x, order, back)[:, None] for x in (q, v))
        real = jnp.take_along_axis(there, order, axis=1)
        query, key = queries_keys(query)
        at = place // L * L + jnp.arange(L)
        out, logsumexp = block_attention(query, key, value, real, pattern, at, at, impl)
        return reordered(out[:, 0], back, order), reordered(logsumexp[:, 0, :, None], back, order)

    place = jnp.sort(jnp.moveaxis(bucket * L + jnp.arange(L), 2, 0).reshape(R, B * H, L))
    out, logsumexp = jax.lax.map(attend, place)
    return (jax.nn.softmax(logsumexp, axis=0) * out).sum(0).reshape(B, H, L, -1).astype(v.dtype)


def inverse(order: Int[Array, "N L"]) -> Int[Array, "N L"]:
    """Where each of L tokens stands in an order of them."""
    N, L = order.shape
    return jnp.zeros_like(order).at[jnp.arange(N)[:, None], order].set(jnp.arange(L)[None], unique_indices=True)
