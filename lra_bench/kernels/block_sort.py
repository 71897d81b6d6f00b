"""Blocks of tokens sorted by a doubly stochastic matrix, a soft permutation, and attention to what was sorted (arXiv
2002.11296, section 3).

A sorted token is the mean of the tokens that are there; the permutation's share of them is a factor of its weight.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Shaped

from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.patterns import Pairs
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import KEEP_ATTENDED, LOWEST, softmax_attention

LEAST = 1e-6  # of a sorted token; what has less is not there


def sinkhorn_reference(
    logits: Float[Array, "B H N N"], there: Bool[Array, "B N"], iterations: int
) -> Float32[Array, "B H N N"]:
    """Rows, then columns, are divided by their sums, again and again; rows and columns that are not there are zero."""
    pair = there[:, None, :, None] & there[:, None, None, :]
    matrix = jnp.where(pair, jnp.exp(logits.astype(jnp.float32)), 0)
    for _ in range(iterations):
        for axis in (-1, -2):
            total = matrix.sum(axis, keepdims=True)
            matrix = matrix / jnp.where(total > 0, total, 1)
    return matrix


def sinkhorn(
    logits: Float[Array, "B H N N"], there: Bool[Array, "B N"], iterations: int, causal: bool = False
) -> Float32[Array, "B H N N"]:
    """The same, in logarithms.

    Args:
        causal: a row has the columns before it only, and a column's sum is that of the rows up to each (section 3.3).
    """
    pair = there[:, None, :, None] & there[:, None, None, :]
    pair = pair & np.tri(logits.shape[-1], k=-1, dtype=bool) if causal else pair
    log = jnp.where(pair, logits.astype(jnp.float32), LOWEST)
    for _ in range(iterations):
        log = jnp.where(pair, log - jax.nn.logsumexp(log, axis=-1, keepdims=True), LOWEST)
        total = lax.cumlogsumexp(log, axis=2) if causal else jax.nn.logsumexp(log, axis=-2, keepdims=True)
        log = jnp.where(pair, log - total, LOWEST)
    return jnp.exp(log)


def sinkhorn_row(
    logits: Float[Array, "B H N"], totals: Float32[Array, "T B H N"], row: Int[Array, ""]
) -> tuple[Float32[Array, "B H N"], Float32[Array, "T B H N"]]:
    """The next row of the causal one, and the logarithms of the columns' sums at each of T iterations with it."""

    def normalized(log: Array, total: Array) -> tuple[Array, Array]:
        log = jnp.where(before, log - jax.nn.logsumexp(log, axis=-1, keepdims=True), LOWEST)
        total = jnp.logaddexp(total, log)
        return jnp.where(before, log - total, LOWEST), total

    before = jnp.arange(logits.shape[-1]) < row
    log, totals = lax.scan(normalized, jnp.where(before, logits.astype(jnp.float32), LOWEST), totals)
    return jnp.exp(log), totals


def sorted_attention_reference(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B N b"],
    permutation: Float32[Array, "B H M N"],
    cut: bool,
) -> Float[Array, "B H L V"]:
    """All logits of a block, or of all tokens where the sort is cut, in one softmax."""
    q, k, v = (x.reshape(*x.shape[:2], *mask.shape[1:], x.shape[-1]).astype(jnp.float32) for x in (q, k, v))
    weights = permutation[..., None] * mask[:, None, None]
    share = weights.sum(3)
    mean = weights / jnp.where(share > LEAST, share, 1)[:, :, :, None]
    keys, values = ((mean[..., None] * x[:, :, None]).sum(3) for x in (k, v))
    logits = jnp.where(share > LEAST, jnp.log(jnp.maximum(share, LEAST)), LOWEST)
    if cut:
        B, H, N = q.shape[:3]
        keys, values = (x.reshape(B, H, 1, -1, x.shape[-1]).repeat(N, 2) for x in (keys, values))
        logits = logits.reshape(B, H, 1, -1).repeat(N, 2)
    else:
        keys, values = jnp.concatenate([k, keys], axis=3), jnp.concatenate([v, values], axis=3)
        own = jnp.broadcast_to(jnp.where(mask, 0, LOWEST)[:, None], logits.shape)
        logits = jnp.concatenate([own, logits], axis=3)
    scores = jnp.einsum("bhntk,bhnsk->bhnts", q, keys) * q.shape[-1] ** -0.5 + logits[:, :, :, None]
    weights = jnp.where(logits[:, :, :, None] > LOWEST / 2, jax.nn.softmax(scores, axis=-1), 0)
    y = jnp.einsum("bhnts,bhnsv->bhntv", weights, values)
    return y.reshape(*y.shape[:2], -1, y.shape[-1])


def sorted_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B N b"],
    permutation: Float32[Array, "B H M N"],
    cut: bool,
    impl: str,
    causal: bool = False,
) -> Float[Array, "B H L V"]:
    """Attention of each block to itself and to the block that was sorted to its place; L = N b. For the backward pass
    the arguments are kept, and the output.

    Args:
        permutation: of N blocks; where `cut` is true, its first M rows only.
        cut: attention of all tokens to all sorted blocks instead, and to nothing else.
        impl: as `impl.chosen` says it.
        causal: of its own block a token sees those up to itself. What is sorted is then of earlier blocks.
    """
    attend = _to_all_sorted if cut else partial(_to_own_and_sorted, causal=causal)
    return jax.checkpoint(partial(attend, impl=impl), policy=KEEP_ATTENDED)(q, k, v, mask, permutation)


def _to_all_sorted(
    q: Array, k: Array, v: Array, mask: Array, permutation: Array, *, impl: str
) -> Float[Array, "B H L V"]:
    return softmax_attention(*_part(q, _cleared(k, v, mask), mask, permutation), impl).reshape(*q.shape[:3], -1)


def _to_own_and_sorted(
    q: Array, k: Array, v: Array, mask: Array, permutation: Array, *, impl: str, causal: bool
) -> Float[Array, "B H L V"]:
    (B, H, L, K), size, both = q.shape, mask.shape[2], _cleared(k, v, mask)
    asking, *others = _part(q, both, mask, permutation)
    k, v = (x.reshape(B * H, 1, L, -1) for x in jnp.split(both, [K], axis=-1))
    there = jnp.repeat(mask.reshape(B, 1, L), H, axis=1).reshape(B * H, 1, L, 1)
    own = jnp.pad(k, ((0, 0), (0, 0), (0, 0), (0, 1))), v, there  # each counts once: the logarithm is 0
    keys, values, there = (_in_turn(one, other, size) for one, other in zip(own, others, strict=True))
    i = jnp.arange(L)[None]
    j = _in_turn(i[:, None, :, None], jnp.full((1, 1, L, 1), -1), size)[:, 0, :, 0]  # what is sorted stands before all
    y, _ = block_attention(asking, keys, values, there[:, 0, :, 0], Pairs(size, causal), i, j, impl)
    return y.reshape(B, H, L, -1)


def _cleared(k: Array, v: Array, mask: Array) -> Float[Array, "B H L K+V"]:
    """Keys and values side by side, zeros for what is not there."""
    return jnp.concatenate([k, v], axis=-1) * mask.reshape(len(mask), 1, -1, 1).astype(k.dtype)


def _in_turn(one: Shaped[Array, "N 1 L K"], other: Shaped[Array, "..."], size: int) -> Shaped[Array, "N 1 2*L K"]:
    """A block of the one, a block of the other, and so on."""
    N, _, L, K = one.shape
    pairs = jnp.stack([x.reshape(N, -1, size, K) for x in (one, other)], axis=2)
    return pairs.reshape(N, 1, 2 * L, K)


def _part(q: Array, both: Array, mask: Array, permutation: Array) -> tuple[Array, Array, Array, Array]:
    """Queries, sorted keys and values, and which of these are there, for plain attention."""
    both, share = sorted_blocks(permutation, both, mask)
    keys, values = jnp.split(both, [q.shape[-1]], axis=-1)
    return weighted(q, keys, values, share)


def sorted_blocks(
    permutation: Float32[Array, "B H M N"], x: Float[Array, "B H L K"], mask: Bool[Array, "B N b"]
) -> tuple[Float[Array, "B H S K"], Float32[Array, "B H S"]]:
    """Mixtures of N blocks, token by token: the mean over the tokens that are there, and their share. A token that is
    not there is zero."""
    B, H, _, K = x.shape
    share = product("bhmn,bnt->bhmt", permutation, mask.astype(jnp.float32))
    mixed = product("bhmn,bhnz->bhmz", permutation, x.reshape(B, H, mask.shape[1], -1)).reshape(*share.shape, K)
    mean = mixed / jnp.where(share > LEAST, share, 1)[..., None]
    return mean.reshape(B, H, -1, K).astype(x.dtype), share.reshape(B, H, -1)


def weighted(
    q: Float[Array, "B H L K"], k: Float[Array, "B H S K"], v: Float[Array, "B H S V"], share: Float32[Array, "B H S"]
) -> tuple[Float[Array, "BH 1 L K+1"], Float[Array, "BH 1 S K+1"], Float[Array, "BH 1 S V"], Bool[Array, "BH S"]]:
    """Attention in which each key counts as much as its share, put as plain attention: one entry more of every query
    is 1, and of every key the share's logarithm."""
    N, K = q.shape[0] * q.shape[1], q.shape[-1]
    one = (K + 1) ** 0.5  # undoes the factor 1 / sqrt(K + 1)
    q = jnp.pad(q * (one * K**-0.5), ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=one)
    k = jnp.concatenate([k, jnp.log(jnp.maximum(share, LEAST))[..., None].astype(k.dtype)], axis=-1)
    q, k, v = (x.reshape(N, 1, *x.shape[2:]) for x in (q, k, v))
    return q, k, v, (share > LEAST).reshape(N, -1)
