"""phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K)) for any features phi (arXiv 2006.16236, equation 5): linear in L.

phi is applied to a block of tokens at a time, in float32, and again in the backward pass: the features of all tokens,
[B, H, L, m], never exist. Keys that are not there add nothing. The denominator is at least `floor`.

With rotary positions the features are turned, but not in the denominator (arXiv 2104.09864, equation 19). m is even.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.product import product
from lra_bench.kernels.rotary import rotary, turning

BLOCK = 512  # tokens: their features stay in cache

# Of some tokens' queries or keys, and the tokens' places.
Features = Callable[[Float32[Array, "B H N K"], Int[Array, "N"]], Float32[Array, "B H N m"]]


def feature_attention_reference(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    phi: Features,
    floor: float,
    turned: bool = False,
) -> Float[Array, "B H M V"]:
    """Attention whose weights are phi(q) . phi(k), all M x L of them."""
    q, k = (phi(x.astype(jnp.float32), jnp.arange(x.shape[2])) for x in (q, k))
    weights = jnp.where(mask[:, None, None, :], product("bhmf,bhlf->bhml", q, k), 0)
    total = jnp.maximum(weights.sum(-1, keepdims=True), floor)
    if turned:
        weights = jnp.where(mask[:, None, None, :], product("bhmf,bhlf->bhml", rotary(q), rotary(k)), 0)
    return (product("bhml,bhlv->bhmv", weights, v) / total).astype(v.dtype)


def feature_attention(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    phi: Features,
    floor: float,
    turned: bool = False,
    impl: str = XLA,
) -> Float[Array, "B H M V"]:
    """The same, the keys summed first. `impl` as `impl.chosen` says it."""
    turn = turning(max(q.shape[2], k.shape[2]))
    M, V = q.shape[2], v.shape[3]
    there = mask[:, None, :, None]
    values = jnp.concatenate([jnp.where(there, v, 0), jnp.broadcast_to(there, (*v.shape[:3], 1))], axis=-1)

    @jax.checkpoint
    def sums(k: Array, values: Array, i: Array) -> Float32[Array, "B H m V+1"]:
        f = phi(k.astype(jnp.float32), i)
        if not turned:
            return product("bhlf,bhlv->bhfv", f, values)
        return above_and_below("bhlf,bhlv->bhfv", turn(f, i), f, values)

    @jax.checkpoint
    def read(q: Array, i: Array, memory: Array) -> Float[Array, "B H N V"]:
        f = phi(q.astype(jnp.float32), i)
        if turned:
            mixed = above_and_below("bhmf,bhfv->bhmv", turn(f, i), f, memory)
        else:
            mixed = product("bhmf,bhfv->bhmv", f, memory)
        return (mixed[..., :V] / jnp.maximum(mixed[..., V:], floor)).astype(v.dtype)

    of_keys, of_queries = (_tokens(x, phi, impl) for x in (k, q))
    keys = (_blocks(k, of_keys), _blocks(values, of_keys), _places(k, of_keys))
    shape = jax.eval_shape(sums, *(x[0] for x in keys))
    start = jnp.zeros(shape.shape, shape.dtype)
    memory, _ = lax.scan(lambda total, block: (total + sums(*block), None), start, keys)
    mixed = lax.map(lambda block: read(*block, memory), (_blocks(q, of_queries), _places(q, of_queries)))
    return jnp.moveaxis(mixed, 0, 2).reshape(*v.shape[:2], -1, V)[:, :, :M]


def above_and_below(equation: str, turned: Array, plain: Array, values: Array) -> Float32[Array, "..."]:
    """Of values whose last entry counts for the denominator: the others by `turned` features, that one by `plain`."""
    parts = ((turned, values[..., :-1]), (plain, values[..., -1:]))
    return jnp.concatenate([product(equation, f, part) for f, part in parts], axis=-1)


def _tokens(x: Float[Array, "B H L K"], phi: Features, impl: str) -> int:
    """Of a block."""
    made = jax.eval_shape(phi, jax.ShapeDtypeStruct(x.shape, jnp.float32), jnp.arange(x.shape[2]))
    return at_once(impl, x.shape[2], made.size) or min(BLOCK, x.shape[2])


def _blocks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "N B H size K"]:
    """The length in blocks to be walked over, the last one filled up with zeros."""
    B, H, L, K = x.shape
    return jnp.moveaxis(jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0))).reshape(B, H, -1, size, K), 2, 0)


def _places(x: Float[Array, "B H L K"], size: int) -> Int[Array, "N size"]:
    """Where the tokens of each block stand."""
    L = x.shape[2]
    return jnp.arange(L + -L % size).reshape(-1, size)
