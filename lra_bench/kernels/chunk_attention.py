"""Attention of one head inside chunks, with a learned bias for each distance (Mega, arXiv 2209.10655, section 3.4).

    y_i = sum_j f(q_i . k_j / tau + b_{i-j}) v_j      j in i's chunk, where it is causal up to i        (equation 11)

f is the softmax over j, with tau = sqrt Z, or the Laplace function element by element, with tau the number of keys in
the chunk, where it is causal of those up to i: f(x) = (1 + erf((x - mu) / (sigma sqrt 2))) / 2, mu = sqrt(1/2),
sigma = sqrt(1/(4 pi))                                                                                (equation 16).
One chunk over everything is attention in full: queries are walked through in blocks, and of the forward pass nothing
but its arguments is kept.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST

QUERIES = 128  # of a block
MU, SIGMA = math.sqrt(1 / 2), math.sqrt(1 / (4 * math.pi))


def chunk_attention_reference(
    q: Float[Array, "B L Z"],
    k: Float[Array, "B L Z"],
    v: Float[Array, "B L V"],
    mask: Bool[Array, "B L"],
    bias: Float[Array, " W"],
    laplace: bool = False,
    causal: bool = False,
) -> Float[Array, "B L V"]:
    """The equation, with all L x L weights in memory."""
    L, c = q.shape[1], _size(bias, causal)
    i, j = jnp.arange(L)[:, None], jnp.arange(L)[None, :]
    there = mask[:, None, :] & (i // c == j // c) & ((j <= i) | (not causal))
    weights = chunk_weights(q, k, there, bias[jnp.clip(i - j + len(bias) - c, 0, len(bias) - 1)], laplace)
    return product("bij,bjv->biv", weights, v).astype(v.dtype)


def chunk_weights(
    q: Float[Array, "... M Z"],
    k: Float[Array, "... J Z"],
    there: Bool[Array, "... M J"],
    bias: Float[Array, "M J"],
    laplace: bool,
) -> Float32[Array, "... M J"]:
    """f(q . k / tau + b) of queries and the keys that are there for them."""
    tau = jnp.maximum(there.sum(-1, keepdims=True), 1) if laplace else math.sqrt(q.shape[-1])
    scores = product("...iz,...jz->...ij", q, k) / tau + bias
    return jnp.where(there, _laplace(scores) if laplace else jax.nn.softmax(jnp.where(there, scores, LOWEST)), 0)


def chunk_attention(
    q: Float[Array, "B L Z"],
    k: Float[Array, "B L Z"],
    v: Float[Array, "B L V"],
    mask: Bool[Array, "B L"],
    bias: Float[Array, " W"],
    laplace: bool = False,
    causal: bool = False,
    impl: str = XLA,
) -> Float[Array, "B L V"]:
    """The same. The bias has W = 2c - 1 distances i - j in ascending order, or W = c from 0 on where it is causal; c is
    the size of a chunk."""
    return jax.checkpoint(partial(_attend, laplace=laplace, causal=causal, impl=impl))(q, k, v, mask, bias)


def _size(bias: Float[Array, " W"], causal: bool) -> int:
    """Of a chunk."""
    return len(bias) if causal else (len(bias) + 1) // 2


def _attend(
    q: Array, k: Array, v: Array, mask: Array, bias: Array, laplace: bool, causal: bool, impl: str
) -> Float[Array, "B L V"]:
    B, L, Z = q.shape
    c = _size(bias, causal)
    if causal:
        bias = jnp.pad(bias, (c - 1, 0), constant_values=LOWEST)  # of the keys that are not seen
    rows = min(QUERIES, c)
    size = c + -c % rows  # of a chunk with what completes its last block of queries
    bias = jnp.pad(bias, (size - c, size - c))
    q, k, v = (_chunks(x, c, size) for x in (q, k, v))
    there = _chunks(mask[..., None], c, size)[..., 0]
    count = there.cumsum(-1)[..., None] if causal else there.sum(-1)[..., None, None]
    q = q.astype(jnp.float32) / jnp.maximum(count, 1) if laplace else q * Z**-0.5

    @jax.checkpoint
    def block(q: Array, bias: Array) -> Array:
        added = _toeplitz(bias, rows, size)
        seen = there[:, :, None] & (added > LOWEST) if causal else there[:, :, None]
        scores = product("bniz,bnjz->bnij", q, k) + added
        weights = jnp.where(seen, _laplace(scores), 0) if laplace else _softmax(scores, seen)
        return product("bnij,bnjv->bniv", weights.astype(v.dtype), v).astype(v.dtype)

    starts = range(0, size, rows)
    biases = jnp.stack([bias[s : s + rows + size - 1] for s in starts])
    queries = jnp.moveaxis(q.reshape(*q.shape[:2], -1, rows, Z), 2, 0)
    some = at_once(impl, len(queries), queries[0].size // Z * size * len(queries))
    y = lax.map(lambda pair: block(*pair), (queries, biases), batch_size=some)
    return jnp.moveaxis(y, 0, 2).reshape(*v.shape)[:, :, :c].reshape(B, -1, v.shape[-1])[:, :L]


def _chunks(x: Array, c: int, size: int) -> Array:
    """[B, L, Z] in chunks of c, [B, N, size, Z], each filled up with zeros."""
    B, L, Z = x.shape
    x = jnp.pad(x, ((0, 0), (0, -L % c), (0, 0))).reshape(B, -1, c, Z)
    return jnp.pad(x, ((0, 0), (0, 0), (0, size - c), (0, 0)))


def _toeplitz(bias: Float[Array, " W"], rows: int, columns: int) -> Float[Array, "rows columns"]:
    """t_ij = bias_(i - j + columns - 1), by a reshape: a gather's gradient would be a slow scatter."""
    width = rows + columns
    line = jnp.tile(jnp.pad(bias[::-1], (0, 1)), rows)[: rows * (width - 1)]
    return line.reshape(rows, width - 1)[:, rows - 1 :]


def _laplace(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return (1 + lax.erf((x - MU) / (SIGMA * math.sqrt(2)))) / 2


def _softmax(scores: Float[Array, "... J"], there: Bool[Array, "... J"]) -> Float[Array, "... J"]:
    """0 everywhere in a row without a key."""
    scores = jnp.where(there, scores, LOWEST)
    top = lax.stop_gradient(jnp.maximum(scores.max(-1, keepdims=True), LOWEST / 2))
    weights = jnp.exp(scores - top)
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), jnp.finfo(jnp.float32).tiny)
