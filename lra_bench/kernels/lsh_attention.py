"""Attention among tokens of one bucket (LSH attention, arXiv 2001.04451, section 2): queries and keys are the same
vectors, sorted by bucket and cut into chunks; a chunk meets itself and its neighbors. Several rounds of hashing are
joined by the logsumexp of each. Causally there are no chunks, whose bounds later tokens move: a token sees the latest
ones of its bucket.

Tokens that are not there lie in a bucket of their own, the last, and are nobody's keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.patterns import Blocks, Window
from lra_bench.kernels.product import product
from lra_bench.kernels.reordered import reordered
from lra_bench.kernels.softmax_attention import KEEP_ATTENDED, LOWEST

ALONE = -1e5  # added to a token's logit for itself: it sees itself only where it sees nobody else


class Laid(NamedTuple):
    """Sorted tokens in an array: whose row each is (-1: nobody's), each token's row, and the rows' places for the bias
    of a pattern."""

    order: Int[Array, "N S"]
    back: Int[Array, "N L"]
    places: Int[Array, "N S"]


@dataclass(frozen=True)
class Chunks(Blocks):
    """Chunks of sorted tokens, whose places are bucket * length + position."""

    length: int = 1
    across: bool = False  # see other buckets' tokens in the chunks too

    def laid(self, place: Int[Array, "N L"]) -> Laid:
        """One token after another."""
        order = place % self.length
        return Laid(order, inverse(order), place)

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        itself = jnp.where(i == j, ALONE, 0).astype(jnp.float32)
        return itself if self.across else jnp.where(i // self.length == j // self.length, itself, LOWEST)


@dataclass(frozen=True)
class Trail(Window):
    """A sorted token sees the latest ones of its bucket up to itself; places are bucket * rows + row.

    Each bucket begins a block of the pattern, so that no sum is taken in another order for what comes later.
    """

    size: int = 16  # a bucket's last block is half empty, as a rule
    length: int = 1
    buckets: int = 1  # that of padding included
    causal: bool = True
    itself: float = 0.0  # added to a token's logit for itself

    @property
    def rows(self) -> int:
        """Of the array: as many as the tokens can take."""
        return self.length + self.buckets * (self.size - 1)

    def laid(self, place: Int[Array, "N L"]) -> Laid:
        """Each bucket from a block's first row on."""
        rank, bucket, order = jnp.arange(self.length), place // self.length, place % self.length
        begins = jnp.pad(bucket[:, 1:] != bucket[:, :-1], ((0, 0), (1, 0)))
        first = jax.lax.cummax(jnp.where(begins, rank, 0), axis=1)
        before = jnp.pad(first, ((0, 0), (1, 0)))[:, :-1]
        row = rank + jnp.where(begins, (before - rank) % self.size, 0).cumsum(1)
        texts = jnp.arange(len(place))[:, None]
        none = jnp.zeros((len(place), self.rows), jnp.int32)
        return Laid(
            (none - 1).at[texts, row].set(order, unique_indices=True),
            jnp.zeros_like(order).at[texts, order].set(row, unique_indices=True),
            none.at[texts, row].set(bucket * self.rows + row, unique_indices=True),
        )

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        near = super().bias(i, j) + jnp.where(i == j, self.itself, 0).astype(jnp.float32)
        return jnp.where(i // self.rows == j // self.rows, near, LOWEST)


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
    chunks: Chunks | Trail,
    impl: str,
) -> Float[Array, "B H L K"]:
    """The same, of the chunks that meet only. The keys are the queries at unit length, and nothing scales the logits.

    Args:
        bucket: each token's bucket in every round; the last is for those that are not there.
        chunks: `length` is the L of the arrays.
        impl: of `block_attention`.
    """

    def queries_keys(q: Array) -> tuple[Array, Array]:
        key = unit(q).astype(q.dtype)
        return q * q.shape[-1] ** 0.5, key

    return sorted_attention(q, v, mask, bucket, chunks, impl, queries_keys)


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

    One round after another. For the backward pass each round's output is kept, in the sorted and in the original order;
    sorted queries, keys and values are made again.
    """
    (B, H, L, K), R = q.shape, bucket.shape[2]
    q, v, there = q.reshape(B * H, L, K), v.reshape(B * H, L, -1), jnp.repeat(mask, H, axis=0)

    @partial(jax.checkpoint, policy=KEEP_ATTENDED)
    def attend(place: Int[Array, "N L"]) -> tuple[Array, Array]:
        order, back, at = pattern.laid(place)
        query, value = (reordered(x, order, back)[:, None] for x in (q, v))
        real = jnp.take_along_axis(there, jnp.maximum(order, 0), axis=1) & (order >= 0)
        query, key = queries_keys(query)
        out, logsumexp = block_attention(query, key, value, real, pattern, at, at, impl)
        return reordered(out[:, 0], back, order), reordered(logsumexp[:, 0, :, None], back, order)

    place = jnp.sort(jnp.moveaxis(bucket * L + jnp.arange(L), 2, 0).reshape(R, B * H, L))
    out, logsumexp = jax.lax.map(attend, place)
    mean = sum(share * one for share, one in zip(jax.nn.softmax(logsumexp, axis=0), out, strict=True))
    return mean.reshape(B, H, L, -1).astype(v.dtype)


def inverse(order: Int[Array, "N L"]) -> Int[Array, "N L"]:
    """Where each of L tokens stands in an order of them."""
    N, L = order.shape
    return jnp.zeros_like(order).at[jnp.arange(N)[:, None], order].set(jnp.arange(L)[None], unique_indices=True)
