"""Softmax attention inside a window, with a learned vector for each distance added to the key (Shaw et al., arXiv
1803.02155, equation 4; ETC, arXiv 2004.08483, section 3.1). The logit of the query at i and the key at j is

    q_i . (k_j + a_c) / sqrt K,   c = j - i, clipped to what there are vectors for,        where |i - j| <= radius

In the same softmax stand keys that all queries see, wherever they are: a global memory's.

Chunks of queries meet the keys from `radius` before to `radius` after them, one chunk at a time; the backward pass
recomputes a chunk's weights from the saved logsumexp. Beyond the distances that there are vectors for q_i . a_c is one
number for all keys on a side. Scores are held transposed, [keys, queries], as in `softmax_attention`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.kernels.block_attention import TINY
from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.product import inner, product
from lra_bench.kernels.softmax_attention import LOWEST, bias, blocks, join, turn

CHUNK = 64  # queries

Keys = tuple[Float[Array, "B H G K"], Float[Array, "B H G K"]]  # and their values


def relative_attention_reference(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    a: Float[Array, "H C K"],
    more: Keys,
    radius: int,
) -> tuple[Float[Array, "B H L K"], Float32[Array, "B H L"]]:
    """The equation, with all weights in memory and a vector gathered for each pair of query and key."""
    i, far = jnp.arange(q.shape[2]), a.shape[1] // 2
    c = jnp.clip(i[None, :] - i[:, None], -far, far) + far
    near = product("bhmk,bhlk->bhml", q, k) + product("bhmk,hmlk->bhml", q, a[:, c])
    scores = jnp.concatenate([near, product("bhmk,bhgk->bhmg", q, more[0])], axis=-1) * q.shape[-1] ** -0.5
    there = mask[:, None, None, :] & (abs(i[:, None] - i[None, :]) <= radius)
    there = jnp.pad(there, ((0, 0), (0, 0), (0, 0), (0, more[0].shape[2])), constant_values=True)
    scores = jnp.where(there, scores, LOWEST)
    weights = jnp.where(there, jax.nn.softmax(scores, axis=-1), 0)
    v = jnp.concatenate([v, more[1]], axis=2)
    out = product("bhml,bhlk->bhmk", weights.astype(v.dtype), v).astype(v.dtype)
    return out, jnp.maximum(jax.nn.logsumexp(scores, axis=-1), LOWEST / 2)


@partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def relative_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    a: Float[Array, "H C K"],
    more: Keys,
    radius: int,
    impl: str = XLA,
) -> tuple[Float[Array, "B H L K"], Float32[Array, "B H L"]]:
    """The same, chunk by chunk: the output, and the logsumexp of each query's logits.

    Args:
        mask: True where there is a key. A query that meets none gives 0, and a logsumexp far below any other.
        a: a vector for each distance j - i from -(C - 1)/2 to (C - 1)/2, which is at most `radius`.
        more: G further keys and their values, which all queries see and no distance is known of; G may be 0.
        radius: how far a query sees to either side.
        impl: as `impl.chosen` says it.
    """
    (L, K), chunk, more_k = q.shape[2:], min(CHUNK, q.shape[2]), more[0]
    keys = _Keys(k, v, mask, more, radius)

    def step(block: tuple[Array, Array]) -> tuple[Array, Array]:
        start, q = block
        key, value, bias = keys.at(start)
        scores = product("bhlk,bhmk->bhlm", key, q) + bias + _labels(q, a, more_k.shape[2], radius, impl)
        top = jnp.maximum(scores.max(-2, keepdims=True), LOWEST / 2)
        weights = jnp.exp(scores - top)
        total = jnp.maximum(weights.sum(-2, keepdims=True), TINY)
        mixed = product("bhlm,bhlk->bhkm", weights.astype(v.dtype), value) / total
        return turn(mixed).astype(v.dtype), (top + jnp.log(total))[:, :, 0]

    rows = (jnp.arange(0, L, chunk), blocks(q * K**-0.5, chunk))
    out, logsumexp = lax.map(step, rows, batch_size=_at_once(q, keys, impl))
    return join(out, L), join(logsumexp[..., None], L)[..., 0]


def _keep(
    q: Array, k: Array, v: Array, mask: Array, a: Array, more: Keys, radius: int, impl: str
) -> tuple[tuple[Array, Array], Any]:
    out, logsumexp = relative_attention(q, k, v, mask, a, more, radius, impl)
    return (out, logsumexp), (q, k, v, mask, a, more, out, logsumexp)


def _backward(radius: int, impl: str, kept: Any, g: tuple[Array, Array]) -> tuple[Any, ...]:
    q, k, v, mask, a, more, out, logsumexp = kept
    (L, K), chunk, G = q.shape[2:], min(CHUNK, q.shape[2]), more[0].shape[2]
    keys = _Keys(k, v, mask, more, radius)
    mean = inner(g[0], out) - g[1]

    def gradients(block: tuple[Array, ...]) -> tuple[Array, ...]:
        start, q, g, lse, mean = block
        key, value, bias = keys.at(start)
        scores = product("bhlk,bhmk->bhlm", key, q) + bias + _labels(q, a, G, radius, impl)
        weights = jnp.exp(scores - turn(lse))
        dv = product("bhlm,bhmk->bhlk", weights.astype(g.dtype), g)
        ds = weights * (product("bhlk,bhmk->bhlm", value, g) - turn(mean))
        ds = ds if impl == XLA else ds.astype(q.dtype)
        dt = _unlabelled(ds[:, :, : keys.size].astype(jnp.float32), a.shape[1], radius)
        ds = ds.astype(q.dtype)
        dk = product("bhlm,bhmk->bhlk", ds, q)
        dq = product("bhlm,bhlk->bhmk", ds, key) + product("bhcm,hck->bhmk", dt, a)
        near, far = ([x[:, :, part] for x in (dk, dv)] for part in (slice(keys.size), slice(keys.size, None)))
        return *near, *far, product("bhcm,bhmk->hck", dt, q), (dq * K**-0.5).astype(q.dtype)

    def step(grads: tuple[Array, ...], block: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array]:
        *parts, dq = gradients(block)
        near = (_add(total, x, block[0]) for total, x in zip(grads[:2], parts[:2], strict=True))
        return (*near, *(total + x for total, x in zip(grads[2:], parts[2:], strict=True))), dq

    def many(grads: tuple[Array, ...], some: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array]:
        *parts, dq = jax.vmap(gradients)(some)
        near = (_add_all(total, x, some[0]) for total, x in zip(grads[:2], parts[:2], strict=True))
        return (*near, *(total + x.sum(0) for total, x in zip(grads[2:], parts[2:], strict=True))), dq

    rows = [blocks(x, chunk) for x in (q * K**-0.5, g[0], logsumexp[..., None], mean[..., None])]
    zero = tuple(jnp.zeros(x.shape) for x in (keys.k, keys.v, *more, a))
    each, some = (jnp.arange(0, L, chunk), *rows), _at_once(q, keys, impl)
    if some is None:
        grads, dq = lax.scan(step, zero, each)
    else:
        grads, dq = lax.scan(many, zero, tuple(_grouped(x, some) for x in each))
        dq = dq.reshape(-1, *dq.shape[2:])
    dk, dv, *far, da = grads
    dk, dv = (x[:, :, radius : radius + L].astype(v.dtype) for x in (dk, dv))
    return join(dq, L), dk, dv, None, da.astype(a.dtype), tuple(x.astype(v.dtype) for x in far)


relative_attention.defvjp(_keep, _backward)


class _Keys:
    """Keys and values with room for a chunk's surroundings on both sides, and those that all see."""

    def __init__(self, k: Array, v: Array, mask: Array, more: Keys, radius: int) -> None:
        L = k.shape[2]
        chunk = min(CHUNK, L)
        room = (radius, radius + -L % chunk)
        self.k, self.v = (jnp.pad(x, ((0, 0), (0, 0), room, (0, 0))) for x in (k, v))
        self.hidden = bias(jnp.pad(mask, ((0, 0), room)), self.k.shape[2])[0]
        self.more, self.size, self.band = more, chunk + 2 * radius, _band(chunk, radius)

    def at(self, start: Array) -> tuple[Float[Array, "B H JG K"], Float[Array, "B H JG K"], Float32[Array, "B 1 JG m"]]:
        """The keys around the chunk from `start` on, their values, and what is added to their logits."""
        k, v, hidden = (lax.dynamic_slice_in_dim(x, start, self.size, 2) for x in (self.k, self.v, self.hidden))
        k, v = (jnp.concatenate(pair, axis=2) for pair in zip((k, v), self.more, strict=True))
        return k, v, jnp.pad(hidden + self.band, ((0, 0), (0, 0), (0, self.more[0].shape[2]), (0, 0)))


def _add(total: Float[Array, "B H W K"], part: Float[Array, "B H J K"], start: Array) -> Float[Array, "B H W K"]:
    """`total` with `part` added from `start` on."""
    old = lax.dynamic_slice_in_dim(total, start, part.shape[2], 2)
    return lax.dynamic_update_slice_in_dim(total, old + part, start, 2)


def _add_all(total: Float[Array, "B H W K"], parts: Float[Array, "n B H J K"], starts: Array) -> Array:
    """The same for several chunks."""
    n, B, H, J, K = parts.shape
    places = (starts[:, None] + jnp.arange(J)).reshape(-1)
    return total.at[:, :, places].add(jnp.moveaxis(parts, 0, 2).reshape(B, H, -1, K))


def _at_once(q: Float[Array, "B H L K"], keys: _Keys, impl: str) -> int | None:
    """Chunks."""
    B, H, L, _ = q.shape
    return at_once(impl, -(-L // min(CHUNK, L)), B * H * L * keys.size)


def _grouped(x: Array, some: int) -> Array:
    """[N, ...] in groups of some, the last one filled up with zeros: chunks whose gradients are zero."""
    return jnp.pad(x, [(0, -len(x) % some), *[(0, 0)] * (x.ndim - 1)]).reshape(-1, some, *x.shape[1:])


def _labels(
    q: Float[Array, "B H m K"], a: Float[Array, "H C K"], more: int, radius: int, impl: str
) -> Float32[Array, "B H JG m"]:
    """q . a of the distance of each key around a chunk and each query in it; 0 for the further keys."""
    if impl == XLA:
        return _joined(product("bhmk,hck->bhcm", q, a), more, radius)
    t = product("bhmk,hck->bhcm", q, a.astype(q.dtype))
    joined, gathered = (partial(f, more=more, radius=radius) for f in (_joined, _gathered))
    return lax.platform_dependent(t, tpu=joined, default=gathered)


def _joined(t: Float32[Array, "B H C m"], more: int, radius: int) -> Float32[Array, "B H JG m"]:
    """The same of q . a, with what is beyond all labels laid around the others."""
    C, m = t.shape[2:]
    j, i = np.arange(m + C - 1)[:, None], np.arange(m)
    near = jnp.take_along_axis(t, np.clip(j - i, 0, C - 1)[None, None], axis=2)
    beyond = (*t.shape[:2], radius - C // 2, m)
    left, right = (jnp.broadcast_to(edge, beyond) for edge in (t[:, :, :1], t[:, :, -1:]))
    return jnp.concatenate([left, near, right, jnp.zeros((*t.shape[:2], more, m))], axis=2)


def _gathered(t: Float32[Array, "B H C m"], more: int, radius: int) -> Float32[Array, "B H JG m"]:
    """The same by one gather, which XLA for a GPU makes a part of what reads it: it is in no memory then."""
    C, m = t.shape[2:]
    c = np.clip(np.arange(m + 2 * radius)[:, None] - np.arange(m) - radius + C // 2, 0, C - 1)
    places = np.pad(c, ((0, more), (0, 0)), constant_values=C)[None, None]
    return jnp.take_along_axis(jnp.pad(t, ((0, 0), (0, 0), (0, 1), (0, 0))), places, axis=2, mode="promise_in_bounds")


def _unlabelled(ds: Float32[Array, "B H J m"], labels: int, radius: int) -> Float32[Array, "B H C m"]:
    """What a distance's q . a gets: the sum of its diagonal; the outermost two with all that lies beyond."""
    m = ds.shape[3]
    c, i, j = np.arange(labels)[:, None], np.arange(m), np.arange(ds.shape[2])[:, None] - (radius - labels // 2)
    if labels == 1:
        return ds.sum(2, keepdims=True)
    inner = jnp.take_along_axis(ds, (c[1:-1] + i + radius - labels // 2)[None, None], axis=2)
    left, right = (jnp.where(at, ds, 0).sum(2, keepdims=True) for at in (j - i <= 0, j - i >= labels - 1))
    return jnp.concatenate([left, inner, right], axis=2)


def _band(chunk: int, radius: int) -> Float32[Array, "J m"]:
    """0 where a query of a chunk is at most `radius` from a key in or around it."""
    i, j = jnp.arange(chunk)[None, :], jnp.arange(chunk + 2 * radius)[:, None] - radius
    return jnp.where(abs(i - j) <= radius, 0, LOWEST).astype(jnp.float32)
