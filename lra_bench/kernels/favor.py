"""FAVOR+ (arXiv 2009.14794): softmax attention's kernel by m positive random features (lemma 1).

    phi(x)_f = exp(w_f . x - |x|^2 / 2) / sqrt m,   x = q or k times K^(-1/4)
    Y = phi(Q) (phi(K)^T V) / (phi(Q) sum_j phi(k_j))

Written with the logarithm l_f of sum_j exp(w_f . k_j - |k_j|^2 / 2) this is two softmax attentions: the features look
at the keys, with logits w_f . k_j - |k_j|^2 / 2, and the queries at the features, with logits w_f . q_i + l_f; |q_i|^2
falls out. So the features, [B, H, L, m], never exist, every exponential has its own row's maximum subtracted (the
features': over the keys that are there; the queries': over the features), and no denominator can vanish.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.kernels.impl import XLA
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import softmax_attention, softmax_attention_part


def favor_reference(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    w: Float32[Array, "m K"],
) -> Float[Array, "B H M V"]:
    """By the features; the maxima are of a query's features, and of all keys' that are there."""
    q, k = (x.astype(jnp.float32) * x.shape[-1] ** -0.25 for x in (q, k))
    q, k = (product("bhlk,fk->bhlf", x, w) - jnp.square(x).sum(-1, keepdims=True) / 2 for x in (q, k))
    there = mask[:, None, :, None]
    q = jnp.exp(q - q.max(-1, keepdims=True)) * len(w) ** -0.5
    k = jnp.exp(jnp.where(there, k - jnp.where(there, k, -1e30).max((2, 3), keepdims=True), -jnp.inf)) * len(w) ** -0.5
    total = product("bhmf,bhf->bhm", q, k.sum(2))[..., None]
    mixed = product("bhmf,bhfv->bhmv", q, product("bhlf,bhlv->bhfv", k, v))
    return (mixed / jnp.where(total > 0, total, 1)).astype(v.dtype)


def favor(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    w: Float32[Array, "m K"],
    impl: str = XLA,
) -> Float[Array, "B H M V"]:
    """The same, as two softmax attentions in blocks. w is not differentiated. A row without any key gives 0.

    Logits are float32, whatever q and k are: the exponents |k|^2 / 2 and l are carried as one more entry of the rows.
    """
    (B, H, _, K), root = q.shape, (q.shape[-1] + 1) ** 0.5  # by which the kernel divides: rows have one entry more
    w = jnp.broadcast_to(jax.lax.stop_gradient(w), (B, H, *w.shape))
    mixed, total = softmax_attention_part(_longer(w) * root, _exponents(k.astype(jnp.float32)), v, mask, impl)
    features = jnp.concatenate([w * K**-0.25, total[..., None]], axis=-1) * root
    every = jnp.ones((B, w.shape[2]), bool)
    return softmax_attention(_longer(q.astype(jnp.float32)), features, mixed, every, impl).astype(v.dtype)


def orthogonal_features(key: jax.Array, m: int, width: int) -> Float32[Array, "m K"]:
    """m rows, each distributed as N(0, I), any K after one another orthogonal (arXiv 2009.14794, section 2.4)."""
    directions, norms = jax.random.split(key)
    square = jax.random.normal(directions, (-(-m // width), width, width))
    turned, upper = jnp.linalg.qr(square)
    turned = turned * jnp.sign(jnp.diagonal(upper, axis1=-2, axis2=-1))[:, None, :]  # uniform over all rotations
    length = jnp.linalg.norm(jax.random.normal(norms, (m, width)), axis=-1)
    return jnp.swapaxes(turned, -1, -2).reshape(-1, width)[:m] * length[:, None]


def _longer(x: Float[Array, "B H L K"]) -> Float[Array, "B H L J"]:
    """A last entry of 1."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=1)


@jax.custom_vjp
def _exponents(k: Float32[Array, "B H L K"]) -> Float32[Array, "B H L J"]:
    """k times K^(-1/4), and -|.|^2 / 2 as its last entry. The backward pass keeps this instead of k, not beside it."""
    k = k * k.shape[-1] ** -0.25
    return jnp.concatenate([k, -jnp.square(k).sum(-1, keepdims=True) / 2], axis=-1)


def _keep(k: Array) -> tuple[Array, Array]:
    longer = _exponents(k)
    return longer, longer


def _backward(longer: Array, g: Array) -> tuple[Array]:
    k = longer[..., :-1]
    return ((g[..., :-1] - k * g[..., -1:]) * k.shape[-1] ** -0.25,)


_exponents.defvjp(_keep, _backward)
