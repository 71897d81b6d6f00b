"""Softmax attention over a pattern of blocks: each block of queries meets only the blocks of keys that its row of the
pattern's table names (block-sparse attention, arXiv 1904.10509; 2007.14062, section 3.1 and appendix D).

One block of queries, or some small ones at once, gathers its keys; the backward pass recomputes its weights from the
saved logsumexp.
Scores are held transposed, [keys, queries], as in `softmax_attention`. The logsumexp is returned beside the output, so
that attention over several sets of keys can be joined into one softmax (`joined`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.impl import at_once, fused
from lra_bench.kernels.patterns import Blocks, Pattern
from lra_bench.kernels.product import inner, over_keys, product
from lra_bench.kernels.softmax_attention import ATTENDED, LOWEST, softmax_attention

TINY = float(np.finfo(np.float32).tiny)
IN_CACHE = 2**20  # scores that `xla` makes at once: 4 MiB in float32; with half or twice of it as fast within 5 %


def block_attention_reference(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    pattern: Pattern,
    i: Int[Array, "B M"] | None = None,
    j: Int[Array, "B L"] | None = None,
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    """Full attention under the pattern's bias, with all M x L weights in memory."""
    bias = _dense_bias(mask, pattern, q.shape[2], i, j)[:, None]
    scores = product("bhmk,bhlk->bhml", q, k) * q.shape[-1] ** -0.5 + bias
    top = jnp.maximum(scores.max(-1, keepdims=True), LOWEST / 2)
    weights = jnp.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    out = product("bhml,bhlk->bhmk", (weights / jnp.where(total > 0, total, 1)).astype(v.dtype), v)
    return out.astype(v.dtype), (top + jnp.log(jnp.maximum(total, TINY)))[..., 0]


def _dense_bias(
    mask: Array, pattern: Pattern, queries: int, i: Array | None, j: Array | None
) -> Float32[Array, "B M L"]:
    """What is added to every logit: the pattern's bias, and the lowest where blocks do not meet or there is no key."""
    L, size = mask.shape[1], pattern.size
    i, j = _places(i, queries), _places(j, L)
    table = pattern.table(-(-queries // size), -(-L // size))
    meet = (table[:, :, None] == np.arange(-(-L // size))).any(1)
    meet = meet[np.arange(queries)[:, None] // size, np.arange(L)[None, :] // size]
    bias = pattern.bias(i[:, :, None], j[:, None, :])
    return jnp.where(meet & mask[:, None, :], bias, LOWEST).astype(jnp.float32)


def block_attention(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    pattern: Pattern,
    i: Int[Array, "B M"] | None = None,
    j: Int[Array, "B L"] | None = None,
    impl: str = "xla",
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    """Attention over the pattern's blocks: its output, and the logsumexp of each query's logits.

    Args:
        mask: True where there is a key. A query that meets none gives 0, and a logsumexp far below any other.
        pattern: over places in the arrays (`table`) and over i and j (`bias`).
        i: the queries' places as the bias sees them; None: 0 to M - 1. After a sort, where they stood before it.
        j: the keys' places, likewise.
        impl: as `impl.chosen` says it.
    """
    if fused(impl):
        from lra_bench.kernels.block_attention_pallas import block_attention_pallas

        return block_attention_pallas(q, k, v, mask, pattern, i, j, impl)
    return _attend(q, k, v, mask, _places(i, q.shape[2]), _places(j, k.shape[2]), pattern, impl)


def joined(
    parts: Sequence[tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]],
) -> Float[Array, "B H M V"]:
    """One softmax over the keys of all parts, from each part's output and logsumexp. No key may be in two of them."""
    outs, sums = zip(*parts, strict=True)
    weights = jax.nn.softmax(jnp.stack(sums), axis=0)[..., None]
    return sum(out * weight.astype(out.dtype) for out, weight in zip(outs, weights, strict=True))


def side_by_side(
    parts: Sequence[
        tuple[Float[Array, "B H M K"], Float[Array, "B H L K"], Float[Array, "B H L V"], Bool[Array, "B L"]]
    ],
    impl: str,
) -> list[Float[Array, "B H M V"]]:
    """Attention of each part's queries to its own keys: one launch of the kernel, which has them for blocks."""
    if not fused(impl):
        return [softmax_attention(*part, impl) for part in parts]
    size = max(max(q.shape[2], k.shape[2]) for q, k, _, _ in parts)
    whole = [[_whole(x, size) for x in (q, k, v, mask[:, None, :, None])] for q, k, v, mask in parts]
    q, k, v, mask = (jnp.concatenate(some, axis=2) for some in zip(*whole, strict=True))
    out, _ = block_attention(q, k, v, mask[:, 0, :, 0], Blocks(size), impl=impl)
    return [x[:, :, : part[0].shape[2]] for x, part in zip(jnp.split(out, len(parts), axis=2), parts, strict=True)]


def _whole(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H size K"]:
    """Filled up with zeros."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, size - x.shape[2]), (0, 0)))


@partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend(
    q: Array, k: Array, v: Array, mask: Array, i: Array, j: Array, pattern: Pattern, impl: str
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    (B, H, M, K), size = q.shape, pattern.size
    keys = _Keys(k, v, mask, j, pattern, M)
    queries = (keys.rows, _blocks(q * K**-0.5, size), _blocks(i[:, None, :, None], size))

    def step(block: tuple[Any, Array, Array]) -> tuple[Array, Array]:
        row, q, i = block
        key, value, bias = keys.at(row, i)
        scores = product("bhlk,bhmk->bhlm", key, q) + bias
        top = jnp.maximum(scores.max(-2, keepdims=True), LOWEST / 2)
        weights = jnp.exp(scores - top)
        total = jnp.maximum(weights.sum(-2, keepdims=True), TINY)
        mixed = over_keys(value, weights.astype(v.dtype), impl) / total
        return mixed.swapaxes(-1, -2).astype(v.dtype), (top + jnp.log(total))[:, :, 0]

    out, logsumexp = lax.map(step, queries, batch_size=keys.together(B * H, impl))
    return _joined(out, M), _joined(logsumexp[..., None], M)[..., 0]


def _keep(
    q: Array, k: Array, v: Array, mask: Array, i: Array, j: Array, pattern: Pattern, impl: str
) -> tuple[tuple[Array, Array], Any]:
    out, logsumexp = (checkpoint_name(x, ATTENDED) for x in _attend(q, k, v, mask, i, j, pattern, impl))
    return (out, logsumexp), (q, k, v, mask, i, j, out, logsumexp)


def _backward(pattern: Pattern, impl: str, kept: Any, g: tuple[Array, Array]) -> tuple[Array | None, ...]:
    q, k, v, mask, i, j, out, logsumexp = kept
    (B, H, M, K), L, size = q.shape, k.shape[2], pattern.size
    mean = inner(g[0], out) - g[1]
    columns = [_blocks(x, size) for x in (q * K**-0.5, g[0], i[:, None, :, None])]
    columns += [_blocks(x[..., None], size)[..., 0] for x in (logsumexp, mean)]
    keys = _Keys(k, v, mask, j, pattern, M)

    def gradients(block: tuple[Any, ...]) -> tuple[Array, Array, Array]:
        row, q, g, i, lse, mean = block
        key, value, bias = keys.at(row, i)
        weights = jnp.exp(product("bhlk,bhmk->bhlm", key, q) + bias - lse[:, :, None])
        dv = product("bhlm,bhmk->bhlk", weights.astype(g.dtype), g)
        ds = (weights * (product("bhlk,bhmk->bhlm", value, g) - mean[:, :, None])).astype(q.dtype)
        dk = product("bhlm,bhmk->bhlk", ds, q)
        dq = over_keys(key, ds, impl) * K**-0.5
        return dk, dv, dq.swapaxes(-1, -2).astype(q.dtype)

    dk, dv, dq = keys.gradients(gradients, columns, keys.together(B * H, impl))
    return _joined(dq, M), _joined(dk, L).astype(k.dtype), _joined(dv, L).astype(v.dtype), None, None, None


_attend.defvjp(_keep, _backward)


class _Keys:
    """Keys and values in blocks, and those that each block of queries, a row of the pattern's table, meets.

    Where the table is 0, 1, 2 and so on, each row has its blocks to itself: none is gathered, and no gradient added up.
    """

    def __init__(self, k: Array, v: Array, mask: Array, j: Array, pattern: Pattern, queries: int) -> None:
        self.pattern, size = pattern, pattern.size
        self.k, self.v, self.mask, self.j = (_cut(x, size) for x in (k, v, mask[:, None, :, None], j[:, None, :, None]))
        self.table = pattern.table(-(-queries // size), self.k.shape[2])
        self.apart = np.array_equal(self.table.ravel(), np.arange(self.k.shape[2]))

    @property
    def rows(self) -> Any:
        """What `at` is asked for: the table's rows, or where they are apart, what each meets."""
        if not self.apart:
            return jnp.asarray(self.table)
        return tuple(self._of_rows(x) for x in (self.k, self.v, self.mask, self.j))

    def _of_rows(self, x: Float[Array, "B H N size K"]) -> Float[Array, "R B H J K"]:
        B, H, _, _, K = x.shape
        return jnp.moveaxis(x.reshape(B, H, len(self.table), -1, K), 2, 0)

    def together(self, heads: int, impl: str) -> int | None:
        """How many rows are taken at once."""
        return at_once(impl, len(self.table), heads * self.pattern.size**2 * self.table.size, IN_CACHE)

    def at(self, row: Any, i: Int[Array, "#B 1 m 1"]) -> tuple[Array, Array, Float32[Array, "B 1 J m"]]:
        """The keys and values of a row's blocks one after another, and what is added to their logits."""
        key, value, there, j = row if self.apart else self._gathered(row)
        hidden = jnp.where(there, 0, LOWEST).astype(jnp.float32)
        return key, value, self.pattern.bias(i.swapaxes(-1, -2), j) + hidden

    def _gathered(self, row: Int[Array, "R"]) -> tuple[Array, Array, Array, Array]:
        def of(x: Float[Array, "B H N size K"]) -> Float[Array, "B H J K"]:
            B, H, _, _, K = x.shape
            return jnp.take(x, jnp.maximum(row, 0), axis=2, mode="clip").reshape(B, H, -1, K)

        there = jnp.repeat(row >= 0, self.pattern.size)[:, None]
        return of(self.k), of(self.v), of(self.mask) & there, of(self.j)

    def gradients(
        self, each: Callable[[tuple[Any, ...]], tuple[Array, Array, Array]], columns: Sequence[Array], some: int | None
    ) -> tuple[Float[Array, "N B H J K"], Float[Array, "N B H J V"], Float[Array, "M B H size K"]]:
        """Of the keys, the values and the queries, from `each` row's, so many rows at once; of keys and values by
        blocks, or by rows where these are apart."""
        if self.apart:
            return lax.map(each, (self.rows, *columns), batch_size=some)

        def step(grads: tuple[Array, Array], block: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
            dk, dv, dq = each(block)
            return (_add(grads[0], dk, block[0]), _add(grads[1], dv, block[0])), dq

        def many(grads: tuple[Array, Array], some: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
            dk, dv, dq = jax.vmap(each)(some)
            return (_add_all(grads[0], dk, some[0]), _add_all(grads[1], dv, some[0])), dq

        zero, rows = (jnp.zeros(self.k.shape), jnp.zeros(self.v.shape)), self.rows
        if some is None:
            (dk, dv), dq = lax.scan(step, zero, (rows, *columns))
        else:
            (dk, dv), dq = lax.scan(many, zero, tuple(_grouped(x, some) for x in (rows, *columns)))
            dq = dq.reshape(-1, *dq.shape[2:])
        return jnp.moveaxis(dk, 2, 0), jnp.moveaxis(dv, 2, 0), dq


def _add(total: Float[Array, "B H N size K"], part: Float[Array, "B H J K"], row: Int[Array, "R"]) -> Array:
    """`total` with `part` added to the row's blocks; what belongs to no block is zero."""
    for block, piece in zip(row, jnp.split(part, row.shape[0], axis=2), strict=True):
        at = jnp.maximum(block, 0)
        old = lax.dynamic_index_in_dim(total, at, 2)
        total = lax.dynamic_update_slice_in_dim(total, old + piece[:, :, None], at, 2)
    return total


def _add_all(total: Float[Array, "B H N size K"], parts: Float[Array, "n B H J K"], rows: Int[Array, "n R"]) -> Array:
    """The same for some rows of blocks together."""
    n, B, H, _, K = parts.shape
    pieces = parts.reshape(n, B, H, rows.shape[1], -1, K)
    return total.at[:, :, jnp.maximum(rows, 0).reshape(-1)].add(
        jnp.moveaxis(pieces, (0, 3), (2, 3)).reshape(B, H, -1, *total.shape[3:])
    )


def _grouped(x: Float[Array, "N ..."], some: int) -> Float[Array, "G some ..."]:
    """Blocks in groups, the last one filled up with some that have no keys."""
    fill = -1 if jnp.issubdtype(x.dtype, jnp.integer) else 0
    x = jnp.pad(x, [(0, -len(x) % some), *[(0, 0)] * (x.ndim - 1)], constant_values=fill)
    return x.reshape(-1, some, *x.shape[1:])


def _places(places: Array | None, length: int) -> Int[Array, "#B L"]:
    return jnp.arange(length)[None] if places is None else places


def _cut(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H N size K"]:
    """The length in blocks, the last one filled up with zeros."""
    B, H, L, K = x.shape
    return jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0))).reshape(B, H, -1, size, K)


def _blocks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "N B H size K"]:
    """The same, to be walked over."""
    return jnp.moveaxis(_cut(x, size), 2, 0)


def _joined(x: Float[Array, "N B H size K"], length: int) -> Float[Array, "B H L K"]:
    """What `_blocks` was given."""
    N, B, H, size, K = x.shape
    return jnp.moveaxis(x, 0, 2).reshape(B, H, N * size, K)[:, :, :length]
