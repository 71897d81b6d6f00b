"""States of attention that decodes: all keys and values, the latest ones in a ring, or those that a pattern sees."""

from __future__ import annotations

from collections.abc import Callable
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
Held = Callable[[Int[Array, ""], int], Int[Array, " S"]]  # of the tokens seen, and of the slots: each slot's place
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
    """Keys and values of the tokens that can still be seen; which slot has whose, its `Held` says: as a rule a ring."""

    k: Float[Array, "B H S K"]
    v: Float[Array, "B H S V"]
    place: Int[Array, ""]  # of the next token: so many were seen

    @property
    def places(self) -> Int[Array, " S"]:
        """Of the token in each slot of a ring."""
        return ring(self.place, self.k.shape[2])


def empty(mixer: HeadsMixer, batch: int, slots: int, heads: int | None = None) -> KeyValues:
    """No token yet; room for the keys and values of `slots`, in the dtype that the mixer computes in.

    Args:
        heads: so many; None: all.
    """
    rows = (batch, mixer.heads if heads is None else heads, slots)
    return room(rows, (mixer.head_width, mixer.head_width), mixer.dtype)


def room(rows: tuple[int, int, int], widths: tuple[int, int], dtype: str) -> KeyValues:
    """The same of batch, heads and slots, for keys and values of these widths."""
    k, v = (jnp.zeros((*rows, width), dtype) for width in widths)
    return KeyValues(k, v, jnp.zeros((), jnp.int32))


def extended(cache: KeyValues, k: Float[Array, "B H N K"], v: Float[Array, "B H N V"], held: Held = ring) -> KeyValues:
    """With N further tokens, of which those are kept that the slots then hold."""
    N, slots = k.shape[2], cache.k.shape[2]
    if held is not ring:
        at = held(cache.place + N, slots) - cache.place
        return KeyValues(_chosen(cache.k, k, at), _chosen(cache.v, v, at), cache.place + N)
    first = max(N - slots, 0)
    at = (cache.place + jnp.arange(first, N)) % slots
    k, v = (old.at[:, :, at].set(new[:, :, first:].astype(old.dtype)) for old, new in ((cache.k, k), (cache.v, v)))
    return KeyValues(k, v, cache.place + N)


def _chosen(old: Array, new: Array, at: Int[Array, " S"]) -> Array:
    """The new ones at the indices that are none below 0."""
    rows = jnp.take(new, jnp.maximum(at, 0), axis=2, mode="clip").astype(old.dtype)
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
    held: Held = ring,
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
    held: Held = ring,
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
        keys, values, i, j = _met(cache, q, k, v, ring)
        weights = weigh(q, keys, _visible(i, j, seen), i - j)
        y = product("bhns,bhsv->bhnv", weights.astype(values.dtype), values)
        return extended(cache, k, v), y.astype(v.dtype)

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


def _met(
    cache: KeyValues, q: Array, k: Array, v: Array, held: Held
) -> tuple[Array, Array, Int[Array, "N 1"], Int[Array, "1 S"]]:
    """Keys and values of the cache and of the queries' own tokens, and the places of queries and keys."""
    i = cache.place + jnp.arange(q.shape[2])
    j = jnp.concatenate([held(cache.place, cache.k.shape[2]), i])
    keys, values = (jnp.concatenate([old, new.astype(old.dtype)], axis=2) for old, new in ((cache.k, k), (cache.v, v)))
    return keys, values, i[:, None], j[None]


def _visible(i: Int[Array, "N 1"], j: Int[Array, "1 S"], seen: Seen) -> Bool[Array, "#H N S"]:
    return (j >= 0) & (j <= i) & seen(i, j)


def _attended(
    cache: KeyValues, q: Array, k: Array, v: Array, seen: Seen, held: Held, score: Score
) -> tuple[KeyValues, Part]:
    keys, values, i, j = _met(cache, q, k, v, held)
    scores = score(q, keys, i, j) + jnp.where(_visible(i, j, seen), 0, LOWEST)
    top = jnp.maximum(scores.max(-1, keepdims=True), LOWEST / 2)
    weights = jnp.exp(scores - top)
    total = jnp.maximum(weights.sum(-1, keepdims=True), TINY)
    y = product("bhns,bhsv->bhnv", (weights / total).astype(values.dtype), values).astype(v.dtype)
    return extended(cache, k, v, held), (y, (top + jnp.log(total))[..., 0])


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


def latest(
    state: Bucketed,
    q: Float[Array, "B H 1 K"],
    k: Float[Array, "B H 1 K"],
    v: Float[Array, "B H 1 V"],
    bucket: Int[Array, "B H R 1"],
    trail: Trail,
) -> tuple[Bucketed, Float[Array, "B H 1 V"]]:
    """With a further token, and what it reads in the latest ones of its bucket: a step of `sorted_attention`."""
    place = state.place
    cache, known = extended(state.cache, k, v), state.bucket.at[..., place].set(bucket[..., 0])
    j = jnp.arange(known.shape[-1])
    same = (known == bucket) & (j <= place)
    count = jnp.flip(jnp.flip(same, -1).cumsum(-1), -1)
    scores = dot(q, cache.k, place[None, None], j[None]) + jnp.where(j == place, trail.itself, 0)
    scores = jnp.where(same & (count <= trail.width + 1), scores, LOWEST)
    weights = jax.nn.softmax(scores, axis=(2, 3)).sum(2, keepdims=True)
    y = product("bhns,bhsv->bhnv", weights.astype(cache.v.dtype), cache.v).astype(v.dtype)
    return Bucketed(cache, known), y
