"""phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K)), phi(x) = elu(x) + 1 (arXiv 2006.16236, equation 5): linear in L.

Keys that are not there have phi = 0. The normalizer is float32 and at least 1e-6, so a row without any key gives 0.
With rotary positions phi(Q) and phi(K) are turned, but not in the normalizer (arXiv 2104.09864, equation 19).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lra_bench.kernels.product import product
from lra_bench.kernels.rotary import rotary

FLOOR = 1e-6


def phi(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """elu(x) + 1: positive, exp on the left, the identity (plus 1) on the right."""
    return jax.nn.elu(x) + 1


def linear_attention_reference(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    turned: bool = False,
) -> Float[Array, "B H M K"]:
    """Attention whose weights are phi(q) phi(k), all M x L of them."""
    q, k = phi(q.astype(jnp.float32)), phi(k.astype(jnp.float32))
    weights = jnp.einsum("bhmk,bhlk->bhml", q, k) * mask[:, None, None, :]
    total = jnp.maximum(weights.sum(-1, keepdims=True), FLOOR)
    if turned:
        weights = jnp.einsum("bhmk,bhlk->bhml", rotary(q), rotary(k)) * mask[:, None, None, :]
    return jnp.einsum("bhml,bhlk->bhmk", weights / total, v.astype(jnp.float32)).astype(v.dtype)


def linear_attention(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    turned: bool = False,
) -> Float[Array, "B H M K"]:
    """The same, the keys summed first. For the backward pass only q, k and v are kept."""
    return jax.checkpoint(partial(_summed, turned=turned))(q, k, v, mask)


def _summed(q: Array, k: Array, v: Array, mask: Array, *, turned: bool) -> Array:
    q, k = phi(q), phi(k) * mask[:, None, :, None].astype(k.dtype)
    total = product("bhmk,bhk->bhm", q, k.sum(2, dtype=jnp.float32).astype(k.dtype))
    q, k = (rotary(q), rotary(k)) if turned else (q, k)
    memory = product("bhlk,bhlv->bhkv", k, v).astype(v.dtype)
    return (product("bhmk,bhkv->bhmv", q, memory) / jnp.maximum(total, FLOOR)[..., None]).astype(v.dtype)
