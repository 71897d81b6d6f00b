"""softmax(q_i . k_j / sqrt K) v_j over keys that stand at places of each query's own, [W] of them: no M x L array.

The places are made of a number a query, its center, so that windows can lie anywhere: along a line of another slope
than that of queries and keys, for one. A block of queries at a time gathers its keys, and again in the backward pass. A
block is so large that its keys are about as many as all keys are: the sum of their gradients is then linear in L, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST

FEWEST = 32  # queries of a block
TINY = float(jnp.finfo(jnp.float32).tiny)

Places = Callable[[Int[Array, "B M"]], Int[Array, "B M W"]]  # of the keys, by the queries' centers; some may be none


def gathered_attention_reference(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    center: Int[Array, "B M"],
    places: Places,
) -> Float[Array, "B H M V"]:
    """The equation, with all M x L weights in memory."""
    seen = (places(center)[..., None] == jnp.arange(k.shape[2])).any(2) & mask[:, None]
    scores = jnp.where(seen[:, None], product("bhmk,bhlk->bhml", q, k) * q.shape[-1] ** -0.5, LOWEST)
    weights = jnp.where(seen[:, None], jax.nn.softmax(scores, axis=-1), 0)
    return product("bhml,bhlv->bhmv", weights.astype(v.dtype), v).astype(v.dtype)


def gathered_attention(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    center: Int[Array, "B M"],
    places: Places,
    impl: str = XLA,
) -> Float[Array, "B H M V"]:
    """The same, block by block.

    Args:
        mask: True where there is a key. A query that meets none gives 0.
        center: of each query.
        places: of the keys that it meets, none of them twice; one below 0 or beyond the last key is left out.
        impl: as `impl.chosen` says it, but no kernel.
    """
    B, H, M, K = q.shape
    L, W = k.shape[2], jax.eval_shape(places, center).shape[-1]
    size = min(M, at_once(impl, M, B * H * M * W * K) or max(FEWEST, -(-L // W)))
    q = jnp.moveaxis(_filled(q, 2, size).reshape(B, H, -1, size, K), 2, 0)
    center = jnp.moveaxis(_filled(center, 1, size).reshape(B, -1, size), 1, 0)
    step = jax.checkpoint(lambda block: _attend(block[0], k, v, mask, places(block[1])))
    y = jnp.moveaxis(lax.map(step, (q, center)), 0, 2)
    return y.reshape(B, H, -1, v.shape[-1])[:, :, :M]


def _filled(x: Array, axis: int, size: int) -> Array:
    """With zeros behind, up to whole blocks."""
    room = [(0, 0)] * x.ndim
    room[axis] = (0, -x.shape[axis] % size)
    return jnp.pad(x, room)


def _attend(q: Array, k: Array, v: Array, mask: Array, at: Int[Array, "B m W"]) -> Float[Array, "B H m V"]:
    L = k.shape[2]
    inside = (at >= 0) & (at < L)
    at = jnp.clip(at, 0, L - 1)
    key, value = (jax.vmap(partial(jnp.take, axis=1, mode="clip"))(x, at) for x in (k, v))
    seen = (inside & jnp.take_along_axis(mask[:, None], at, axis=2))[:, None]
    scores = jnp.where(seen, product("bhmk,bhmwk->bhmw", q * q.shape[-1] ** -0.5, key), LOWEST)
    weights = jnp.where(seen, jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True))), 0)
    total = jnp.maximum(weights.sum(-1, keepdims=True), TINY)
    return product("bhmw,bhmwv->bhmv", (weights / total).astype(v.dtype), value).astype(v.dtype)
