"""States of attention that decodes: all keys and values, the latest ones in a ring, or those that a pattern sees."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.block_attention import TINY
from lra_bench.kernels.lsh_attention import Trail
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST
from lra_bench.mixers.heads import HeadsMixer

QUERIES = 256  # of a block: their scores against the whole cache are in memory at once

Seen = Callable[[Int[Array, "N 1"], Int[Array, "1 S"]], Bool[Array, "#H N S"]]  # of a query's place and a key's
Slots = Callable[[Int[Array, ""], int], Int[Array, " S"]]  # of the tokens seen, and of the slots: each slot's place
# Of queries and keys, and their places.
Score = Callable[
    [Float[Array, "B H N K"], Float[Array, "B H S K"], Int[Array, "N 1"], Int[Array, "1 S"]], Float[Array, "B H N S"]
]
Rows = tuple[Array, ...]  # queries, keys and values of tokens
# Weights [B, H, N, S] of queries and keys, of which is seen, and of the distances from a query back to a key.
Weigh = Callable[
    [Float[Array, "B H N K"], Float[Array, "B H S K"], Bool[Array, "#H N S"], Int[Array, "N S"]],
    Float[Array, "B H N S"],
]
Part = tuple[Float[Array, "B H N V"], Float32[Array, "B H N"]]  # what is read, and its logits' logsumexp


def ring(count: Int[Array, ""], slots: int) -> Int[Array, " S"]:
    """The places of the latest tokens, the one at place p in the slot p mod S; below 0 where there was none yet."""
    newest = count - 1
    return newest - (newest - jnp.arange(slots)) % slots


class KeyValues(NamedTuple):
    """Keys and values of the tokens that can still be seen; whose is in which slot, `Slots` says: as a rule a ring."""

    k: Float[Array, "B H S K"]
    v: Float[Array, "B H S V"]
    place: Int[Array, ""]  # of the next token: so many were seen

    @property
    def places(self) -> Int[Array, " S"]:
        """Of the token in each slot of a ring."""
        return ring(self.place, self.k.shape[2])


def empty(mixer: HeadsMixer, batch: int, slots: int, heads: int | None = None) -> KeyValues:
    """No token yet; room for the keys and values of `slots`, in the dtype that the mixer computes in; of one at least,
    for a softmax over no keys is none.

    Args:
        heads: so many; None: all.
    """
    rows = (batch, mixer.heads if heads is None else heads, max(slots, 1))
    return room(rows, (mixer.head_width, mixer.head_width), mixer.dtype)


def room(rows: tuple[int, int, int], widths: tuple[int, int], dtype: str) -> KeyValues:
    """The same of batch, heads and slots, for keys and values of these widths."""
    k, v = (jnp.zeros((*rows, width), dtype) for width in widths)
    return KeyValues(k, v, jnp.zeros((), jnp.int32))


def extended(
    cache: KeyValues,
    k: Float[Array, "B H N K"],
    v: Float[Array, "B H N V"],
    held: Slots = ring,
    read: Float[Array, "..."] | None = None,
) -> KeyValues:
    """With N further tokens, of which those are kept that the slots then hold.

    Args:
        read: what was read in the cache as it is; None: nothing was.
    """
    N, slots = k.shape[2], cache.k.shape[2]
    first = max(N - slots, 0) if held is ring else 0
    new = [rows[:, :, first:].astype(cache.k.dtype) for rows in (k, v)]
    place, after = cache.place if read is None else behind(cache.place, read), cache.place + N
    if held is not ring:
        at = held(place + N, slots) - place
        k, v = (_chosen(old, rows, at) for old, rows in zip((cache.k, cache.v), new, strict=True))
    elif N == 1:
        slot = place % slots
        k, v = (
            lax.dynamic_update_slice_in_dim(old, row, slot, axis=2)
            for old, row in zip((cache.k, cache.v), new, strict=True)
        )
    else:
        at = (place + jnp.arange(first, N)) % slots
        k, v = (old.at[:, :, at].set(rows) for old, rows in zip((cache.k, cache.v), new, strict=True))
    return KeyValues(k, v, after)


def behind(place: Int[Array, ""], read: Float[Array, "..."]) -> Int[Array, ""]:
    """`place`, made to depend on `read`, so that XLA orders a write there after the reading. It then writes in place;
    otherwise it copies the array that is read. An `optimization_barrier` is gone when XLA decides on copies."""
    zero = 0 * read.ravel()[:1].sum()
    return place + jnp.where(zero == 0, zero, 0).astype(place.dtype)  # not a number, if what was read is none


def _chosen(old: Array, new: Array, at: Int[Array, " S"]) -> Array:
    """The new ones at the indices that are none below 0."""
    rows = jnp.take(new, jnp.maximum(at, 0), axis=2, mode="clip")
    return jnp.where((at >= 0)[:, None], rows, old)


def dot(q: Array, k: Array, i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Float32[Array, "B H N S"]:
    """q_i . k_j / sqrt K, wherever they stand."""
    return product("bhnk,bhsk->bhns", q * q.shape[-1] ** -0.5, k)


def attended(
    cache: KeyValues,
    q: Float[Array, "B H N K"],
    k: Float[Array, "B H N K"],
    v: Float[Array, "B H N V"],
    seen: Seen,
    held: Slots = ring,
    score: Score = dot,
) -> tuple[KeyValues, Float[Array, "B H N V"]]:
    """The cache with N further tokens, and what their queries read in it and in each other.

    Args:
        seen: whether a query at place i sees a key at place j, where j <= i; True for each head, or for all.
        held: the places of the tokens that the cache holds.
        score: their logits.
    """
    cache, (y, _) = attended_part(cache, q, k, v, seen, held, score)
    return cache, y


def attended_part(
    cache: KeyValues,
    q: Float[Array, "B H N K"],
    k: Float[Array, "B H N K"],
    v: Float[Array, "B H N V"],
    seen: Seen,
    held: Slots = ring,
    score: Score = dot,
) -> tuple[KeyValues, Part]:
    """The same, and the logsumexp of each query's logits, to be joined with attention over other keys."""

    def some(cache: KeyValues, block: Rows) -> tuple[KeyValues, Part]:
        q, k, v = block
        return _attended(cache, q, k, v, seen, held, score)

    return _in_blocks(some, cache, (q, k, v))


def weighed(
    cache: KeyValues,
    q: Float[Array, "B H N K"],
    k: Float[Array, "B H N K"],
    v: Float[Array, "B H N V"],
    seen: Seen,
    weigh: Weigh,
) -> tuple[KeyValues, Float[Array, "B H N V"]]:
    """The same by weights that are no softmax; the cache is a ring."""

    def some(cache: KeyValues, block: Rows) -> tuple[KeyValues, Array]:
        q, k, v = block
        i = (cache.place + jnp.arange(q.shape[2]))[:, None]
        j = jnp.concatenate([cache.places, i[:, 0]])[None]
        keys, values = (
            jnp.concatenate([old, new.astype(old.dtype)], axis=2) for old, new in ((cache.k, k), (cache.v, v))
        )
        weights = weigh(q, keys, _visible(i, j, seen), i - j)
        y = product("bhns,bhsv->bhnv", weights.astype(values.dtype), values)
        return extended(cache, k, v, read=y), y.astype(v.dtype)

    return _in_blocks(some, cache, (q, k, v))


def _in_blocks(
    some: Callable[[KeyValues, Rows], tuple[KeyValues, Any]], cache: KeyValues, rows: Rows
) -> tuple[KeyValues, Any]:
    """What `some` queries read, `QUERIES` of them at a time."""
    blocks, whole = rows[0].shape[2] // QUERIES, rows[0].shape[2] // QUERIES * QUERIES
    if blocks < 2:
        return some(cache, rows)
    cut = tuple(jnp.moveaxis(x[:, :, :whole].reshape(*x.shape[:2], blocks, QUERIES, x.shape[3]), 2, 0) for x in rows)
    cache, parts = lax.scan(some, cache, cut)
    read = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2).reshape(*x.shape[1:3], whole, *x.shape[4:]), parts)
    if whole == rows[0].shape[2]:
        return cache, read
    cache, rest = some(cache, tuple(x[:, :, whole:] for x in rows))
    return cache, jax.tree.map(lambda *pair: jnp.concatenate(pair, axis=2), read, rest)


def _visible(i: Int[Array, "N 1"], j: Int[Array, "1 S"], seen: Seen) -> Bool[Array, "#H N S"]:
    return (j >= 0) & (j <= i) & seen(i, j)


def _attended(
    cache: KeyValues, q: Array, k: Array, v: Array, seen: Seen, held: Slots, score: Score
) -> tuple[KeyValues, Part]:
    """Keys of the cache and the queries' own are not put together, which would copy the cache."""
    i, slots = (cache.place + jnp.arange(q.shape[2]))[:, None], cache.k.shape[2]
    met = (
        (cache.k, cache.v, held(cache.place, slots)[None]),
        (k.astype(cache.k.dtype), v.astype(cache.v.dtype), i.T),
    )
    scores = [score(q, keys, i, j) + jnp.where(_visible(i, j, seen), 0, LOWEST) for keys, _, j in met]
    top = jnp.maximum(*(part.max(-1, keepdims=True) for part in scores))
    top = jnp.maximum(top, LOWEST / 2)
    weights = [jnp.exp(part - top) for part in scores]
    total = jnp.maximum(sum(part.sum(-1, keepdims=True) for part in weights), TINY)
    read = (
        product("bhns,bhsv->bhnv", (part / total).astype(values.dtype), values)
        for part, (_, values, _) in zip(weights, met, strict=True)
    )
    y = reduce(jnp.add, read)
    return extended(cache, k, v, held, y), (y.astype(v.dtype), (top + jnp.log(total))[..., 0])


def always(i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
    """Every earlier token is seen."""
    return jnp.ones(jnp.broadcast_shapes(i.shape, j.shape), bool)


def within(reach: int) -> Seen:
    """Tokens at most so many places back are seen."""
    return lambda i, j: i - j <= reach


class Bucketed(NamedTuple):
    """Keys and values of all tokens, and each one's bucket in every round of hashing."""

    cache: KeyValues
    bucket: Int[Array, "B H R S"]

    @property
    def place(self) -> Int[Array, ""]:
        """Of the next token."""
        return self.cache.place


def hashed(
    state: Bucketed, k: Float[Array, "B H N K"], v: Float[Array, "B H N V"], bucket: Int[Array, "B H R N"]
) -> Bucketed:
    """The state of no token, with those that a text begins with."""
    known = lax.dynamic_update_slice_in_dim(state.bucket, bucket, 0, axis=-1)
    return Bucketed(extended(state.cache, k, v), known)


def latest(
    state: Bucketed,
    q: Float[Array, "B H 1 K"],
    k: Float[Array, "B H 1 K"],
    v: Float[Array, "B H 1 V"],
    bucket: Int[Array, "B H R 1"],
    trail: Trail,
) -> tuple[Bucketed, Float[Array, "B H 1 V"]]:
    """With a further token, and what it reads in the latest ones of its bucket: a step of `sorted_attention`."""
    place, own = state.place, (k.astype(state.cache.k.dtype), v.astype(state.cache.v.dtype))
    j = jnp.arange(state.bucket.shape[-1])
    same = (state.bucket == bucket) & (j < place)
    count = 1 + jnp.flip(jnp.flip(same, -1).cumsum(-1), -1)  # of those from there on, itself too
    scores = dot(q, state.cache.k, place[None, None], j[None])
    scores = jnp.where(same & (count <= trail.width + 1), scores, LOWEST)
    itself = dot(q, own[0], place[None, None], place[None, None]) + trail.itself
    itself = jnp.broadcast_to(itself, (*scores.shape[:-1], 1))
    weights = jax.nn.softmax(jnp.concatenate([scores, itself], -1), axis=(2, 3)).sum(2, keepdims=True)
    weights = weights.astype(own[1].dtype)
    y = product("bhns,bhsv->bhnv", weights[..., :-1], state.cache.v) + weights[..., -1:] * own[1]
    known = lax.dynamic_update_slice_in_dim(state.bucket, bucket, behind(place, y), axis=-1)
    return Bucketed(extended(state.cache, k, v, read=y), known), y.astype(v.dtype)
