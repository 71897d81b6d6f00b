"""Attention inside segments with what is kept of the past in front of them, and relative positions (Transformer-XL,
arXiv 1901.02860, section 3.3). The logit of the query i and the key j of one segment is

    ((q_i + u) . k_j + (q_i + w) . r_{i-j}) / sqrt K

where r holds a row for each distance. (q_i + w) . r is computed for all distances at once, as a matrix that is then
shifted row by row (appendix B). One segment at a time; the backward pass recomputes its weights.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Shaped

from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST

HALF = 0.5  # a sum of weights is at least 1 where there is a key; where there is none its square must not be 0


def segment_attention_reference(
    q: Float[Array, "B H N s K"],
    k: Float[Array, "B H N J K"],
    v: Float[Array, "B H N J V"],
    mask: Bool[Array, "B N J"],
    r: Float[Array, "H R K"],
    u: Float[Array, "H K"],
    w: Float[Array, "H K"],
    *,
    causal: bool = False,
) -> Float[Array, "B H N s V"]:
    """The equation, with a row of r gathered for each pair of query and key."""
    s, J = q.shape[3], k.shape[3]
    i, j = jnp.arange(s)[:, None], jnp.arange(J)
    content = product("bhnsk,bhnjk->bhnsj", q + _each(u, q), k)
    position = product("bhnsk,hsjk->bhnsj", q + _each(w, q), r[:, s - 1 - i + j])
    seen = mask[:, None, :, None, :] & ((j <= J - s + i) | (not causal))
    scores = jnp.where(seen, (content + position) * q.shape[-1] ** -0.5, LOWEST)
    weights = jnp.where(seen, jax.nn.softmax(scores, axis=-1), 0)
    return product("bhnsj,bhnjv->bhnsv", weights.astype(v.dtype), v).astype(v.dtype)


def segment_attention(
    q: Float[Array, "B H N s K"],
    k: Float[Array, "B H N J K"],
    v: Float[Array, "B H N J V"],
    mask: Bool[Array, "B N J"],
    r: Float[Array, "H R K"],
    u: Float[Array, "H K"],
    w: Float[Array, "H K"],
    *,
    causal: bool = False,
    impl: str = XLA,
) -> Float[Array, "B H N s V"]:
    """N segments of s queries; each meets J keys, of which the last s stand where its queries do.

    Args:
        mask: True where there is a key. A query that meets none gives 0.
        r: a row for each distance i - j, from J - 1 down to 1 - s: R = J + s - 1 rows.
        u: added to the queries before they meet keys.
        w: added to the queries before they meet distances.
        causal: a query sees no key after its own place.
        impl: as `impl.chosen` says it.
    """
    s, J, scale = q.shape[3], k.shape[3], q.shape[-1] ** -0.5
    later = jnp.arange(J) > J - s + jnp.arange(s)[:, None]
    ahead = jnp.where(later & causal, LOWEST, 0).astype(jnp.float32)

    walked = impl == XLA
    bh, heads = ("bh", 1) if walked else ("hb", 0)  # heads first, or a product with r is to be turned around
    r = r if walked else jnp.pad(r, ((0, 0), (0, 1), (0, 0)))  # rows of positions as `shifted` reads them
    u, w = (jnp.expand_dims(x, (1 - heads, 2)).astype(q.dtype) for x in (u, w))

    @jax.checkpoint
    def step(block: tuple[Array, Array, Array, Array]) -> Array:
        q, k, v, mask = block
        content = product(f"{bh}sk,{bh}jk->{bh}sj", (q + u) * scale, k)
        position = product(f"{bh}sk,hrk->{bh}sr", (q + w) * scale, r)
        hidden = jnp.expand_dims(jnp.where(mask, 0, LOWEST).astype(jnp.float32), (heads, 2))
        scores = content + shifted(position, J) + hidden + ahead
        top = lax.stop_gradient(jnp.maximum(scores.max(-1, keepdims=True), LOWEST / 2))
        weights = jnp.exp(scores - top)
        total = jnp.maximum(weights.sum(-1, keepdims=True), HALF)
        return (product(f"{bh}sj,{bh}jv->{bh}sv", weights.astype(v.dtype), v) / total).astype(v.dtype)

    (B, H, N), V = q.shape[:3], v.shape[4]
    if walked:
        y = lax.map(step, (*(jnp.moveaxis(x, 2, 0) for x in (q, k, v)), jnp.moveaxis(mask, 1, 0)))
        return jnp.moveaxis(y, 0, 2)
    some = at_once(impl, N, q.size // q.shape[4] * (J + r.shape[1])) or N
    there = _grouped(mask[:, None, :, :, None], some)[:, 0, :, :, 0]
    y = lax.map(step, (*(_grouped(x, some) for x in (q, k, v)), there))
    return jnp.moveaxis(y.reshape(-1, H, some, B, s, V), (3, 1), (0, 1)).reshape(B, H, -1, s, V)[:, :, :N]


def _grouped(x: Shaped[Array, "B H N s K"], some: int) -> Shaped[Array, "G H M s K"]:
    """So many segments of all texts side by side, heads first; the last group filled up with segments of none."""
    B, H, _, s, K = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % some), (0, 0), (0, 0))).reshape(B, H, -1, some, s, K)
    return x.transpose(2, 1, 3, 0, 4, 5).reshape(-1, H, some * B, s, K)


def shifted(x: Float32[Array, "... s R"], keys: int) -> Float32[Array, "... s J"]:
    """Entry (i, j) is x's entry (i, s - 1 - i + j), for J = `keys`: read with rows that are one longer than J + s - 1,
    as x has them, or is padded to."""
    *batch, s, R = x.shape
    row = keys + s - 1
    flat = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, row + 1 - R)]).reshape(*batch, s * (row + 1))
    return flat[..., s - 1 : s - 1 + s * row].reshape(*batch, s, row)[..., :keys]


def sinusoids(keys: int, queries: int, width: int) -> Float32[Array, "R D"]:
    """sin and cos of d / 10000^(2i / D), side by side, for the distances d = J - 1 down to 1 - s."""
    distance = jnp.arange(keys - 1, -queries, -1, dtype=jnp.float32)[:, None]
    angle = distance * 10000.0 ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)[:, :width]


def segments(x: Shaped[Array, "B H L K"], size: int) -> Shaped[Array, "B H N s K"]:
    """The length cut into segments, the last one filled up with zeros."""
    B, H, L, K = x.shape
    return jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0))).reshape(B, H, -1, size, K)


def earlier(x: Shaped[Array, "B H N s K"], count: int, skip: int = 0) -> Shaped[Array, "B H N J K"]:
    """For each segment the `count` segments before it, oldest first, without the `skip` that are nearest.

    Those before the first are zero. J = count * s.
    """
    N = x.shape[2]
    back = [min(distance, N) for distance in range(skip + count, skip, -1)]
    pads = [[(0, 0), (0, 0), (distance, 0), (0, 0), (0, 0)] for distance in back]
    parts = [jnp.pad(x[:, :, : N - distance], pad) for distance, pad in zip(back, pads, strict=True)]
    return jnp.concatenate(parts, axis=3) if parts else x[:, :, :, :0]


def _each(bias: Float[Array, "H K"], q: Float[Array, "B H N s K"]) -> Float[Array, "H 1 1 K"]:
    """A head's bias, for all of its queries."""
    return bias[:, None, None].astype(q.dtype)
