"""The gated delta rule (arXiv 2412.06464, equation 10), in chunks.

    S_t = exp(g_t) (1 - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,   y_t = S_t^T q_t       S: [K, V]; |k| = 1; g <= 0

In a chunk that starts with S_0, and with b the sum of g up to a token, S_t = exp(b_t) S_0 + sum_{s<=t} exp(b_t - b_s)
k_s w_s^T, where the w solve a triangular system (the WY representation, section 3.3 there and 2406.06484):

    w_t + beta_t sum_{s<t} exp(b_t - b_s) (k_t . k_s) w_s = beta_t (v_t - exp(b_t) S_0^T k_t)

They are solved for all chunks at once, with S_0 left open; then the states are walked through, or on accelerators taken
as the linear recurrence that they are. No exponent is above 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from lra_bench.kernels.impl import XLA
from lra_bench.kernels.matrix_recurrence import STATES, matrix_recurrence
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST

CHUNK = 32
WIDE = 64  # tokens of a chunk on accelerators
PAIRS, SOLVED = "pairs", "solved"  # as a policy of `jax.checkpoint` calls them
KEPT = jax.checkpoint_policies.save_only_these_names(PAIRS, SOLVED, STATES)


def gated_delta_rule_reference(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    g: Float[Array, "B H L"],
    beta: Float[Array, "B H L"],
) -> Float[Array, "B H L V"]:
    """Token by token."""

    def step(S: Array, token: tuple[Array, ...]) -> tuple[Array, Array]:
        q, k, v, g, beta = token
        S = jnp.exp(g)[..., None, None] * S
        error = v - jnp.einsum("bhk,bhkv->bhv", k, S)
        S = S + (beta[..., None] * k)[..., None] * error[:, :, None]
        return S, jnp.einsum("bhk,bhkv->bhv", q, S)

    tokens = tuple(jnp.moveaxis(x.astype(jnp.float32), 2, 0) for x in (q, k, v, g, beta))
    return jnp.moveaxis(lax.scan(step, jnp.zeros((*k.shape[:2], k.shape[3], v.shape[3])), tokens)[1], 0, 2).astype(
        v.dtype
    )


def gated_delta_rule(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    g: Float[Array, "B H L"],
    beta: Float[Array, "B H L"],
    chunk: int = CHUNK,
) -> Float[Array, "B H L V"]:
    """The same, `chunk` tokens at a time. For the backward pass only the arguments are kept."""

    def rule(q: Array, k: Array, v: Array, g: Array, beta: Array) -> Float[Array, "B H L V"]:
        return _rule(jnp.zeros((*k.shape[:2], k.shape[3], v.shape[3])), q, k, v, g, beta, chunk)[1]

    return jax.checkpoint(rule)(q, k, v, g, beta)


def causal_gated_delta_rule(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    g: Float[Array, "B H L"],
    beta: Float[Array, "B H L"],
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same as `impl.chosen` says it."""
    if impl == XLA:
        return gated_delta_rule(q, k, v, g, beta)
    return jax.checkpoint(_multiplied_once, policy=KEPT)(q, k, v, g, beta)


def extended(
    S: Float[Array, "B H K V"], q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N V"],
    g: Float[Array, "B H N"], beta: Float[Array, "B H N"],
) -> tuple[Float[Array, "B H K V"], Float[Array, "B H N V"]]:  # fmt: skip
    """The state after N further tokens, and their y."""
    return _rule(S, q, k, v, g, beta, min(CHUNK, q.shape[2]))


def _rule(
    start: Array, q: Array, k: Array, v: Array, g: Array, beta: Array, chunk: int
) -> tuple[Float[Array, "B H K V"], Float[Array, "B H L V"]]:
    (B, H, L, V), dtype = v.shape, v.dtype
    b = _chunks(g[..., None], chunk).cumsum(3)
    q, k, v, beta = (_chunks(x, chunk) for x in (q, k, v, beta[..., None]))
    w, open_, ratios = _solved(k, v, beta, b)
    left = k * jnp.exp(b[:, :, :, -1:] - b)
    added, lost = product("bhntk,bhntv->bhnkv", left, w), product("bhntk,bhntj->bhnkj", left, open_)

    last, S = _walked(jnp.exp(b[:, :, :, -1:]), added, lost, start)
    w = w - product("bhntk,bhnkv->bhntv", open_, S)
    scores = product("bhntk,bhnsk->bhnts", q, k) * ratios
    y = product("bhnts,bhnsv->bhntv", scores, w) + product("bhntk,bhnkv->bhntv", q * jnp.exp(b), S)
    return last, y.reshape(B, H, -1, V)[:, :, :L].astype(dtype)


def _walked(kept: Array, added: Array, lost: Array, start: Array) -> tuple[Array, Float[Array, "B H N K V"]]:
    """The last state, and that before each chunk."""

    def step(S: Array, piece: tuple[Array, ...]) -> tuple[Array, Array]:
        kept, added, lost = piece
        return kept * S + added - product("bhkj,bhjv->bhkv", lost, S), S

    pieces = tuple(jnp.moveaxis(x, 2, 0) for x in (kept, added, lost))
    last, S = lax.scan(step, start, pieces)
    return last, jnp.moveaxis(S, 0, 2)


def _solved(k: Array, v: Array, beta: Array, b: Array) -> tuple[Array, Array, Array]:
    """w = (first) - (second) S_0, and exp(b_t - b_s) for s <= t, else 0."""
    i = jnp.arange(k.shape[3])
    ratios = jnp.exp(jnp.where(i[:, None] >= i, b - b.swapaxes(3, 4), LOWEST))
    matrix = jnp.where(i[:, None] > i, beta * ratios * product("bhntk,bhnsk->bhnts", k, k), 0)
    right = jnp.concatenate([beta * v, beta * jnp.exp(b) * k], axis=-1)
    both = _product(inverse(matrix), right)
    return both[..., : v.shape[-1]], both[..., v.shape[-1] :], ratios


@jax.custom_vjp
def inverse(a: Float[Array, "*B c c"]) -> Float[Array, "*B c c"]:
    """(1 + a)^-1 of a strictly lower triangular `a`, by products of matrices alone.

    Blocks on the diagonal are inverted, of one row first, then of two, four and so on: the inverse of [[p, 0], [r, s]]
    has -s^-1 r p^-1 below. That is as stable as substitution, which a sum of powers of `a` is not.
    """
    c = a.shape[-1]
    i, found, size = jnp.arange(c), jnp.eye(c) - 0 * a, 1
    while size < c:
        pair, half = i // (2 * size), i // size % 2
        below = (pair[:, None] == pair) & (half[:, None] > half)
        found = found - _product(found, _product(jnp.where(below, a, 0), found))
        size *= 2
    return found


def _keep_inverse(a: Array) -> tuple[Array, Array]:
    found = inverse(a)
    return found, found


def _pull_inverse(found: Array, g: Array) -> tuple[Array]:
    turned = found.swapaxes(-1, -2)
    return (-_product(turned, _product(g, turned)),)


inverse.defvjp(_keep_inverse, _pull_inverse)


def _product(a: Array, b: Array) -> Array:
    return product("...ij,...jk->...ik", a, b)


def two_readings(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    g: Float[Array, "B L 2H"],
    beta: Float[Array, "B L 2H"],
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The sum of two readings of a text, one from each end, with gates of their own: of the first, then of the second.

    `impl` as `impl.chosen` says it.
    """
    if impl != XLA:
        return jax.checkpoint(_multiplied_twice, policy=KEPT)(q, k, v, g, beta)
    y = gated_delta_rule(both(q), both(k), both(v), readings(g), readings(beta))
    y, reverse = jnp.split(y, 2, axis=1)
    return y + reverse[:, :, ::-1]


def both(x: Float[Array, "B H L K"]) -> Float[Array, "B H2 L K"]:
    """The text, and the reversed text as further heads."""
    return jnp.concatenate([x, x[:, :, ::-1]], axis=1)


def readings(x: Float[Array, "B L H2"]) -> Float[Array, "B H2 L"]:
    """What belongs to the first reading, and reversed what belongs to the second."""
    forward, backward = jnp.split(x.swapaxes(1, 2), 2, axis=1)
    return jnp.concatenate([forward, backward[:, :, ::-1]], axis=1)


def _multiplied_once(q: Array, k: Array, v: Array, g: Array, beta: Array) -> Float[Array, "B H L V"]:
    """All chunks of a reading at once."""
    (B, H, L, V), dtype = v.shape, v.dtype
    q, k, v, g, beta = (_chunks(x, WIDE) for x in (q, k, v, g[..., None], beta[..., None]))
    scores, alike = (_pairs(x, k) for x in (q, k))
    return _multiplied(q, k, v, g, beta, scores, alike).reshape(B, H, -1, V)[:, :, :L].astype(dtype)


def _multiplied_twice(q: Array, k: Array, v: Array, g: Array, beta: Array) -> Float[Array, "B H L V"]:
    """The same of both readings, each in its own order. Products of keys with keys and queries serve both."""
    (B, H, L, V), dtype = v.shape, v.dtype
    g, beta = (jnp.pad(x, ((0, 0), (0, -L % WIDE), (0, 0))) for x in (g, beta))
    g, beta = (_chunks(readings(x)[..., None], WIDE) for x in (g, beta))
    q, k, v = (_chunks(x, WIDE) for x in (q, k, v))
    scores, alike = (_twice(_pairs(x, k), 2, 3, 4) for x in (q, k))
    q, k, v = (_twice(x, 2, 3) for x in (q, k, v))
    y, reverse = jnp.split(_multiplied(q, k, v, g, beta, scores, alike), 2, axis=1)
    return (y + jnp.flip(reverse, (2, 3))).reshape(B, H, -1, V)[:, :, :L].astype(dtype)


def _pairs(x: Float[Array, "B H N c K"], k: Float[Array, "B H N c K"]) -> Float[Array, "B H N c c"]:
    """Products of each chunk's queries or keys with its keys."""
    return checkpoint_name(product("bhntk,bhnsk->bhnts", x, k), PAIRS)


def _multiplied(
    q: Array, k: Array, v: Array, g: Array, beta: Array, scores: Array, alike: Array
) -> Float[Array, "B H N c V"]:
    """All chunks at once, by the products of their queries with keys, and of keys with keys."""
    i, b = jnp.arange(WIDE), g.cumsum(3)
    end = b[:, :, :, -1:]
    ratios = jnp.exp(jnp.where(i[:, None] >= i, b - b.swapaxes(3, 4), LOWEST))
    matrix = jnp.where(i[:, None] > i, beta * ratios * alike, 0)
    w, open_ = solved(matrix, beta * v), solved(matrix, beta * jnp.exp(b) * k)

    left = k * jnp.exp(end - b)
    added, lost = (product("bhntk,bhntj->bhnkj", left, x) for x in (w, open_))
    S = matrix_recurrence(jnp.exp(end) * jnp.eye(k.shape[-1]) - lost, added)
    return _product(ratios * scores, w - _product(open_, S)) + _product(q * jnp.exp(b), S)


def _twice(x: Float[Array, "B H N *c"], *axes: int) -> Float[Array, "B H2 N *c"]:
    """Chunks in the order of both readings."""
    return jnp.concatenate([x, jnp.flip(x, axes)], axis=1)


@jax.custom_vjp
def solved(a: Float[Array, "*B c c"], x: Float[Array, "*B c J"]) -> Float[Array, "*B c J"]:
    """(1 + a)^-1 x of a strictly lower triangular `a`; cuBLAS has that in one launch."""
    return _by_platform(a, x, transposed=False)


def _keep_solved(a: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    found = checkpoint_name(solved(a, x), SOLVED)
    return found, (a, found)


def _pull_solved(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    a, found = kept
    pulled = _by_platform(a, g, transposed=True)
    return -jnp.tril(product("...ij,...kj->...ik", pulled, found), -1), pulled


solved.defvjp(_keep_solved, _pull_solved)


def _by_platform(a: Array, x: Array, *, transposed: bool) -> Array:
    """(1 + a)^-1 x, or (1 + a^T)^-1 x."""

    def substituted(a: Array, x: Array) -> Array:
        solve = lax.linalg.triangular_solve
        return solve(a, x, left_side=True, lower=True, unit_diagonal=True, transpose_a=transposed)

    def inverted(a: Array, x: Array) -> Array:
        return product("...ji,...jk->...ik" if transposed else "...ij,...jk->...ik", inverse(a), x)

    return lax.platform_dependent(a, x, cuda=substituted, default=inverted)


def _chunks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H N size K"]:
    """The length in chunks, in float32, the last one filled up with zeros."""
    B, H, L, K = x.shape
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (0, 0), (0, -L % size), (0, 0)))
    return x.reshape(B, H, -1, size, K)
