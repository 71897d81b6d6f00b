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
    shape = (batch, mixer.heads, slots, mixer.head_width)
    return KeyValues(jnp.zeros(shape, mixer.dtype), jnp.zeros(shape, mixer.dtype), jnp.zeros((), jnp.int32))


def extended(cache: KeyValues, k: Float[Array, "B H N K"], v: Float[Array, "B H N V"]) -> KeyValues:
    """With N further tokens, of which a ring keeps the last ones."""
    N, slots = k.shape[2], cache.k.shape[2]
    first = max(N - slots, 0)
    at = (cache.place + jnp.arange(first, N)) % slots
    k, v = (
        old.at[:, :, at].set(new[:, :, first:].astype(old.dtype)) for old, new in ((cache.k, k), (cache.v, v))
    )
    return KeyValues(k, v, cache.place + N)


def attended(
    cache: KeyValues, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N V"], seen: Seen
) -> tuple[KeyValues, Float[Array, "B H N V"]]:
    """The cache with N further tokens, and what their queries read in it and in each other.

    Args:
        seen: whether a query at place i sees a key at place j, where j <= i; True for each head, or for all.
    """
    slots, blocks = cache.k.shape[2], q.shape[2] // QUERIES

    def some(cache: KeyValues, block: tuple[Array, Array, Array]) -> tuple[KeyValues, Array]:
        return _attended(cache, *block, seen)

    if blocks < 2 or slots < QUERIES:
        return _attended(cache, q, k, v, seen)
    whole = blocks * QUERIES
    cut = tuple(jnp.moveaxis(x[:, :, :whole].reshape(*x.shape[:2], blocks, QUERIES, -1), 2, 0) for x in (q, k, v))
    cache, out = lax.scan(some, cache, cut)
    out = jnp.moveaxis(out, 0, 2).reshape(*q.shape[:2], whole, -1)
    if whole == q.shape[2]:
        return cache, out
    cache, rest = _attended(cache, *(x[:, :, whole:] for x in (q, k, v)), seen)
    return cache, jnp.concatenate([out, rest], axis=2)


def _attended(cache: KeyValues, q: Array, k: Array, v: Array, seen: Seen) -> tuple[KeyValues, Array]:
    i = (cache.place + jnp.arange(q.shape[2]))[:, None]
    old = cache.places[None]
    new = i.T
    bias = jnp.concatenate([_bias(i, old, seen) , _bias(i, new, seen)], axis=-1)
    keys = jnp.concatenate([cache.k, k.astype(cache.k.dtype)], axis=2)
    values = jnp.concatenate([cache.v, v.astype(cache.v.dtype)], axis=2)
    scores = product("bhnk,bhsk->bhns", q * q.shape[-1] ** -0.5, keys) + bias
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return extended(cache, k, v), product("bhns,bhsv->bhnv", weights, values).astype(v.dtype)


def _bias(i: Int[Array, "N 1"], j: Int[Array, "1 S"], seen: Seen) -> Float[Array, "#H N S"]:
    return jnp.where((j >= 0) & (j <= i) & seen(i, j), 0, LOWEST).astype(jnp.float32)


def always(i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
    """Every earlier token is seen."""
    return jnp.ones(jnp.broadcast_shapes(i.shape, j.shape), bool)
