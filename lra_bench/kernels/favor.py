"""FAVOR+ (arXiv 2009.14794): softmax attention's kernel by m positive random features (lemma 1).

    phi(x)_f = exp(w_f . x - |x|^2 / 2) / sqrt m,   x = q or k times K^(-1/4)
    Y = phi(Q) (phi(K)^T V) / (phi(Q) sum_j phi(k_j))

Written with the logarithm l_f of sum_j exp(w_f . k_j - |k_j|^2 / 2) this is two softmax attentions: the features look
at the keys, with logits w_f . k_j - |k_j|^2 / 2, and the queries at the features, with logits w_f . q_i + l_f; |q_i|^2
falls out. So the features, [B, H, L, m], never exist, every exponential has its own row's maximum subtracted (the
features': over the keys that are there; the queries': over the features), and no denominator can vanish.

Where a query sees no later key, the sums over all chunks of keys before its own are kept over each feature's largest
exponential so far. Inside a chunk exponents count from the larger of that and those of the chunk's first key, which all
of the chunk's queries see, and each key has its own maximum over the features subtracted, and each query its own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.kernels.feature_attention import counted
from lra_bench.kernels.impl import XLA
from lra_bench.kernels.prefix import State, begun, by_chunks, onward
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention, softmax_attention_part

LEAST = 1e-30  # of a weight inside a chunk: one that is less of a key's and a query's largest features counts as that


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


def causal_favor(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    w: Float32[Array, "m K"],
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same where a query sees no later key (appendix B.1). `impl` as `impl.chosen` says it, but no kernel."""
    start = nothing(k.shape[0], k.shape[1], len(w), v.shape[-1]).memory
    return by_chunks(Chunk(jax.lax.stop_gradient(w)), start, (q, k, counted(v, mask)), impl).astype(v.dtype)


def extended(
    state: State, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N V"],
    w: Float32[Array, "m K"],
) -> tuple[State, Float[Array, "B H N V"]]:  # fmt: skip
    """The memory after N further tokens, and what they read: `causal_favor` from a state on."""
    state, read = onward(Chunk(w), state, (q, k, counted(v, jnp.ones((v.shape[0], v.shape[2]), bool))))
    return state, read.astype(v.dtype)


class Peaked(NamedTuple):
    """Sums over keys of each feature's exponentials times values, as shares of its largest one."""

    top: Float32[Array, "B H m"]
    sums: Float32[Array, "B H m V+1"]


def nothing(batch: int, heads: int, features: int, width: int) -> State:
    """The memory before the first token, whose last column is of the denominator; values are `width` wide."""
    shape = (batch, heads, features)
    return begun(Peaked(jnp.full(shape, LOWEST), jnp.zeros((*shape, width + 1), jnp.float32)))


class Chunk(NamedTuple):
    """What tokens of a chunk add to the memory, and what they read in it and in each other. The maxima, which fall out,
    are not differentiated."""

    w: Float32[Array, "m K"]

    def sums(self, k: Array, values: Array, i: Array) -> Peaked:
        a = self._exponents(k, values)
        top = jax.lax.stop_gradient(a.max(2))
        return Peaked(top, product("bhlf,bhlv->bhfv", jnp.exp(a - top[:, :, None]), values))

    def joined(self, earlier: Peaked, later: Peaked) -> Peaked:
        """The sums over both, as shares of the larger maximum."""
        top = jnp.maximum(earlier.top, later.top)
        before, after = (jnp.exp(one.top - top)[..., None] * one.sums for one in (earlier, later))
        return Peaked(top, before + after)

    def read(self, memory: Peaked, q: Array, k: Array, values: Array, i: Array) -> Float32[Array, "B H N V"]:
        """`memory` is of all tokens before the chunk."""
        a, still = self._exponents(k, values), jax.lax.stop_gradient
        base = still(jnp.maximum(memory.top, a[:, :, 0]))
        base = jnp.where(base > LOWEST / 2, base, 0)[:, :, None]
        fq = product("bhmk,fk->bhmf", _scaled(q), self.w) + base
        fq = jnp.exp(fq - still(fq.max(-1, keepdims=True)))
        tops = still((a - base).max(-1, keepdims=True))
        weights = jnp.maximum(product("bhmf,bhlf->bhml", fq, jnp.exp(a - base - tops)), LEAST)
        kept = jnp.exp(memory.top[:, :, None] - base).swapaxes(2, 3) * memory.sums
        before = product("bhmf,bhfv->bhmv", fq, kept)

        seen = (i[:, None] >= i) & (values[..., -1:] > 0).swapaxes(2, 3)
        scale, scale_before = _scales(weights, tops.swapaxes(2, 3), before[..., -1:], seen)
        mixed = product("bhml,bhlv->bhmv", jnp.where(seen, weights * scale, 0), values) + scale_before * before
        return mixed[..., :-1] / jnp.where(mixed[..., -1:] > 0, mixed[..., -1:], 1)

    def _exponents(self, k: Array, values: Array) -> Float32[Array, "B H N m"]:
        """w_f . k - |k|^2 / 2; the lowest of what is not there."""
        k = _scaled(k)
        a = product("bhlk,fk->bhlf", k, self.w) - jnp.square(k).sum(-1, keepdims=True) / 2
        return jnp.where(values[..., -1:] > 0, a, LOWEST)


def _scales(weights: Array, tops: Array, before: Array, seen: Array) -> tuple[Array, Array]:
    """What a query's weights, and its sums of what was before, are multiplied by: the largest of all becomes one."""
    weights, before = jax.lax.stop_gradient((weights, before))
    logits = jnp.where(seen, jnp.log(weights) + tops, LOWEST)
    top = jnp.maximum(logits.max(-1, keepdims=True), jnp.where(before > 0, jnp.log(before), LOWEST))
    most = -jnp.log(LEAST)
    return jnp.exp(jnp.minimum(tops - top, most)), jnp.exp(jnp.minimum(-top, most))


def _scaled(x: Float[Array, "B H N K"]) -> Float32[Array, "B H N K"]:
    return x.astype(jnp.float32) * x.shape[-1] ** -0.25


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
