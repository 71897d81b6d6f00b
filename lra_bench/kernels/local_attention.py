"""Softmax attention of token i over the keys j with |i - j| <= w (sliding window, arXiv 2004.05150, section 3.1).

Chunks of queries meet the keys from w before the chunk to w after it, one chunk at a time; the backward pass recomputes
a chunk's weights from the saved logsumexp. Scores are held transposed, [keys, queries], as in `softmax_attention`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST, bias, blocks, join, turn

CHUNK = 64  # queries; with 128 neighbours on each side 1.2 times as fast as 128


def local_attention_reference(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    window: int,
) -> Float[Array, "B H L K"]:
    """Full attention under a band, with all L x L weights in memory."""
    i = jnp.arange(q.shape[2])
    there = mask[:, None, None, :] & (abs(i[:, None] - i[None, :]) <= window)
    scores = jnp.where(there, product("bhmk,bhlk->bhml", q, k) * q.shape[-1] ** -0.5, LOWEST)
    weights = jnp.where(there, jax.nn.softmax(scores, axis=-1), 0)
    return jnp.einsum("bhml,bhlk->bhmk", weights.astype(v.dtype), v)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def local_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    window: int,
) -> Float[Array, "B H L K"]:
    """The same, chunk by chunk. Of the forward pass only the output and its logsumexp are kept."""
    return _forward(q, k, v, mask, window)[0]


def _forward(
    q: Array, k: Array, v: Array, mask: Array, window: int
) -> tuple[Float[Array, "B H L K"], Float[Array, "N B H 1 M"]]:
    L, K = q.shape[2:]
    chunk, w, padded = _sizes(L, window)
    k, v, hidden = _pad(k, w, padded), _pad(v, w, padded), _hidden(mask, w, padded)
    band = _band(chunk, w)

    def queries(block: tuple[Array, Array]) -> tuple[Array, Array]:
        start, qT = block
        key, value, b = (lax.dynamic_slice_in_dim(x, start, chunk + 2 * w, 2) for x in (k, v, hidden))
        scores = product("bhlk,bhkm->bhlm", key, qT) + (b + band)
        top = jnp.maximum(scores.max(-2, keepdims=True), LOWEST / 2)
        weights = jnp.exp(scores - top)
        total = jnp.maximum(weights.sum(-2, keepdims=True), jnp.finfo(jnp.float32).tiny)
        mixed = product("bhkl,bhlm->bhkm", turn(value), weights.astype(v.dtype))
        return turn(mixed / total).astype(q.dtype), top + jnp.log(total)

    out, logsumexp = lax.map(queries, (jnp.arange(0, padded, chunk), turn(blocks(q * K**-0.5, chunk))))
    return join(out, L), logsumexp


def _keep(q: Array, k: Array, v: Array, mask: Array, window: int) -> tuple[Array, Any]:
    out, logsumexp = _forward(q, k, v, mask, window)
    return out, (q, k, v, mask, out, logsumexp)


def _backward(window: int, kept: Any, g: Array) -> tuple[Array, Array, Array, None]:
    q, k, v, mask, out, logsumexp = kept
    L, K = q.shape[2:]
    chunk, w, padded = _sizes(L, window)
    k, v, hidden = _pad(k, w, padded), _pad(v, w, padded), _hidden(mask, w, padded)
    band = _band(chunk, w)
    mean = (g.astype(jnp.float32) * out).sum(-1, keepdims=True)

    def queries(grads: tuple[Array, Array], block: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        start, q, g, lse, mean = block
        key, value, b = (lax.dynamic_slice_in_dim(x, start, chunk + 2 * w, 2) for x in (k, v, hidden))
        weights = jnp.exp(product("bhlk,bhkm->bhlm", key, turn(q)) + (b + band - lse))
        dv = product("bhlm,bhmk->bhlk", weights.astype(g.dtype), g)
        ds = (weights * (product("bhlk,bhkm->bhlm", value, turn(g)) - turn(mean))).astype(q.dtype)
        dk = product("bhlm,bhmk->bhlk", ds, q)
        dq = turn(product("bhkl,bhlm->bhkm", turn(key), ds)) * K**-0.5
        return (_add(grads[0], dk, start), _add(grads[1], dv, start)), dq.astype(q.dtype)

    rows = (blocks(q * K**-0.5, chunk), blocks(g, chunk), logsumexp, blocks(mean, chunk))
    zero = (jnp.zeros(k.shape), jnp.zeros(v.shape))
    (dk, dv), dq = lax.scan(queries, zero, (jnp.arange(0, padded, chunk), *rows))
    return join(dq, L), dk[:, :, w : w + L].astype(k.dtype), dv[:, :, w : w + L].astype(v.dtype), None


local_attention.defvjp(_keep, _backward)


def _sizes(length: int, window: int) -> tuple[int, int, int]:
    """Queries of a chunk, neighbours on each side, and the length filled up to whole chunks."""
    chunk = min(CHUNK, length)
    return chunk, min(window, length), length + -length % chunk


def _pad(x: Float[Array, "B H L K"], w: int, padded: int) -> Float[Array, "B H W K"]:
    """w zeros on the left; on the right w, and what completes the last chunk."""
    return jnp.pad(x, ((0, 0), (0, 0), (w, w + padded - x.shape[2]), (0, 0)))


def _hidden(mask: Bool[Array, "B L"], w: int, padded: int) -> Float[Array, "B 1 W 1"]:
    """0 where there is a key, the lowest logit where there is none, padding included."""
    mask = jnp.pad(mask, ((0, 0), (w, w + padded - mask.shape[1])))
    return bias(mask, mask.shape[1])[0]


def _band(chunk: int, w: int) -> Float[Array, "J I"]:
    """0 where query i of a chunk is at most w from key j of the chunk and its surroundings."""
    i, j = jnp.arange(chunk)[None, :], jnp.arange(chunk + 2 * w)[:, None] - w
    return jnp.where(abs(i - j) <= w, 0, LOWEST).astype(jnp.float32)


def _add(total: Float[Array, "B H W K"], part: Float[Array, "B H J K"], start: Array) -> Float[Array, "B H W K"]:
    """`total` with `part` added from `start` on."""
    old = lax.dynamic_slice_in_dim(total, start, part.shape[2], 2)
    return lax.dynamic_update_slice_in_dim(total, old + part, start, 2)
