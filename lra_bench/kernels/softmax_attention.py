"""softmax(QK^T / sqrt K) V over the keys that are there (arXiv 1706.03762, equation 1), never an L x L array.

The forward pass walks over blocks of keys with a running maximum and sum (online softmax, arXiv 1805.02867); the
backward pass recomputes each block's weights from the saved logsumexp (arXiv 2205.14135). Query blocks are outermost,
so that what is being worked on stays in cache. A row without any key gives 0.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

LOWEST = -1e30  # of a logit that is masked: finite, so that the difference of two is


def softmax_attention_reference(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
) -> Float[Array, "B H M K"]:
    """The equation, with its M x L weights in memory."""
    there = mask[:, None, None, :]
    scores = jnp.einsum("bhmk,bhlk->bhml", q, k, preferred_element_type=jnp.float32) / jnp.sqrt(q.shape[-1])
    weights = jnp.where(there, jax.nn.softmax(jnp.where(there, scores, LOWEST), axis=-1), 0)
    return jnp.einsum("bhml,bhlk->bhmk", weights.astype(v.dtype), v)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def softmax_attention(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    query_block: int = 256,
    key_block: int = 512,
) -> Float[Array, "B H M K"]:
    """The same values block by block; of the forward pass only the output and its logsumexp are kept."""
    return _forward(q, k, v, mask, query_block, key_block)[0]


def _forward(q, k, v, mask, query_block, key_block):  # type: ignore[no-untyped-def]
    B, H, M, K = q.shape
    queries = _blocks(q * K**-0.5, query_block)
    keys, values, bias = _blocks(k, key_block), _blocks(v, key_block), _bias(mask, key_block)

    def rows(query):  # type: ignore[no-untyped-def]
        def step(carry, block):  # type: ignore[no-untyped-def]
            top, total, mixed = carry
            key, value, b = block
            scores = jnp.einsum("bhmk,bhlk->bhml", query, key, preferred_element_type=jnp.float32) + b
            new = jnp.maximum(top, scores.max(-1))
            weights = jnp.exp(scores - new[..., None])
            scale = jnp.exp(top - new)
            mixed = mixed * scale[..., None] + jnp.einsum(
                "bhml,bhlk->bhmk", weights.astype(value.dtype), value, preferred_element_type=jnp.float32
            )
            return (new, total * scale + weights.sum(-1), mixed), None

        shape = query.shape[:-1]
        start = (jnp.full(shape, LOWEST / 2), jnp.zeros(shape), jnp.zeros(query.shape))
        (top, total, mixed), _ = lax.scan(step, start, (keys, values, bias))
        total = jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
        return (mixed / total[..., None]).astype(q.dtype), top + jnp.log(total)

    out, logsumexp = lax.map(rows, queries)
    return _join(out, M), logsumexp


def _keep(q, k, v, mask, query_block, key_block):  # type: ignore[no-untyped-def]
    out, logsumexp = _forward(q, k, v, mask, query_block, key_block)
    return out, (q, k, v, mask, out, logsumexp)


def _backward(query_block, key_block, kept, g):  # type: ignore[no-untyped-def]
    q, k, v, mask, out, logsumexp = kept
    scale = q.shape[-1] ** -0.5
    keys, values, bias = _blocks(k, key_block), _blocks(v, key_block), _bias(mask, key_block)
    drop = (g.astype(jnp.float32) * out).sum(-1, keepdims=True)
    f32 = {"preferred_element_type": jnp.float32}

    def rows(carry, block):  # type: ignore[no-untyped-def]
        query, grad, lse, delta = block

        def step(dq, block):  # type: ignore[no-untyped-def]
            key, value, b = block
            scores = jnp.einsum("bhmk,bhlk->bhml", query, key, **f32) + b
            weights = jnp.exp(scores - lse[..., None])
            dv = jnp.einsum("bhml,bhmk->bhlk", weights.astype(grad.dtype), grad, **f32)
            dw = jnp.einsum("bhmk,bhlk->bhml", grad, value, **f32)
            ds = (weights * (dw - delta)).astype(query.dtype)
            dk = jnp.einsum("bhml,bhmk->bhlk", ds, query, **f32)
            return dq + jnp.einsum("bhml,bhlk->bhmk", ds, key, **f32), (dk, dv)

        dq, grads = lax.scan(step, jnp.zeros(query.shape), (keys, values, bias))
        return jax.tree.map(jnp.add, carry, grads), (dq * scale).astype(q.dtype)

    start = (jnp.zeros(keys.shape), jnp.zeros(values.shape))
    blocks = (_blocks(q * scale, query_block), _blocks(g, query_block), logsumexp, _blocks(drop, query_block))
    (dk, dv), dq = lax.scan(rows, start, blocks)
    L = k.shape[2]
    return _join(dq, q.shape[2]), _join(dk, L).astype(k.dtype), _join(dv, L).astype(v.dtype), None


def _blocks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "N B H size K"]:
    """Cut the length into blocks, filled up with zeros."""
    B, H, L, K = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0)))
    return jnp.moveaxis(x.reshape(B, H, -1, size, K), 2, 0)


def _join(blocks: Float[Array, "N B H size K"], length: int) -> Float[Array, "B H L K"]:
    """The inverse of `_blocks`."""
    N, B, H, size, K = blocks.shape
    return jnp.moveaxis(blocks, 0, 2).reshape(B, H, N * size, K)[:, :, :length]


def _bias(mask: Bool[Array, "B L"], size: int) -> Float[Array, "N B 1 1 size"]:
    """0 where there is a key, the lowest logit where there is none."""
    mask = jnp.pad(mask, ((0, 0), (0, -mask.shape[1] % size)))
    blocks = jnp.moveaxis(mask.reshape(mask.shape[0], -1, size), 1, 0)
    return jnp.where(blocks, 0, LOWEST)[:, :, None, None, :].astype(jnp.float32)


softmax_attention.defvjp(_keep, _backward)
