"""Attention of segments to themselves and to what is kept of those before them, with relative positions
(Transformer-XL, arXiv 1901.02860, section 3.3; with cells of several tokens, arXiv 1911.05507).

As a kernel: R_d are sines and cosines of d, and those of a difference x - y are made of products of each place's. With
a_f and b_f the entries of W_r^T (q + w) for the sine and the cosine of frequency f, (q + w) . W_r R_{x-y} is

    sum over f of   (a_f sin x_f + b_f cos x_f) cos y_f + (b_f sin x_f - a_f cos x_f) sin y_f

so that content and position are one product of longer queries with longer keys, and `block_attention` does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.block_attention import block_attention, joined
from lra_bench.kernels.dense import dense
from lra_bench.kernels.impl import BATCHED, FORMS, XLA, fused
from lra_bench.kernels.patterns import Blocks, Cells
from lra_bench.kernels.product import product
from lra_bench.kernels.segment_attention import earlier, segment_attention, sinusoids
from lra_bench.kernels.softmax_attention import KEEP_ATTENDED

Held = tuple[Array, Array, Array]  # keys, values, and where there is one, as a `Memory` has them
WIDEST = 128  # columns of a query with its position: what the shared memory of a GPU holds of them


@partial(jax.tree_util.register_dataclass, data_fields=["k", "v", "there"], meta_fields=["count", "skip"])
@dataclass(frozen=True)
class Memory:
    """What is kept of all segments, t rows of each, and how many of those before a segment are seen by it."""

    k: Float[Array, "B H N t K"]
    v: Float[Array, "B H N t V"]
    there: Bool[Array, "B 1 N t 1"]
    count: int
    skip: int = 0  # segments that are nearer, and not seen


def form(impl: str, width: int, head_width: int) -> str:
    """The implementation that runs: there is no kernel of heads that are too wide with their positions, and none on a
    TPU, where batches take half the memory."""
    wide = head_width + 2 * -(-width // 2) > WIDEST
    return BATCHED if impl == FORMS["tpu"] or (fused(impl) and wide) else impl


@jax.custom_vjp
def cached(k: Float[Array, "B H L K"], x: Float[Array, "B L D"], W: Float[Array, "D J"]) -> Float[Array, "B H L K"]:
    """k, which is SG(x) W by heads and need not be made again: its gradient is the weights' alone."""
    return k


def _keep_cached(k: Array, x: Array, W: Array) -> tuple[Array, tuple[Array, Array]]:
    return k, (x, W)


def _pull_cached(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array, Array]:
    x, W = kept
    (dW,) = jax.vjp(partial(dense, x), W)[1](g.swapaxes(1, 2).reshape(*x.shape[:2], -1))
    return jnp.zeros_like(g), jnp.zeros_like(x), dW


cached.defvjp(_keep_cached, _pull_cached)


def memory_attention(
    q: Float[Array, "B H N s K"],
    k: Float[Array, "B H N s K"],
    v: Float[Array, "B H N s V"],
    past: Memory,
    relative: Float[Array, "D J"],
    u: Float[Array, "H K"],
    w: Float[Array, "H K"],
    *,
    cells: Memory | None = None,
    causal: bool = False,
    impl: str = XLA,
) -> Float[Array, "B H N s V"]:
    """Each segment's queries meet cells of the older past, then the past, then their own segment: one row of places.

    Args:
        past: as many keys as tokens, and where there is one, which holds for k and v too.
        relative: W_r, for all heads side by side.
        u: added to the queries before they meet keys.
        w: added to the queries before they meet distances.
        cells: stand before the past.
        causal: a query sees no key after its own place.
        impl: as `impl.chosen` says it.
    """
    impl = form(impl, len(relative), q.shape[4])
    if fused(impl):
        attend = jax.checkpoint(partial(_fused, causal=causal, impl=impl), policy=KEEP_ATTENDED)
        return attend(q, k, v, past, relative, u, w, cells)  # a step keeps what was read, no longer queries or keys
    kept = [[earlier(x, one.count, one.skip) for x in (one.k, one.v, one.there)] for one in (cells, past) if one]
    k, v, seen = (jnp.concatenate(parts, axis=3) for parts in zip(*kept, (k, v, past.there), strict=True))
    r = dense(sinusoids(k.shape[3], q.shape[3], len(relative)), relative)
    r = r.reshape(len(r), *u.shape).swapaxes(0, 1)
    return segment_attention(q, k, v, seen[:, 0, :, :, 0], r, u, w, causal=causal, impl=impl)


def relative_scores(
    q: Float[Array, "B H N K"],
    k: Float[Array, "B H S K"],
    distance: Int[Array, "N S"],
    furthest: int,
    relative: Float[Array, "D J"],
    u: Float[Array, "H K"],
    w: Float[Array, "H K"],
) -> Float32[Array, "B H N S"]:
    """The same logits of queries and keys whose distances are known; of one below 0 or beyond `furthest` any number."""
    by_head = relative.reshape(-1, *u.shape).astype(q.dtype)
    u, w = (x[:, None].astype(q.dtype) for x in (u, w))
    asked = product("bhnk,fhk->bhnf", q + w, by_head)
    position = product("bhnf,df->bhnd", asked, sinusoids(furthest + 1, 1, len(relative))[::-1])
    position = jnp.take_along_axis(position, jnp.clip(distance, 0, furthest)[None, None], axis=-1)
    return (product("bhnk,bhsk->bhns", q + u, k) + position) * q.shape[-1] ** -0.5


def _fused(
    q: Array, k: Array, v: Array, past: Memory, relative: Array, u: Array, w: Array, cells: Memory | None,
    *, causal: bool, impl: str,
) -> Float[Array, "B H N s V"]:  # fmt: skip
    (B, H, N, s, K), D = q.shape, len(relative)
    by_head = jnp.pad(relative, ((0, D % 2), (0, 0))).reshape(-1, H, K)
    u, w = (x[:, None, None].astype(q.dtype) for x in (u, w))
    asked = product("bhnsk,fhk->bhnsf", q + w, by_head.astype(q.dtype))

    def queries(step: int, ahead: int) -> Array:
        """Content and position of the queries, which stand at n step + ahead + i."""
        a, b = jnp.split(asked, 2, axis=-1)
        sine, cosine = _turns(N, s, D, step, ahead)
        parts = (q + u).astype(jnp.float32), a * sine + b * cosine, b * sine - a * cosine
        longer = jnp.concatenate(parts, axis=-1)
        return _flat((longer * (longer.shape[-1] / K) ** 0.5).astype(q.dtype))  # as the kernel divides by its root

    def keys(k: Array) -> Array:
        sine, cosine = _turns(N, k.shape[3], D, k.shape[3])
        turns = jnp.broadcast_to(jnp.concatenate([cosine, sine], axis=-1), (*k.shape[:4], asked.shape[-1]))
        return _flat(jnp.concatenate([k, turns.astype(k.dtype)], axis=-1))

    asking, there = queries(s, 0), _flat(past.there)[:, 0, :, 0]
    parts = [block_attention(asking, keys(k), _flat(v), there, Blocks(s, causal=causal), impl=impl)]
    if past.count:
        before = Blocks(s, past.skip + past.count, -1 - past.skip)
        parts.append(block_attention(asking, keys(past.k), _flat(past.v), there, before, impl=impl))
    if cells:
        t = cells.k.shape[3]
        far = Cells(s, t, cells.skip + 1, cells.skip + cells.count)
        of_query, of_cell = (jnp.arange(N * rows)[None] // rows for rows in (s, t))
        given = _flat(cells.v), _flat(cells.there)[:, 0, :, 0]
        asking = queries(t, past.count * s - cells.skip * t)
        parts.append(block_attention(asking, keys(cells.k), *given, far, of_query, of_cell, impl))
    return joined(parts).reshape(B, H, N, s, -1)


def _turns(segments: int, rows: int, width: int, step: int, ahead: int = 0) -> tuple[Array, Array]:
    """sin and cos, [N, rows, F], of the places n step + ahead + i at all frequencies.

    Angles of segments and of rows are float64, so that those of a long text are exact.
    """
    frequency = 10000.0 ** (-np.arange(0, width, 2) / width)
    first = (np.arange(segments)[:, None, None] * step + ahead) * frequency
    inside = np.arange(rows)[:, None] * frequency
    (sine, cosine), (s, c) = ([jnp.asarray(f(x), jnp.float32) for f in (np.sin, np.cos)] for x in (first, inside))
    return sine * c + cosine * s, cosine * c - sine * s


def _flat(x: Float[Array, "B H N s K"]) -> Float[Array, "B H L K"]:
    """Segments one after another."""
    return x.reshape(*x.shape[:2], -1, x.shape[4])
