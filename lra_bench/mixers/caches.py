"""States of attention that decodes: all keys and values, or the latest ones in a ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST
from lra_bench.mixers.heads import HeadsMixer

QUERIES = 256  # of a block: their scores against the whole cache are in memory at once

Seen = Callable[[Int[Array, "N 1"], Int[Array, "1 S"]], Bool[Array, "#H N S"]]  # of a query's place and a key's

# Weights [B, H, N, S] of queries and keys, of which is seen, and of the distances from a query back to a key.
Weigh = Callable[
    [Float[Array, "B H N K"], Float[Array, "B H S K"], Bool[Array, "#H N S"], Int[Array, "N S"]],
    Float[Array, "B H N S"],
]


class KeyValues(NamedTuple):
    """Keys and values of the tokens that can still be seen, the one at place p in the slot p mod S."""

    k: Float[Array, "B H S K"]
    v: Float[Array, "B H S V"]
    place: Int[Array, ""]  # of the next token: so many were seen

    @property
    def places(self) -> Int[Array, " S"]:
        """Of the token in each slot; below 0 where there was none yet."""
        slots, newest = jnp.arange(self.k.shape[2]), self.place - 1
        return newest - (newest - slots) % self.k.shape[2]


def empty(mixer: HeadsMixer, batch: int, slots: int) -> KeyValues:
    """No token yet; room for the keys and values of `slots`, in the dtype that the mixer computes in."""
    return room((batch, mixer.heads, slots), (mixer.head_width, mixer.head_width), mixer.dtype)


def room(rows: tuple[int, int, int], widths: tuple[int, int], dtype: str) -> KeyValues:
    """The same of batch, heads and slots, for keys and values of these widths."""
    k, v = (jnp.zeros((*rows, width), dtype) for width in widths)
    return KeyValues(k, v, jnp.zeros((), jnp.int32))


def extended(cache: KeyValues, k: Float[Array, "B H N K"], v: Float[Array, "B H N V"]) -> KeyValues:
    """With N further tokens, of which a ring keeps the last ones."""
    N, slots = k.shape[2], cache.k.shape[2]
    first = max(N - slots, 0)
    at = (cache.place + jnp.arange(first, N)) % slots
    k, v = (old.at[:, :, at].set(new[:, :, first:].astype(old.dtype)) for old, new in ((cache.k, k), (cache.v, v)))
    return KeyValues(k, v, cache.place + N)


def by_softmax(
    q: Float[Array, "B H N K"], k: Float[Array, "B H S K"], seen: Bool[Array, "#H N S"], distance: Int[Array, "N S"]
) -> Float[Array, "B H N S"]:
    """softmax(q k^T / sqrt K), wherever the keys are."""
    return softmax(product("bhnk,bhsk->bhns", q * q.shape[-1] ** -0.5, k), seen)


def softmax(scores: Float[Array, "B H N S"], seen: Bool[Array, "#H N S"]) -> Float[Array, "B H N S"]:
    """Over the keys that are seen."""
    return jax.nn.softmax(scores + jnp.where(seen, 0, LOWEST).astype(jnp.float32), axis=-1)


def attended(
    cache: KeyValues,
    q: Float[Array, "B H N K"],
    k: Float[Array, "B H N K"],
    v: Float[Array, "B H N V"],
    seen: Seen,
    weigh: Weigh = by_softmax,
) -> tuple[KeyValues, Float[Array, "B H N V"]]:
    """The cache with N further tokens, and what their queries read in it and in each other.

    Args:
        seen: whether a query at place i sees a key at place j, where j <= i; True for each head, or for all.
        weigh: how much a query takes of each key's value.
    """
    blocks = q.shape[2] // QUERIES

    def some(cache: KeyValues, block: tuple[Array, ...]) -> tuple[KeyValues, Array]:
        q, k, v = block
        return _attended(cache, q, k, v, seen, weigh)

    if blocks < 2:
        return _attended(cache, q, k, v, seen, weigh)
    whole = blocks * QUERIES
    cut = tuple(jnp.moveaxis(x[:, :, :whole].reshape(*x.shape[:2], blocks, QUERIES, -1), 2, 0) for x in (q, k, v))
    cache, out = lax.scan(some, cache, cut)
    out = jnp.moveaxis(out, 0, 2).reshape(*q.shape[:2], whole, -1)
    if whole == q.shape[2]:
        return cache, out
    cache, rest = some(cache, tuple(x[:, :, whole:] for x in (q, k, v)))
    return cache, jnp.concatenate([out, rest], axis=2)


def _attended(
    cache: KeyValues, q: Array, k: Array, v: Array, seen: Seen, weigh: Weigh
) -> tuple[KeyValues, Float[Array, "B H N V"]]:
    i = (cache.place + jnp.arange(q.shape[2]))[:, None]
    j = jnp.concatenate([cache.places, i[:, 0]])[None]
    keys = jnp.concatenate([cache.k, k.astype(cache.k.dtype)], axis=2)
    values = jnp.concatenate([cache.v, v.astype(cache.v.dtype)], axis=2)
    weights = weigh(q, keys, (j >= 0) & (j <= i) & seen(i, j), i - j).astype(values.dtype)
    return extended(cache, k, v), product("bhns,bhsv->bhnv", weights, values).astype(v.dtype)


def always(i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
    """Every earlier token is seen."""
    return jnp.ones(jnp.broadcast_shapes(i.shape, j.shape), bool)
