"""phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K)), phi(x) = elu(x) + 1 (arXiv 2006.16236, equation 5): linear in L.

Keys that are not there have phi = 0. The normaliser is float32 and at least 1e-6, so a row without any key gives 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lra_bench.kernels.product import product

FLOOR = 1e-6


def phi(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """elu(x) + 1: positive, exp on the left, the identity (plus 1) on the right."""
    return jax.nn.elu(x) + 1


def linear_attention_reference(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
) -> Float[Array, "B H M K"]:
    """Attention whose weights are phi(q) phi(k), all M x L of them."""
    q, k = phi(q.astype(jnp.float32)), phi(k.astype(jnp.float32))
    weights = jnp.einsum("bhmk,bhlk->bhml", q, k) * mask[:, None, None, :]
    total = jnp.maximum(weights.sum(-1, keepdims=True), FLOOR)
    return jnp.einsum("bhml,bhlk->bhmk", weights / total, v.astype(jnp.float32)).astype(v.dtype)


@jax.custom_vjp
def linear_attention(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
) -> Float[Array, "B H M K"]:
    """The same, the keys summed first. For the backward pass only q, k and v are kept."""
    f, _, S, z = _sums(q, k, v, mask)
    total = jnp.maximum(product("bhmk,bhk->bhm", f, z), FLOOR)
    return (product("bhmk,bhkv->bhmv", f, S) / total[..., None]).astype(v.dtype)


def _sums(q: Array, k: Array, v: Array, mask: Array) -> tuple[Array, Array, Array, Array]:
    """phi(Q), phi(K), S = phi(K)^T V and z = the sum of phi(K)."""
    f, h = phi(q), phi(k) * mask[:, None, :, None].astype(k.dtype)
    return f, h, product("bhlk,bhlv->bhkv", h, v).astype(v.dtype), h.sum(2, dtype=jnp.float32).astype(k.dtype)


def _keep(q: Array, k: Array, v: Array, mask: Array) -> tuple[Array, tuple[Array, ...]]:
    return linear_attention(q, k, v, mask), (q, k, v, mask)


def _backward(kept: tuple[Array, ...], g: Array) -> tuple[Array, Array, Array, None]:
    q, k, v, mask = kept
    f, h, S, z = _sums(q, k, v, mask)
    total = product("bhmk,bhk->bhm", f, z)
    floored = jnp.maximum(total, FLOOR)[..., None]
    mixed, g = product("bhmk,bhkv->bhmv", f, S), g.astype(jnp.float32) / floored
    pull = jnp.where(total > FLOOR, -(g * mixed / floored).sum(-1), 0)  # on the normaliser
    df = product("bhmv,bhkv->bhmk", g, S) + pull[..., None] * z[:, :, None]
    dS, dz = product("bhmk,bhmv->bhkv", f, g), product("bhmk,bhm->bhk", f, pull)
    dh = product("bhlv,bhkv->bhlk", v, dS) + dz[:, :, None]
    dv = product("bhlk,bhkv->bhlv", h, dS)
    # phi's slope is phi on the left and 1 on the right; where there is no key, h is 0 and so is min(h, 1).
    return (df * jnp.minimum(f, 1)).astype(q.dtype), (dh * jnp.minimum(h, 1)).astype(k.dtype), dv.astype(v.dtype), None


linear_attention.defvjp(_keep, _backward)
