"""softmax(QK^T / sqrt K) V over the keys that are there (arXiv 1706.03762, equation 1), never an M x L array.

The forward pass walks over blocks of keys with a running maximum and sum (online softmax, arXiv 1805.02867); the
backward pass recomputes a block's weights from the saved logsumexp (arXiv 2205.14135). A row without any key gives 0.

Scores are held transposed, [keys, queries]: a softmax then reduces over the major axis, which vectorises, and all seven
products have their long operand row by row. On a CPU that is 1.6 times as fast as the usual way round.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.impl import XLA, at_once, fused
from lra_bench.kernels.product import inner, product

FEWEST = 128  # queries of a block of `batched`
QUERIES, KEYS = 256, 512  # of a block: its scores stay in cache; half or twice of either is as fast within 10%
ATTENDED = "attended"  # output and logsumexp, as a policy of `jax.checkpoint` calls them
KEEP_ATTENDED = jax.checkpoint_policies.save_only_these_names(ATTENDED)
LOWEST = -1e30  # a masked logit: finite, so that the difference of two is


def softmax_attention_reference(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    causal: bool = False,
) -> Float[Array, "B H M K"]:
    """The equation, with all M x L weights in memory; a causal query sees no key that stands after it."""
    there = mask[:, None, None, :]
    if causal:
        there = there & np.tri(q.shape[2], k.shape[2], dtype=bool)
    scores = jnp.where(there, product("bhmk,bhlk->bhml", q, k) * q.shape[-1] ** -0.5, LOWEST)
    weights = jnp.where(there, jax.nn.softmax(scores, axis=-1), 0)
    return jnp.einsum("bhml,bhlk->bhmk", weights.astype(v.dtype), v)


def softmax_attention(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    impl: str = XLA,
    causal: bool = False,
) -> Float[Array, "B H M V"]:
    """The same, block by block. Of the forward pass only the output and its logsumexp are kept."""
    return softmax_attention_part(q, k, v, mask, impl, causal)[0]


def softmax_attention_part(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    impl: str = XLA,
    causal: bool = False,
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    """The same, and the logsumexp of each query's logits, to be joined with attention over other keys.

    Args:
        mask: True where there is a key.
        impl: as `impl.chosen` says it.
        causal: no key that stands after a query is seen; blocks of such keys are left out.
    """
    if fused(impl):
        from lra_bench.kernels.block_attention_pallas import block_attention_pallas
        from lra_bench.kernels.patterns import Everything

        return block_attention_pallas(q, k, v, mask, Everything(causal=causal), impl=impl)
    return _attend(q, k, v, mask, impl, causal)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(
    q: Array, k: Array, v: Array, mask: Array, impl: str, causal: bool
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    out, logsumexp = _forward(q, k, v, mask, impl, causal)
    return out, join(turn(logsumexp), q.shape[2])[..., 0]


def _forward(
    q: Array, k: Array, v: Array, mask: Array, impl: str, causal: bool
) -> tuple[Float[Array, "B H M V"], Float[Array, "N B H 1 m"]]:
    B, H, M, K = q.shape
    m, n = _sizes(q, k, impl)
    keys = (blocks(k, n), turn(blocks(v, n)), bias(mask, n))
    earlier = Earlier(m, n) if causal else None

    def queries(block: tuple[Array, Array]) -> tuple[Array, Array]:
        qT, number = block

        def step(carry: tuple[Array, Array, Array], block: tuple[Array, Array, Array, Array]) -> tuple[Any, None]:
            top, total, mixed = carry
            k, vT, b, key_number = block
            scores = product("bhlk,bhkm->bhlm", k, qT) + b
            if earlier:
                scores = scores + earlier.bias(number, key_number)
            new = jnp.maximum(top, scores.max(-2, keepdims=True))
            weights, old = jnp.exp(scores - new), jnp.exp(top - new)
            mixed = mixed * old + product("bhkl,bhlm->bhkm", vT, weights.astype(vT.dtype))
            return (new, total * old + weights.sum(-2, keepdims=True), mixed), None

        start = (jnp.full((B, H, 1, m), LOWEST / 2), jnp.zeros((B, H, 1, m)), jnp.zeros((B, H, v.shape[-1], m)))
        (top, total, mixed), _ = lax.scan(met(step, earlier, number), start, (*keys, numbers(keys)))
        total = jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
        return turn(mixed / total).astype(q.dtype), top + jnp.log(total)

    rows = turn(blocks(q * K**-0.5, m))
    out, logsumexp = lax.map(queries, (rows, numbers(rows)))
    return join(out, M), logsumexp


def _sizes(q: Array, k: Array, impl: str) -> tuple[int, int]:
    """Queries and keys of a block."""
    (B, H, M, _), L = q.shape, k.shape[2]
    some = at_once(impl, M, B * H * M * L)
    return (even(M, QUERIES), even(L, KEYS)) if some is None else (even(M, max(some, FEWEST)), L)


def _keep(q: Array, k: Array, v: Array, mask: Array, impl: str, causal: bool) -> tuple[tuple[Array, Array], Any]:
    out, logsumexp = (checkpoint_name(x, ATTENDED) for x in _forward(q, k, v, mask, impl, causal))
    part = out, join(turn(logsumexp), q.shape[2])[..., 0]
    return part, (q, k, v, mask, out, logsumexp)


def _backward(impl: str, causal: bool, kept: Any, pulled: tuple[Array, Array]) -> tuple[Array, Array, Array, None]:
    q, k, v, mask, out, logsumexp = kept
    g, g_logsumexp = pulled
    (M, K), L = q.shape[2:], k.shape[2]
    m, n = _sizes(q, k, impl)
    keys = (blocks(k, n), turn(blocks(k, n)), blocks(v, n), bias(mask, n))
    mean = (inner(g, out) - g_logsumexp)[..., None]
    earlier = Earlier(m, n) if causal else None

    def queries(carry: Any, block: tuple[Array, ...]) -> tuple[Any, Array]:
        q, g, lse, mean, number = block
        qT, gT, meanT = turn(q), turn(g), turn(mean)

        def step(dqT: Array, block: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            k, kT, v, b, key_number = block
            b = b + earlier.bias(number, key_number) if earlier else b
            weights = jnp.exp(product("bhlk,bhkm->bhlm", k, qT) + (b - lse))
            dv = product("bhlm,bhmk->bhlk", weights.astype(g.dtype), g)
            ds = (weights * (product("bhlk,bhkm->bhlm", v, gT) - meanT)).astype(q.dtype)
            dk = product("bhlm,bhmk->bhlk", ds, q)
            return dqT + product("bhkl,bhlm->bhkm", kT, ds), (dk, dv)

        dqT, grads = lax.scan(met(step, earlier, number), jnp.zeros(qT.shape), (*keys, numbers(keys)))
        return jax.tree.map(jnp.add, carry, grads), turn(dqT * K**-0.5).astype(q.dtype)

    start = (jnp.zeros(keys[0].shape), jnp.zeros(keys[2].shape))
    rows = (blocks(q * K**-0.5, m), blocks(g, m), logsumexp, blocks(mean, m))
    (dk, dv), dq = lax.scan(queries, start, (*rows, numbers(rows)))
    return join(dq, M), join(dk, L).astype(k.dtype), join(dv, L).astype(v.dtype), None


_attend.defvjp(_keep, _backward)


class Earlier(NamedTuple):
    """Blocks of queries and of keys, none of which is seen by a query before it."""

    queries: int  # of a block
    keys: int

    def bias(self, query_block: Array, key_block: Array) -> Float32[Array, "l m"]:
        """What is added to a block's logits: the lowest where the key stands after the query."""
        i = query_block * self.queries + jnp.arange(self.queries)
        j = key_block * self.keys + jnp.arange(self.keys)
        return jnp.where(j[:, None] > i, LOWEST, 0).astype(jnp.float32)

    def meet(self, query_block: Array, key_block: Array) -> Bool[Array, ""]:
        """Does any of the queries see any of the keys?"""
        return key_block * self.keys < (query_block + 1) * self.queries


def met(step: Callable[[Any, Any], tuple[Any, Any]], earlier: Earlier | None, number: Array) -> Callable[..., Any]:
    """The step over a block of keys, the block's number last; nothing is done where no query of the block sees one."""
    if earlier is None:
        return step

    def otherwise(carry: Any, block: Any) -> tuple[Any, Any]:
        return carry, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, carry, block)[1])

    return lambda carry, block: lax.cond(earlier.meet(number, block[-1]), step, otherwise, carry, block)


def numbers(rows: Any) -> Int[Array, " N"]:
    """Of blocks that are walked over."""
    return jnp.arange(len(jax.tree.leaves(rows)[0]))


def even(length: int, most: int) -> int:
    """The size of blocks of at most `most` that fill the length with the least left over."""
    return -(-length // -(-length // most))


def blocks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "N B H size K"]:
    """Cut the length into blocks, the last one filled up with zeros."""
    B, H, L, K = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0)))
    return jnp.moveaxis(x.reshape(B, H, -1, size, K), 2, 0)


def join(x: Float[Array, "N B H size K"], length: int) -> Float[Array, "B H L K"]:
    """What `blocks` was given."""
    N, B, H, size, K = x.shape
    return jnp.moveaxis(x, 0, 2).reshape(B, H, N * size, K)[:, :, :length]


def turn(x: Float[Array, "... M K"]) -> Float[Array, "... K M"]:
    """The transpose."""
    return jnp.swapaxes(x, -1, -2)


def bias(mask: Bool[Array, "B L"], size: int) -> Float[Array, "N B 1 size 1"]:
    """By blocks: 0 where there is a key, the lowest logit where there is none."""
    mask = jnp.pad(mask, ((0, 0), (0, -mask.shape[1] % size)))
    lowest = jnp.where(mask.reshape(len(mask), -1, size), 0, LOWEST).astype(jnp.float32)
    return jnp.moveaxis(lowest, 1, 0)[:, :, None, :, None]
