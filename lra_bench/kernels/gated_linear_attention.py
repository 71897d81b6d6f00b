"""Linear attention with a gate that forgets (GLA, arXiv 2312.06635, equations 3 and 4), in chunks.

    S_t = diag(exp g_t) S_{t-1} + k_t v_t^T,   y_t = S_t^T q_t        S: [K, V]; g <= 0: the gate's logarithm

Between chunks the states are walked through; inside one, y_t adds (q_t exp(b_t - r)) . (k_s exp(r - b_s)) v_s over the
s <= t, b being the sum of g up to a token. r is b in the middle of the chunk, and g counts as at least -2.5, which
leaves 8% of what was there: no exponent is then larger than 40, whose exponential float32 holds. Of a causal text
r is b at the first token of a chunk half as long: what comes after a token does not even change how it is rounded.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lra_bench.kernels.impl import XLA
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST

GROUP = 16  # chunks
CHUNK, LEAST = 32, -2.5  # their product is twice the largest exponent
CAUSAL = CHUNK // 2  # their product is the largest exponent


def gated_linear_attention_reference(
    q: Float[Array, "B H L K"], k: Float[Array, "B H L K"], v: Float[Array, "B H L V"], g: Float[Array, "B H L K"]
) -> Float[Array, "B H L V"]:
    """Token by token."""

    def step(S: Array, token: tuple[Array, ...]) -> tuple[Array, Array]:
        q, k, v, g = token
        S = jnp.exp(g)[..., None] * S + k[..., None] * v[:, :, None]
        return S, jnp.einsum("bhk,bhkv->bhv", q, S)

    tokens = tuple(jnp.moveaxis(x.astype(jnp.float32), 2, 0) for x in (q, k, v, jnp.maximum(g, LEAST)))
    return jnp.moveaxis(lax.scan(step, jnp.zeros((*k.shape[:2], k.shape[3], v.shape[3])), tokens)[1], 0, 2).astype(
        v.dtype
    )


def gated_linear_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    g: Float[Array, "B H L K"],
    chunk: int = CHUNK,
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same, `chunk` tokens at a time, at most 32. For the backward pass only the arguments are kept.

    `impl` as `impl.chosen` says it.
    """
    assert chunk <= CHUNK
    return jax.checkpoint(partial(_attend, chunk=chunk, impl=impl))(q, k, v, g)


def causal_gated_linear_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    g: Float[Array, "B H L K"],
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same, of which nothing that comes later changes a bit."""
    return jax.checkpoint(partial(_attend, chunk=CAUSAL, impl=impl, causal=True))(q, k, v, g)


def extended(
    S: Float[Array, "B H K V"], q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N V"],
    g: Float[Array, "B H N K"],
) -> tuple[Float[Array, "B H K V"], Float[Array, "B H N V"]]:  # fmt: skip
    """The state after N further tokens, and their y."""
    inside, opened, log, added = _parts(q, k, v, g, min(CAUSAL, q.shape[2]), 0)
    S, before = _walked(log, added, S)
    return S, _read(inside, opened, before, v)


def _attend(
    q: Array, k: Array, v: Array, g: Array, chunk: int, impl: str, causal: bool = False
) -> Float[Array, "B H L V"]:
    inside, opened, log, added = _parts(q, k, v, g, chunk, 0 if causal else chunk // 2)
    if impl != XLA:
        return _read(inside, opened, _multiplied(log, added, causal), v)
    S = _walked(log, added, jnp.zeros_like(added[:, :, 0]))[1]
    return _read(inside, opened, S, v)


def _parts(q: Array, k: Array, v: Array, g: Array, chunk: int, base: int) -> tuple[Array, Array, Array, Array]:
    """Of each chunk: what its tokens read in each other, what they read the state before it by, the logarithm of what
    is left of that state, and what is added to it. Exponents count from the token `base`."""
    g = jnp.maximum(g.astype(jnp.float32), LEAST)
    q, k, v, g = (_chunks(x, chunk) for x in (q, k, v, g))
    b = g.cumsum(3)
    middle, end = b[:, :, :, base, None], b[:, :, :, -1:]

    scores = product("bhntk,bhnsk->bhnts", q * jnp.exp(b - middle), k * jnp.exp(middle - b))
    i = jnp.arange(chunk)
    inside = product("bhnts,bhnsv->bhntv", jnp.where(i[:, None] >= i, scores, 0), v)
    added = product("bhntk,bhntv->bhnkv", k * jnp.exp(end - b), v)
    return inside, q * jnp.exp(b), end[:, :, :, 0], added


def _read(inside: Array, opened: Array, S: Array, v: Float[Array, "B H L V"]) -> Float[Array, "B H L V"]:
    """What is read inside each chunk, and in the state S before it."""
    y = inside + product("bhntk,bhnkv->bhntv", opened, S)
    return y.reshape(*v.shape[:2], -1, v.shape[3])[:, :, : v.shape[2]].astype(v.dtype)


def _walked(
    log: Float[Array, "B H N K"], added: Float[Array, "B H N K V"], start: Float[Array, "B H K V"]
) -> tuple[Float[Array, "B H K V"], Float[Array, "B H N K V"]]:
    """The last state, and that before each chunk: after one it is exp(log) times what it was before, and what is
    added."""

    def step(S: Array, piece: tuple[Array, Array]) -> tuple[Array, Array]:
        kept, added = piece
        return kept[..., None] * S + added, S

    pieces = (jnp.moveaxis(jnp.exp(log), 2, 0), jnp.moveaxis(added, 2, 0))
    last, S = lax.scan(step, start, pieces)
    return last, jnp.moveaxis(S, 0, 2)


def _multiplied(
    log: Float[Array, "B H N K"], added: Float[Array, "B H N K V"], causal: bool
) -> Float[Array, "B H N K V"]:
    """The state before each chunk, from none, by products with the matrices of what is left of each chunk, for groups
    of chunks and among groups."""
    (B, H, N, K), V = log.shape, added.shape[-1]
    log, added = (_chunks(x.reshape(B, H, N, -1), GROUP) for x in (log, added))
    added = added.reshape(*added.shape[:-1], K, V)
    sums = log.cumsum(3)
    until = _until(sums, log, causal)
    inside = product("bhgnmk,bhgmkv->bhgnkv", _left(until, sums), added)
    last, total = sums[:, :, :, -1], jnp.exp(log[:, :, :, -1])[..., None] * inside[:, :, :, -1] + added[:, :, :, -1]
    upto = last.cumsum(2)
    before = product("bhnmk,bhmkv->bhnkv", _left(_until(upto, last, causal), upto), total)
    S = inside + jnp.exp(until)[..., None] * before[:, :, :, None]
    return S.reshape(B, H, -1, K, V)[:, :, :N]


def _until(sums: Float[Array, "*B N K"], log: Float[Array, "*B N K"], causal: bool) -> Float[Array, "*B N K"]:
    """The sums before each chunk; of a causal text not as a difference, which its own tokens round."""
    if not causal:
        return sums - log
    return jnp.concatenate([jnp.zeros_like(sums[..., :1, :]), sums[..., :-1, :]], axis=-2)


def _left(until: Float[Array, "*B N K"], sums: Float[Array, "*B N K"]) -> Float[Array, "*B N N K"]:
    """What is left before the chunk n of what the chunk m < n added: exp of the logarithms between them."""
    n = jnp.arange(sums.shape[-2])
    between = until[..., :, None, :] - sums[..., None, :, :]
    return jnp.exp(jnp.where((n[:, None] > n)[..., None], between, LOWEST))


def _chunks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H N size K"]:
    """The length in chunks, the last one filled up with zeros."""
    B, H, L, K = x.shape
    return jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0))).reshape(B, H, -1, size, K)
