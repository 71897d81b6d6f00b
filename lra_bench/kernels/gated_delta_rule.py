"""The gated delta rule (arXiv 2412.06464, equation 10), in chunks.

    S_t = exp(g_t) (1 - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,   y_t = S_t^T q_t       S: [K, V]; |k| = 1; g <= 0

In a chunk that starts with S_0, and with b the sum of g up to a token, S_t = exp(b_t) S_0 + sum_{s<=t} exp(b_t - b_s)
k_s w_s^T, where the w solve a triangular system (the WY representation, section 3.3 there and 2406.06484):

    w_t + beta_t sum_{s<t} exp(b_t - b_s) (k_t . k_s) w_s = beta_t (v_t - exp(b_t) S_0^T k_t)

They are solved for all chunks at once, with S_0 left open; then the states are walked through. No exponent is above 0.
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

CHUNK = 32
GROUP = 16  # chunks


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
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same, `chunk` tokens at a time. For the backward pass only the arguments are kept.

    `impl` as `impl.chosen` says it.
    """
    return jax.checkpoint(partial(_rule, chunk=chunk, impl=impl))(q, k, v, g, beta)


def _rule(q: Array, k: Array, v: Array, g: Array, beta: Array, chunk: int, impl: str) -> Float[Array, "B H L V"]:
    (B, H, L, V), dtype = v.shape, v.dtype
    b = _chunks(g[..., None], chunk).cumsum(3)
    q, k, v, beta = (_chunks(x, chunk) for x in (q, k, v, beta[..., None]))
    w, open_, ratios = _solved(k, v, beta, b)
    left = k * jnp.exp(b[:, :, :, -1:] - b)
    added, lost = product("bhntk,bhntv->bhnkv", left, w), product("bhntk,bhntj->bhnkj", left, open_)

    S = (_walked if impl == XLA else _joined)(jnp.exp(b[:, :, :, -1:]), added, lost)
    w = w - product("bhntk,bhnkv->bhntv", open_, S)
    scores = product("bhntk,bhnsk->bhnts", q, k) * ratios
    y = product("bhnts,bhnsv->bhntv", scores, w) + product("bhntk,bhnkv->bhntv", q * jnp.exp(b), S)
    return y.reshape(B, H, -1, V)[:, :, :L].astype(dtype)


def _walked(kept: Array, added: Array, lost: Array) -> Float[Array, "B H N K V"]:
    """The state before each chunk."""

    def step(S: Array, piece: tuple[Array, ...]) -> tuple[Array, Array]:
        kept, added, lost = piece
        return kept * S + added - product("bhkj,bhjv->bhkv", lost, S), S

    pieces = tuple(jnp.moveaxis(x, 2, 0) for x in (kept, added, lost))
    return jnp.moveaxis(lax.scan(step, jnp.zeros_like(added[:, :, 0]), pieces)[1], 0, 2)


def _joined(kept: Array, added: Array, lost: Array) -> Float[Array, "B H N K V"]:
    """The same for groups of chunks side by side, each from nothing; then from group to group, and both joined.

    A chunk is S <- M S + a; what a group makes of the state before it is the product P of its matrices, carried beside.
    """
    V, fill = added.shape[-1], -added.shape[2] % GROUP
    kept = jnp.pad(kept, ((0, 0), (0, 0), (0, fill), (0, 0), (0, 0)), constant_values=1)
    one = jnp.eye(lost.shape[-1])
    matrix, added_ = (_groups(x) for x in (kept * one - _filled(lost, fill), _filled(added, fill)))

    def step(both: Array, piece: tuple[Array, Array]) -> tuple[Array, Array]:
        M, a = piece
        return _product(M, both) + jnp.pad(a, [(0, 0)] * 4 + [(0, len(one))]), both

    start = jnp.broadcast_to(jnp.pad(one, ((0, 0), (V, 0))), (*added_.shape[1:5], V + len(one)))
    whole, before = lax.scan(step, start, (matrix, added_))

    def onward(T: Array, group: Array) -> tuple[Array, Array]:
        return _product(group[..., V:], T) + group[..., :V], T

    T = jnp.moveaxis(lax.scan(onward, jnp.zeros_like(added[:, :, 0]), jnp.moveaxis(whole, 2, 0))[1], 0, 2)
    S = jnp.moveaxis(before[..., :V] + _product(before[..., V:], T), 0, 3)
    return S.reshape(*S.shape[:2], -1, *S.shape[4:])[:, :, : added.shape[2]]


def _filled(x: Float[Array, "B H N K V"], fill: int) -> Float[Array, "B H M K V"]:
    return jnp.pad(x, ((0, 0), (0, 0), (0, fill), (0, 0), (0, 0)))


def _groups(x: Float[Array, "B H N K V"]) -> Float[Array, "GROUP B H G K V"]:
    return jnp.moveaxis(x.reshape(*x.shape[:2], -1, GROUP, *x.shape[3:]), 3, 0)


def _solved(k: Array, v: Array, beta: Array, b: Array) -> tuple[Array, Array, Array]:
    """w = (first) - (second) S_0, and exp(b_t - b_s) for s <= t, else 0."""
    i = jnp.arange(k.shape[3])
    ratios = jnp.exp(jnp.where(i[:, None] >= i, b - b.swapaxes(3, 4), LOWEST))
    matrix = jnp.where(i[:, None] > i, beta * ratios * product("bhntk,bhnsk->bhnts", k, k), 0)
    right = jnp.concatenate([beta * v, beta * jnp.exp(b) * k], axis=-1)
    both = lax.platform_dependent(matrix, right, cuda=_substituted, default=_inverted)
    return both[..., : v.shape[-1]], both[..., v.shape[-1] :], ratios


def _inverted(matrix: Array, right: Array) -> Array:
    return _product(inverse(matrix), right)


def _substituted(matrix: Array, right: Array) -> Array:
    """By cuBLAS: one launch."""
    return lax.linalg.triangular_solve(matrix, right, left_side=True, lower=True, unit_diagonal=True)


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


def _chunks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H N size K"]:
    """The length in chunks, in float32, the last one filled up with zeros."""
    B, H, L, K = x.shape
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (0, 0), (0, -L % size), (0, 0)))
    return x.reshape(B, H, -1, size, K)
