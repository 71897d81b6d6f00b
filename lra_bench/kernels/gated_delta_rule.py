"""The gated delta rule (arXiv 2412.06464, equation 10), in chunks.

    S_t = exp(g_t) (1 - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,   y_t = S_t^T q_t       S: [K, V]; |k| = 1; g <= 0

In a chunk that starts with S_0, and with b the sum of g up to a token, S_t = exp(b_t) S_0 + sum_{s<=t} exp(b_t - b_s)
k_s w_s^T, where the w solve a triangular system (the WY representation, section 3.3 there and 2406.06484):

    w_t + beta_t sum_{s<t} exp(b_t - b_s) (k_t . k_s) w_s = beta_t (v_t - exp(b_t) S_0^T k_t)

They are solved for all chunks at once, with S_0 left open; then the states are walked through, or on accelerators taken
as the linear recurrence that they are. No exponent is above 0.
"""

from __future__ import annotations

from functools import partial

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
MADE = "made"  # what is dear to make again, as a policy of `jax.checkpoint` calls it
KEPT = jax.checkpoint_policies.save_only_these_names(MADE, STATES)


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
    return _multiplied(q, k, v, [_Gates(g, beta, late=False)])


def _multiplied_twice(q: Array, k: Array, v: Array, g: Array, beta: Array) -> Float[Array, "B H L V"]:
    """The same of both readings."""
    (g, late_g), (beta, late_beta) = (jnp.split(x.swapaxes(1, 2), 2, axis=1) for x in (g, beta))
    return _multiplied(q, k, v, [_Gates(g, beta, late=False), _Gates(late_g, late_beta, late=True)])


def _multiplied(q: Array, k: Array, v: Array, readings: list[_Gates]) -> Float[Array, "B H L V"]:
    """The sum of readings. All stands where it does in the text, and q . k and k . k serve each reading."""
    (B, H, L, V), R = v.shape, len(readings)
    q, k, v = (_cut(x, WIDE) for x in (q, k, v))
    scores, alike = (_product(x, k.swapaxes(3, 4)).astype(k.dtype) for x in (q, k))
    found = [gates.solved(k, v, alike) for gates in readings]
    M, a = (jnp.concatenate(some, axis=1) for some in zip(*map(_Gates.step, readings, [k] * R, found), strict=True))
    states = jnp.split(matrix_recurrence(M, a).astype(k.dtype), R, axis=1)
    S = [gates.turned(x) for gates, x in zip(readings, states, strict=True)]
    old = jnp.split(checkpoint_name(_product(q, jnp.concatenate(S, axis=-1)), MADE), R, axis=-1)
    y = sum(map(_Gates.read, readings, [scores] * R, found, S, old), jnp.zeros(()))
    return y.reshape(B, H, -1, V)[:, :, :L].astype(v.dtype)


class _Gates:
    """What a reading forgets and takes in. The late one begins at the end of the text: a token reads those after it,
    and its states come in the order of the reading."""

    def __init__(self, g: Float[Array, "B H L"], beta: Float[Array, "B H L"], late: bool) -> None:
        g, self.beta = (_cut(x[..., None], WIDE) for x in (g, beta))
        self.late, self.b = late, lax.cumsum(g, 3, reverse=late)
        self.end = self.b[:, :, :, :1] if late else self.b[:, :, :, -1:]

    def solved(self, k: Array, v: Array, alike: Array) -> Float[Array, "B H N c VK"]:
        """w = (the first columns) - (the last columns) S_0."""
        right = self.beta * jnp.concatenate([v, jnp.exp(self.b) * k], axis=-1)
        return solved(alike, self.b, self.beta, right, self.late)

    def step(self, k: Array, found: Array) -> tuple[Float[Array, "B H N K K"], Float[Array, "B H N K V"]]:
        """M and a of S <- M S + a over each chunk, in the order of the reading."""
        left = (k * jnp.exp(self.end - self.b)).astype(k.dtype)
        moved = self.turned(product("bhntk,bhntj->bhnkj", left, found))
        V = moved.shape[-1] - k.shape[-1]
        M = jnp.exp(self.turned(self.end)) * jnp.eye(k.shape[-1]) - moved[..., V:]
        return checkpoint_name(M, MADE), moved[..., :V]

    def read(self, scores: Array, found: Array, S: Array, old: Array) -> Float[Array, "B H N c V"]:
        """y, of q . S too."""
        V = S.shape[-1]
        w = checkpoint_name((found[..., :V] - _product(found[..., V:], S)).astype(found.dtype), MADE)
        return weighted(scores, self.b, w, self.late) + jnp.exp(self.b) * old

    def turned(self, x: Float[Array, "B H N *k"]) -> Float[Array, "B H N *k"]:
        """The text's order as the reading's, or the reading's as the text's."""
        return jnp.flip(x, 2) if self.late else x


def _ratios(b: Float[Array, "B H N c 1"], late: bool, least: int) -> Float[Array, "B H N c c"]:
    """exp(b_t - b_s) for s at least so far before t, as the reading goes; else 0."""
    i = jnp.arange(b.shape[3])
    before = (i - i[:, None]) if late else (i[:, None] - i)
    return jnp.exp(jnp.where(before >= least, b - b.swapaxes(3, 4), LOWEST))


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def weighted(
    scores: Float[Array, "B H N c c"], b: Float[Array, "B H N c 1"], x: Float[Array, "B H N c V"], late: bool
) -> Float[Array, "B H N c V"]:
    """y_t = sum over s of exp(b_t - b_s) scores_ts x_s.

    The gradient by b is that of the weights times the weights, summed by rows and columns, which is dy . y and dx . x.
    """
    return _product(_weights(scores, b, x, late), x)


def _keep_weighted(scores: Array, b: Array, x: Array, late: bool) -> tuple[Array, tuple[Array, ...]]:
    weights = checkpoint_name(_weights(scores, b, x, late), MADE)
    y = checkpoint_name(_product(weights, x), MADE)
    return y, (weights, b, x, y)


def _pull_weighted(late: bool, kept: tuple[Array, ...], g: Array) -> tuple[Array, ...]:
    weights, b, x, y = kept
    g = g.astype(x.dtype)
    dx, dweights = product("...ts,...tv->...sv", weights, g), product("...tv,...sv->...ts", g, x)
    db = (g * y).sum(-1, keepdims=True) - (x * dx).sum(-1, keepdims=True)
    return (_ratios(b, late, 0) * dweights).astype(x.dtype), db, dx.astype(x.dtype)


weighted.defvjp(_keep_weighted, _pull_weighted)


def _weights(scores: Array, b: Array, x: Array, late: bool) -> Float[Array, "B H N c c"]:
    """exp(b_t - b_s) scores_ts, as exact as x."""
    return (_ratios(b, late, 0) * scores).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def solved(
    alike: Float[Array, "B H N c c"],
    b: Float[Array, "B H N c 1"],
    beta: Float[Array, "B H N c 1"],
    right: Float[Array, "B H N c J"],
    late: bool,
) -> Float[Array, "B H N c J"]:
    """(1 + A)^-1 right, with A_ts = beta_t exp(b_t - b_s) alike_ts; cuBLAS has that in one launch.

    `alike` is symmetric. Gradients by b and beta are made of A's gradient times A, summed by rows and columns, for
    which what went in and came out is enough: A found = right - found.
    """
    return _by_platform(_system(alike, b, beta, late), right, transposed=late).astype(alike.dtype)


def _keep_solved(alike: Array, b: Array, beta: Array, right: Array, late: bool) -> tuple[Array, tuple[Array, ...]]:
    system = checkpoint_name(_system(alike, b, beta, late), MADE)
    found = checkpoint_name(_by_platform(system, right, transposed=late), MADE)
    return found.astype(alike.dtype), (system, b, beta, right, found)


def _pull_solved(late: bool, kept: tuple[Array, ...], g: Array) -> tuple[Array, ...]:
    system, b, beta, right, found = kept
    pulled = _by_platform(system, g.astype(jnp.float32), transposed=not late)
    by_row = -(pulled * (right - found)).sum(-1, keepdims=True)
    by_column = -(found * (g - pulled)).sum(-1, keepdims=True)
    dalike = -beta * _ratios(b, late, 1) * product("...tj,...sj->...ts", *(x.astype(g.dtype) for x in (pulled, found)))
    dbeta = jnp.where(beta > 0, by_row / jnp.where(beta > 0, beta, 1), 0)
    return dalike.astype(g.dtype), by_row - by_column, dbeta, pulled


solved.defvjp(_keep_solved, _pull_solved)


def _system(alike: Array, b: Array, beta: Array, late: bool) -> Float[Array, "B H N c c"]:
    """A as a lower triangle, which is its transpose where the reading is late."""
    if late:
        return beta.swapaxes(3, 4) * _ratios(-b, False, 1) * alike
    return beta * _ratios(b, False, 1) * alike


def _by_platform(a: Array, x: Array, *, transposed: bool) -> Array:
    """(1 + a)^-1 x, or (1 + a^T)^-1 x, of a strictly lower triangular `a`."""

    def substituted(a: Array, x: Array) -> Array:
        a, x = a.swapaxes(-1, -2), x.swapaxes(-1, -2)  # cuBLAS counts columns first: as they lie in memory
        y = lax.linalg.triangular_solve(a, x, left_side=False, lower=False, unit_diagonal=True, transpose_a=transposed)
        return y.swapaxes(-1, -2)

    def inverted(a: Array, x: Array) -> Array:
        return product("...ji,...jk->...ik" if transposed else "...ij,...jk->...ik", inverse(a), x)

    return lax.platform_dependent(a, x, cuda=substituted, default=inverted)


def _cut(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H N size K"]:
    """The length in chunks, the last one filled up with zeros."""
    B, H, L, K = x.shape
    return jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0))).reshape(B, H, -1, size, K)


def _chunks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H N size K"]:
    """The same in float32."""
    return _cut(x.astype(jnp.float32), size)
