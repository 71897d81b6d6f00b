"""Attention through a hierarchy of cells (H-Transformer-1D, arXiv 2107.11906, section 6): a token sees its own block
and its neighbors exactly, what lies further through ever coarser means, linear in L.

At level l a cell is 2^l tokens and a block is `size` cells. The pair (i, j) belongs to the lowest level at which the
blocks of i and j are the same or neighbors; its logit is that of the means of q and k over the cells of i and j there.
One softmax over all j: each level's output and logsumexp are joined from the coarsest level down. Means are over the
tokens that are there, a key's cell weighs as many of them as it holds.

All coarse levels are computed at once: their cells stand one level after another, a block of none between two levels.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Shaped

from lra_bench.kernels.block_attention import block_attention, joined
from lra_bench.kernels.block_sort import weighted
from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.patterns import Blocks
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention_part

TILE = 512  # cells that are looked at together
HALF = 0.5  # a sum of weights is at least 1 where there is a key; where there is none its square must not be 0


def hierarchical_attention_reference(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    size: int,
) -> Float[Array, "B H L V"]:
    """Every level's logits expanded to L x L, each pair taking its own level's."""
    L = q.shape[2]
    i, taken, level = np.arange(L), np.zeros((L, L), bool), 0
    scores = jnp.full((*q.shape[:3], L), LOWEST)
    while not taken.all():
        cell, block = i // 2**level, i // (2**level * size)
        same = ((cell[:, None] == cell) & mask[:, None, :]).astype(jnp.float32)
        mean = same / jnp.maximum(same.sum(-1, keepdims=True), 1)
        a, b = (product("bij,bhjk->bhik", mean, x) for x in (q, k))
        here = (abs(block[:, None] - block) <= 1) & ~taken
        scores = jnp.where(here, product("bhik,bhjk->bhij", a, b) * q.shape[-1] ** -0.5, scores)
        taken, level = taken | here, level + 1
    there = mask[:, None, None, :]
    weights = jnp.where(there, jax.nn.softmax(jnp.where(there, scores, LOWEST), axis=-1), 0)
    return product("bhij,bhjv->bhiv", weights.astype(v.dtype), v).astype(v.dtype)


def hierarchical_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    size: int,
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same, level by level. `size` is even; a text without any token gives 0. `impl` as `impl.chosen` says it."""
    L = q.shape[2]
    count = filled(mask.astype(jnp.int32)[:, None, :, None], size)
    q, k, v = (filled(x, size) for x in (q, k, v))
    out, logsumexp = neighbors(q, k, v, count, size, impl, coarse=False)
    if q.shape[2] > 2 * size:
        out, _ = both((out, logsumexp), further(q, k, v, count, size, impl))
    return out[:, :, :L]


@partial(jax.checkpoint, static_argnums=(4, 5))
def causal_hierarchical_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    size: int,
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same of earlier tokens, each asking by itself: of a mean of queries some would come later. L log L."""
    L = q.shape[2]
    count = filled(mask.astype(jnp.int32)[:, None, :, None], size)
    q, k, v = (filled(x, size) for x in (q, k, v))
    there = count[:, 0, :, 0] > 0
    parts = [block_attention(q, k, v, there, Blocks(size, before=1, causal=True), impl=impl)]
    while k.shape[2] > 2 * size:
        k, v = (filled(coarser(x, count), size) for x in (k, v))
        count = filled(pairs(count).sum(3), size)
        parts.append(earlier(q, k, v, count, size // 2, 2 ** len(parts), impl))
    return joined(parts)[:, :, :L]


def earlier(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H M K"],
    v: Float[Array, "B H M V"],
    count: Int[Array, "B 1 M 1"],
    half: int,
    tokens: int,
    impl: str,
) -> tuple[Float[Array, "B H L V"], Float32[Array, "B H L"]]:
    """Attention of each token to the cells, of so many tokens, of the block before its own. In the first half of a
    block it meets the first half of those only: the others it has met at the level below."""
    (B, H, L, _), N = q.shape, k.shape[2] // half
    even = jnp.arange(N)[:, None, None] % 2 == 0

    def by_halves(x: Array, rows: int) -> Array:
        return x.reshape(*x.shape[:2], N, rows, x.shape[3])

    def before(x: Array, halves: int) -> Array:
        return jnp.pad(by_halves(x, half), ((0, 0), (0, 0), (halves, 0), (0, 0), (0, 0)))[:, :, :N]

    k, v = (jnp.concatenate([before(x, 3), before(x, 2)], axis=3) for x in (k, v))
    share = jnp.concatenate([jnp.where(even, 0, before(count, 3)), before(count, 2)], axis=3)[..., 0]
    share = jnp.broadcast_to(share, (B, H, *share.shape[2:])).astype(jnp.float32)
    q = by_halves(jnp.pad(q, ((0, 0), (0, 0), (0, N * half * tokens - L), (0, 0))), half * tokens)
    halves = (x.reshape(B, H * N, *x.shape[3:]) for x in (q, k, v, share))
    out, logsumexp = softmax_attention_part(*weighted(*halves), impl)
    return out.reshape(B, H, -1, out.shape[-1])[:, :, :L], logsumexp.reshape(B, H, -1)[:, :, :L]


@partial(jax.checkpoint, static_argnums=(4, 5))
def further(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    count: Int[Array, "B 1 L 1"],
    size: int,
    impl: str,
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    """Attention at all levels but the lowest: output and logsumexp of the cells of two tokens."""
    levels = []
    while q.shape[2] > 2 * size:
        q, k, v = (filled(coarser(x, count), size) for x in (q, k, v))
        count = filled(pairs(count).sum(3), size)
        levels.append((q, k, v, count))
    gaps = [size] * (len(levels) - 1) + [0]
    q, k, v, count = (
        jnp.concatenate([jnp.pad(x, ((0, 0), (0, 0), (0, gap), (0, 0))) for x, gap in zip(each, gaps, strict=True)], 2)
        for each in zip(*levels, strict=True)
    )
    out, logsumexp = neighbors(q, k, v, count, size, impl, coarse=True)
    far, end = None, out.shape[2]
    for *_, count in reversed(levels):
        begin = end - count.shape[2]
        here = out[:, :, begin:end], logsumexp[:, :, begin:end]
        far, end = here if far is None else both(here, far), begin - size
    assert far is not None
    return far


def neighbors(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H M K"],
    v: Float[Array, "B H M V"],
    count: Int[Array, "B 1 M 1"],
    size: int,
    impl: str,
    *,
    coarse: bool,
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    """Attention of each block to the block before and after it, and to itself at the lowest level.

    At a coarser level the halves that touch are left out: they have met at the level below. Some `TILE` cells at a
    time; of their weights none is kept for the backward pass.
    """
    B, H, M, K = q.shape
    cells = at_once(impl, M, B * H * M * 3 * size) or TILE
    tile = min(size * max(1, cells // size), M)
    near = (0, 2) if coarse else (0, 1, 2)
    below = np.zeros((len(near), size, size), np.float32)
    if coarse:
        below[0, size // 2 :, : size // 2] = below[1, : size // 2, size // 2 :] = LOWEST

    @jax.checkpoint
    def step(block: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        q, *others = block
        q = (q * K**-0.5).reshape(B, H, -1, size, K)
        k, v, count = (jnp.concatenate([x[:, :, i : i + q.shape[2]] for i in near], axis=3) for x in others)
        weigh = jnp.where(count > 0, jnp.log(jnp.maximum(count, 1).astype(jnp.float32)), LOWEST)
        scores = product("bhnjk,bhnik->bhnji", k, q) + weigh + below.reshape(-1, size)
        top = lax.stop_gradient(jnp.maximum(scores.max(-2, keepdims=True), LOWEST / 2))
        weights = jnp.exp(scores - top)
        total = jnp.maximum(weights.sum(-2, keepdims=True), HALF)
        out = product("bhnji,bhnjv->bhniv", (weights / total).astype(v.dtype), v).astype(v.dtype)
        return out.reshape(B, H, tile, -1), (top + jnp.log(total)).reshape(B, H, tile, 1)

    tiles = jnp.moveaxis(filled(q, tile).reshape(B, H, -1, tile, K), 2, 0)
    parts = lax.map(step, (tiles, *(beside(filled(x, tile), tile, size) for x in (k, v, count))))
    out, logsumexp = (jnp.moveaxis(x, 0, 2).reshape(B, H, -1, x.shape[-1])[:, :, :M] for x in parts)
    return out, logsumexp[..., 0]


def beside(x: Shaped[Array, "B H M K"], tile: int, size: int) -> Shaped[Array, "N B H T size K"]:
    """Each tile's blocks, with the block before and the block after it."""
    B, H, M, K = x.shape
    blocks = jnp.moveaxis(x.reshape(B, H, -1, tile // size, size, K), 2, 0)
    nothing = jnp.zeros_like(blocks[:1, :, :, :1])
    before = jnp.concatenate([nothing, blocks[:-1, :, :, -1:]])
    after = jnp.concatenate([blocks[1:, :, :, :1], nothing])
    return jnp.concatenate([before, blocks, after], axis=3)


@jax.checkpoint
def coarser(x: Float[Array, "B H M K"], count: Int[Array, "B 1 M 1"]) -> Float[Array, "B H M/2 K"]:
    """Means of pairs of cells, each cell weighing as many tokens as it holds."""
    share = pairs(count) / jnp.maximum(pairs(count).sum(3, keepdims=True), 1)
    return (pairs(x) * share).sum(3).astype(x.dtype)


def both(
    near: tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]],
    far: tuple[Float[Array, "B H N V"], Float32[Array, "B H N"]],
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    """One softmax over both: what a cell of the level above found is given to its two cells here."""
    (out, lse), (far_out, far_lse) = near, (jnp.repeat(x, 2, axis=2)[:, :, : near[1].shape[2]] for x in far)
    total = jnp.logaddexp(lse, far_lse)
    share, far_share = (jnp.exp(x - total)[..., None].astype(out.dtype) for x in (lse, far_lse))
    return out * share + far_out * far_share, total


def filled(x: Shaped[Array, "B H M K"], size: int) -> Shaped[Array, "B H N*size K"]:
    """Zeros up to a whole block."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % size), (0, 0)))


def pairs(x: Shaped[Array, "B H M K"]) -> Shaped[Array, "B H M/2 2 K"]:
    """Neighboring cells side by side."""
    B, H, M, K = x.shape
    return x.reshape(B, H, M // 2, 2, K)
