"""`block_attention` as Pallas kernels, for accelerators: the same function, signature and gradients.

One program for each text, head and block of queries walks over the blocks of keys that its row of the pattern's table
names, with a running maximum and sum (arXiv 1805.02867). The backward pass recomputes the weights from the saved
logsumexp (arXiv 2205.14135, algorithm 4) in two kernels: one for each block of queries gives dq, one for each block of
keys, with the table transposed, gives dk and dv. Neither writes where another does, so nothing is added up in memory.

A block is cut into tiles of at most 64 tokens; tiles and widths are filled up to powers of two, the only shapes that
Triton knows, and meet TPU's 8 x 128 as whole dimensions. A program is handed all keys of its head and reads the tiles
it meets: on a GPU these are pointers; on a TPU the keys stand in VMEM, and that limits the length: in float32 to some
86,000 keys on a v5e, if heads are at most 128 wide.

What was tested: values and gradients, interpreted on a CPU, also with TPU's memories simulated. What was compiled only,
on a machine without either: for A100 and H100 by Triton to PTX, and for TPU v4, v5e, v5p and v6e (16,384 keys, 32
wide, in float32; a v4 holds 1,024 and not 16,384). Never run on a GPU or a TPU, and never timed there. Where a batch is
sharded over devices XLA does not split a kernel but gathers the batch: right, and slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Bool, Float, Float32, Int, Shaped

from lra_bench.kernels import triton
from lra_bench.kernels.impl import FORMS, LANES, VMEM
from lra_bench.kernels.patterns import Pattern
from lra_bench.kernels.product import accumulated, inner, product_reference
from lra_bench.kernels.softmax_attention import ATTENDED, LOWEST

SMALLEST = 16  # rows and columns of a product on a GPU's tensor cores
LARGEST = 64  # rows of a tile: with 128, and heads 128 wide in float32, no GPU's shared memory holds it
ELEMENTWISE = 10  # operations on an element of the scores, about, for XLA's schedule
SUBLANES = 8  # rows of a TPU's register, of 32 bits each
Product = Callable[[str, Array, Array], Array]
TINY = float(np.finfo(np.float32).tiny)


def block_attention_pallas(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    pattern: Pattern,
    i: Int[Array, "B M"] | None = None,
    j: Int[Array, "B L"] | None = None,
    impl: str = FORMS["cpu"],
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    """Attention over the pattern's blocks: its output, and the logsumexp of each query's logits.

    Arguments as of `block_attention`; no block may stand twice in a row of the pattern's table. On a CPU the kernels
    are interpreted, which is for tests only: slow.
    """
    of_query, of_key = (_places(x.shape[2]) if at is None else at for at, x in ((i, q), (j, k)))
    return _attend(q, k, v, mask, of_query, of_key, pattern, impl)


def _places(length: int) -> Any:
    """A constant: a walk over calls launches nothing to make it again."""
    return np.arange(length, dtype=np.int32)[None]


@partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend(
    q: Array, k: Array, v: Array, mask: Array, i: Array, j: Array, pattern: Pattern, impl: str
) -> tuple[Float[Array, "B H M V"], Float32[Array, "B H M"]]:
    (M, K), V, size = q.shape[2:], v.shape[3], pattern.size
    own = [_cut(q, size), _column(i[:, None], size)]
    others = [_cut(k, size), _cut(v, size), _row(j[:, None], size), _row(_hidden(mask), size, LOWEST)]
    tiles, width = own[0].shape[:4], others[1].shape[4]
    made = [jax.ShapeDtypeStruct((*tiles, width), v.dtype), jax.ShapeDtypeStruct((*tiles, 1), jnp.float32)]
    run = partial(_forward, pattern=pattern, scale=K**-0.5, product=_product(impl))
    out, logsumexp = _call(run, _met(pattern, M, k.shape[2]), own, others, made, own[0].shape[4] + width, impl)
    return _joined(out, size, M)[..., :V], _joined(logsumexp, size, M)[..., 0]


def _forward(
    table: Any, start: Any, count: Any, q: Any, i: Any, k: Any, v: Any, j: Any, hidden: Any, out: Any, logsumexp: Any,
    *, pattern: Pattern, scale: float, product: Product,
) -> None:  # fmt: skip
    """One block of queries. Scores are [queries, keys]; i, the maximum and the sum are columns, j and hidden rows."""
    n = pl.program_id(2)
    first = start[n]

    def step(r: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        mixed, top, total = carry
        at = table[first + r]
        scores = product("mk,lk->ml", q[...], k[at]) * scale + pattern.bias(i[...], j[at]) + hidden[at]
        higher = jnp.maximum(top, scores.max(1, keepdims=True))
        weights, fade = jnp.exp(scores - higher), jnp.exp(top - higher)
        mixed = mixed * fade + product("ml,lk->mk", weights.astype(v.dtype), v[at])
        return mixed, higher, total * fade + weights.sum(1, keepdims=True)

    column = jnp.zeros(logsumexp.shape, jnp.float32)
    none = (jnp.zeros(out.shape, jnp.float32), column + LOWEST / 2, column)
    mixed, top, total = lax.fori_loop(0, count[n], step, none)
    total = jnp.maximum(total, TINY)
    out[...] = (mixed / total).astype(out.dtype)
    logsumexp[...] = top + jnp.log(total)


def _keep(
    q: Array, k: Array, v: Array, mask: Array, i: Array, j: Array, pattern: Pattern, impl: str
) -> tuple[tuple[Array, Array], Any]:
    out, logsumexp = (checkpoint_name(x, ATTENDED) for x in _attend(q, k, v, mask, i, j, pattern, impl))
    return (out, logsumexp), (q, k, v, mask, i, j, out, logsumexp)


def _backward(pattern: Pattern, impl: str, kept: Any, g: tuple[Array, Array]) -> tuple[Array | None, ...]:
    q, k, v, mask, i, j, out, logsumexp = kept
    (M, K), (L, V), size = q.shape[2:], v.shape[2:], pattern.size
    mean = inner(g[0], out) - g[1]
    met, static = _met(pattern, M, L), {"pattern": pattern, "scale": K**-0.5, "product": _product(impl)}
    queries, keys = [_cut(q, size), _cut(g[0], size)], [_cut(k, size), _cut(v, size)]
    asked = [(i[:, None], 0), (logsumexp, -LOWEST), (mean, 0)]  # beside it: what is there where there is no token
    there = [(j[:, None], 0), (_hidden(mask), LOWEST)]
    (dq,) = _call(
        partial(_query_gradient, **static),
        met,
        [*queries, *(_column(x, size, fill) for x, fill in asked)],
        [*keys, *(_row(x, size, fill) for x, fill in there)],
        queries[:1],
        sum(x.shape[4] for x in (*keys, queries[0])),
        impl,
    )
    dk, dv = _call(
        partial(_key_gradient, **static),
        met.T,
        [*keys, *(_column(x, size, fill) for x, fill in there)],
        [*queries, *(_row(x, size, fill) for x, fill in asked)],
        keys,
        2 * sum(x.shape[4] for x in keys),
        impl,
    )
    return _joined(dq, size, M)[..., :K], _joined(dk, size, L)[..., :K], _joined(dv, size, L)[..., :V], None, None, None


_attend.defvjp(_keep, _backward)


def _query_gradient(
    table: Any, start: Any, count: Any, q: Any, g: Any, i: Any, logsumexp: Any, mean: Any, k: Any, v: Any, j: Any,
    hidden: Any, dq: Any, *, pattern: Pattern, scale: float, product: Product,
) -> None:  # fmt: skip
    """Of one block of queries. Scores are [queries, keys]."""
    n = pl.program_id(2)
    first = start[n]

    def step(r: Array, total: Array) -> Array:
        at = table[first + r]
        scores = product("mk,lk->ml", q[...], k[at]) * scale + pattern.bias(i[...], j[at]) + hidden[at]
        weights = jnp.exp(scores - logsumexp[...])
        ds = weights * (product("mk,lk->ml", g[...], v[at]) - mean[...])
        return total + product("ml,lk->mk", ds.astype(k.dtype), k[at])

    total = lax.fori_loop(0, count[n], step, jnp.zeros(dq.shape, jnp.float32))
    dq[...] = (total * scale).astype(dq.dtype)


def _key_gradient(
    table: Any, start: Any, count: Any, k: Any, v: Any, j: Any, hidden: Any, q: Any, g: Any, i: Any, logsumexp: Any,
    mean: Any, dk: Any, dv: Any, *, pattern: Pattern, scale: float, product: Product,
) -> None:  # fmt: skip
    """Of one block of keys and values. Scores are [keys, queries], so that no product needs a transpose."""
    n = pl.program_id(2)
    first = start[n]

    def step(r: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
        at = table[first + r]
        scores = product("lk,mk->lm", k[...], q[at]) * scale + pattern.bias(i[at], j[...]) + hidden[...]
        weights = jnp.exp(scores - logsumexp[at])
        ds = weights * (product("lk,mk->lm", v[...], g[at]) - mean[at])
        more = product("lm,mk->lk", ds.astype(q.dtype), q[at])
        return totals[0] + more, totals[1] + product("lm,mk->lk", weights.astype(g.dtype), g[at])

    none = (jnp.zeros(dk.shape, jnp.float32), jnp.zeros(dv.shape, jnp.float32))
    totals = lax.fori_loop(0, count[n], step, none)
    dk[...] = (totals[0] * scale).astype(dk.dtype)
    dv[...] = totals[1].astype(dv.dtype)


def _call(
    kernel: Callable[..., None],
    met: Bool[np.ndarray, "N M"],
    own: Sequence[Shaped[Array, "#B #H N T _"]],
    others: Sequence[Shaped[Array, "#B #H M T _"]],
    made: Sequence[Any],
    widths: int,
    impl: str,
) -> Sequence[Shaped[Array, "B H N T _"]]:
    """Run the kernel for each text, head and n of N: on tile n of `own`, and on those tiles of `others` that it has
    `met`. Returns arrays of the shapes and dtypes of `made`. The kernel's products of a T x T array with others, or
    into one, have `widths` columns together."""
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in made]
    B, H, N, T, _ = shapes[0].shape
    pairs = B * H * int(met.sum()) * T * T
    arrays: list[Any] = [*own, *others, *shapes]
    moved = sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays)
    lists = pl.BlockSpec(memory_space=pltpu.SMEM) if impl == FORMS["tpu"] else pl.BlockSpec()
    once = impl == FORMS["tpu"] and 2 * sum(map(_in_vmem, others)) > VMEM
    return pl.pallas_call(
        kernel,
        shapes,
        grid=(B, H, N),
        in_specs=[lists] * 3 + [*map(_one, own), *(_all(x, once) for x in others)],
        out_specs=[_one(x) for x in shapes],
        compiler_params=_params(impl),
        cost_estimate=pl.CostEstimate((2 * widths + ELEMENTWISE) * pairs, transcendentals=pairs, bytes_accessed=moved),
        interpret=impl == FORMS["cpu"],
    )(*_listed(met), *own, *others)


def _product(impl: str) -> Product:
    """As a kernel has it; a CPU, which interprets it, has no product of two bfloat16 into float32."""
    return product_reference if impl == FORMS["cpu"] else accumulated


def _params(impl: str) -> Any:
    if impl == FORMS["tpu"]:
        return pltpu.CompilerParams(dimension_semantics=("parallel",) * 3, vmem_limit_bytes=VMEM)
    return triton.params() if impl == FORMS["gpu"] else None


def _one(x: Any) -> pl.BlockSpec:
    """Tile n of a program's text and head."""
    B, H, _, *block = x.shape
    return pl.BlockSpec((None, None, None, *block), lambda b, h, n: (b if B > 1 else 0, h if H > 1 else 0, n, 0, 0))


def _all(x: Any, once: bool) -> pl.BlockSpec:
    """All tiles of a program's text and head. A TPU has room for them once or twice: for those of the next head too,
    which are brought meanwhile."""
    B, H, *blocks = x.shape
    at = lambda b, h, n: (b if B > 1 else 0, h if H > 1 else 0, 0, 0, 0)  # noqa: E731
    return pl.BlockSpec((None, None, *blocks), at, pipeline_mode=pl.Buffered(1) if once else None)


def _in_vmem(x: Any) -> int:
    """Bytes that all tiles of a text and head take of a TPU's VMEM, where each is filled up to its registers."""
    _, _, M, T, width = x.shape
    return int(M * -(-T // SUBLANES) * SUBLANES * -(-width // LANES) * LANES * x.dtype.itemsize)


def _met(pattern: Pattern, queries: int, keys: int) -> Bool[np.ndarray, "N M"]:
    """Whether a tile of queries meets a tile of keys."""
    N, M = (-(-length // pattern.size) for length in (queries, keys))
    table = pattern.table(N, M)
    met = np.zeros((N, M), bool)
    row, at = np.nonzero(table >= 0)
    met[row, table[row, at]] = True
    parts = -(-pattern.size // _rows(pattern.size))
    return met.repeat(parts, 0).repeat(parts, 1)


def _listed(met: Bool[np.ndarray, "N M"]) -> tuple[Int[Array, "R"], Int[Array, "N"], Int[Array, "N"]]:
    """The tiles that each tile has met: a table, where those of each begin in it, and how many they are.

    The table begins with all tiles in their order, which those without gaps are a part of: a TPU's SMEM, of 1 MiB, has
    no room for the lists of tens of thousands of tokens that each meet all.
    """
    count, first, last = met.sum(1), met.argmax(1), met.shape[1] - met[:, ::-1].argmax(1)
    gaps = first + count < last
    start = np.where(gaps, met.shape[1] + np.cumsum(gaps * count) - gaps * count, first)
    table = np.concatenate([np.arange(met.shape[1]), np.nonzero(met[gaps])[1]])
    return jnp.asarray(table, jnp.int32), jnp.asarray(start, jnp.int32), jnp.asarray(count, jnp.int32)


def _hidden(mask: Bool[Array, "B L"]) -> Float32[Array, "B 1 L"]:
    """What is added to a key's logits."""
    return jnp.where(mask, 0, LOWEST).astype(jnp.float32)[:, None]


def _cut(x: Shaped[Array, "B H L K"], size: int) -> Shaped[Array, "B H N T width"]:
    """The length in tiles, each filled up with zeros, as wide as accelerators take it."""
    x = _tiles(x, size, 0)
    return jnp.pad(x, ((0, 0),) * 4 + ((0, _filled(x.shape[4]) - x.shape[4]),))


def _column(x: Shaped[Array, "B H L"], size: int, fill: float = 0) -> Shaped[Array, "B H N T 1"]:
    return _tiles(x[..., None], size, fill)


def _row(x: Shaped[Array, "B H L"], size: int, fill: float = 0) -> Shaped[Array, "B H N 1 T"]:
    return _tiles(x[..., None], size, fill).swapaxes(3, 4)


def _tiles(x: Shaped[Array, "B H L K"], size: int, fill: float) -> Shaped[Array, "B H N T K"]:
    """The length in blocks of `size`, and each in tiles."""
    B, H, L, K = x.shape
    T = _rows(size)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0)), constant_values=fill).reshape(B, H, -1, size, K)
    x = jnp.pad(x, ((0, 0),) * 3 + ((0, -size % T), (0, 0)), constant_values=fill)
    return x.reshape(B, H, -1, T, K)


def _joined(x: Shaped[Array, "B H N T K"], size: int, length: int) -> Shaped[Array, "B H L K"]:
    """What `_tiles` was given."""
    B, H, N, T, K = x.shape
    blocks = x.reshape(B, H, -1, size + -size % T, K)[:, :, :, :size]
    return blocks.reshape(B, H, -1, K)[:, :, :length]


def _rows(size: int) -> int:
    """Tokens of a tile."""
    return min(LARGEST, _filled(size))


def _filled(size: int) -> int:
    return max(SMALLEST, pl.next_power_of_2(size))
