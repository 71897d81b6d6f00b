"""The gated delta rule (arXiv 2412.06464, equation 10), in chunks.

    S_t = exp(g_t) (1 - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,   y_t = S_t^T q_t       S: [K, V]; |k| = 1; g <= 0

In a chunk that starts with S_0, and with b the sum of g up to a token, S_t = exp(b_t) S_0 + sum_{s<=t} exp(b_t - b_s)
k_s w_s^T, where the w solve a triangular system (the WY representation, section 3.3 there and 2406.06484):

    w_t + beta_t sum_{s<t} exp(b_t - b_s) (k_t . k_s) w_s = beta_t (v_t - exp(b_t) S_0^T k_t)

They are solved for all chunks at once, with S_0 left open; then the states are walked through, or on accelerators taken
as the linear recurrence that they are. No exponent is above 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from itertools import repeat
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32

from lra_bench.kernels.impl import XLA
from lra_bench.kernels.matrix_recurrence import matrix_recurrence, steps
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST

CHUNK = 32
WIDE = 64  # tokens of a chunk on accelerators


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
    return _multiplied_once(q, k, v, g, beta)


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

    `impl` as `impl.chosen` says it. But for `xla`, the gradient by beta takes it for above 0, as a sigmoid is.
    """
    if impl != XLA:
        return _multiplied_twice(q, k, v, g, beta)
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
    return _multiplied(q, k, v, [(g, beta)])


def _multiplied_twice(q: Array, k: Array, v: Array, g: Array, beta: Array) -> Float[Array, "B H L V"]:
    """The same of both readings."""
    each = (jnp.split(x.swapaxes(1, 2), 2, axis=1) for x in (g, beta))
    return _multiplied(q, k, v, list(zip(*each, strict=True)))


def _multiplied(q: Array, k: Array, v: Array, gates: list[tuple[Array, Array]]) -> Float[Array, "B H L V"]:
    B, H, L, V = v.shape
    q, k, v = (_cut(x, WIDE) for x in (q, k, v))
    y = read(q, k, v, [(_cut(g[..., None], WIDE), _cut(beta[..., None], WIDE)) for g, beta in gates])
    return y.reshape(B, H, -1, V)[:, :, :L].astype(v.dtype)


class _Gates(NamedTuple):
    """What a reading forgets and takes in. The late one begins at the end of the text: a token reads those after it,
    and its states come in the order of the reading."""

    b: Float[Array, "B H N c 1"]  # the sum of g up to a token
    beta: Float[Array, "B H N c 1"]
    late: bool

    @property
    def kept(self) -> Float[Array, "B H N 1 1"]:
        """Of the state before a chunk, after it."""
        return jnp.exp(self.b[:, :, :, :1] if self.late else self.b[:, :, :, -1:])

    @property
    def left(self) -> Float[Array, "B H N c 1"]:
        """Of what a token wrote, after its chunk."""
        return jnp.exp((self.b[:, :, :, :1] if self.late else self.b[:, :, :, -1:]) - self.b)

    def ratios(self, least: int) -> Float[Array, "B H N c c"]:
        """exp(b_t - b_s) for s at least so far before t, as the reading goes; else 0."""
        i = jnp.arange(self.b.shape[3])
        before = (i - i[:, None]) if self.late else (i[:, None] - i)
        return jnp.exp(jnp.where(before >= least, self.b - self.b.swapaxes(3, 4), LOWEST))

    def system(self, alike: Float[Array, "B H N c c"]) -> Float[Array, "B H N c c"]:
        """A_ts = beta_t exp(b_t - b_s) alike_ts, in a triangle of the reading's own."""
        return self.beta * self.ratios(1) * alike

    def turned(self, x: Float[Array, "B H N *k"]) -> Float[Array, "B H N *k"]:
        """The text's order as the reading's, or the reading's as the text's."""
        return jnp.flip(x, 2) if self.late else x

    def step(self, k: Array, found: Array) -> tuple[Float[Array, "B H N K K"], Float[Array, "B H N K V"]]:
        """M and a of S <- M S + a over each chunk, in the order of the reading."""
        moved = self.turned(_turned_product((k * self.left).astype(k.dtype), found.astype(k.dtype)))
        V = moved.shape[-1] - k.shape[-1]
        return self.turned(self.kept) * jnp.eye(k.shape[-1]) - moved[..., V:], moved[..., :V]

    def read(self, v: Array, scores: Array, found: Array, S: Array) -> _Read:
        """What is read within chunks, and what else the gradient needs."""
        V, dtype = S.shape[-1], S.dtype
        rounded = found.astype(dtype)
        there = _product(rounded[..., V:], S).astype(dtype)
        w = (found[..., :V] - there).astype(dtype)
        known = (self.beta * v - found[..., :V] + there).astype(dtype)
        weights = (self.ratios(0) * scores).astype(dtype)
        return _Read(rounded, known, w, weights, _product(weights, w))

    def pull(
        self, made: _Read, dy: Array, old: Array, S: Array, later: Array, ends: Array, dw: Array
    ) -> tuple[Array, Array]:
        """The gradient by g and beta."""
        new = (made.w * dw).sum(-1, keepdims=True)
        db = (dy * (made.y + jnp.exp(self.b) * old)).sum(-1, keepdims=True) - new
        db -= (made.known * dw).sum(-1, keepdims=True)
        left = self.kept * (S * later).sum((3, 4), keepdims=True) + (made.w * ends).sum((3, 4), keepdims=True)
        dbeta = jnp.where(self.beta > 0, new / jnp.where(self.beta > 0, self.beta, 1), 0)
        return lax.cumsum(db, 3, reverse=not self.late) + left, dbeta


class _Read(NamedTuple):
    """What a reading made on its way, for its gradient; all but y as exact as q."""

    found: Float[Array, "B H N c VK"]
    known: Float[Array, "B H N c V"]  # beta v - w
    w: Float[Array, "B H N c V"]
    weights: Float[Array, "B H N c c"]  # exp(b_t - b_s) q_t . k_s
    y: Float[Array, "B H N c V"]  # without what the state before the chunk gives


@jax.custom_vjp
def read(
    q: Float[Array, "B H N c K"],
    k: Float[Array, "B H N c K"],
    v: Float[Array, "B H N c V"],
    gates: list[tuple[Float[Array, "B H N c 1"], Float[Array, "B H N c 1"]]],
) -> Float[Array, "B H N c V"]:
    """The sum of readings, each with its g and beta. All stands where it does in the text, and q . k and k . k serve
    each reading.

    exp(-b_t) S_t follows the rule without g for values exp(-b_t) v_t, and y_t is exp(b_t) times what it gives. So the
    gradient by b is y . dy - (beta v) . dw, without sums over pairs, where beta v is w as it was rounded and the rest:
    what the sums then cancel is the same number twice. With the states known, w alone goes back through the system.
    """
    return _keep_read(q, k, v, gates)[0]


def _keep_read(
    q: Array, k: Array, v: Array, gates: list[tuple[Array, Array]]
) -> tuple[Float[Array, "B H N c V"], tuple[Any, ...]]:
    readings, (q, k, v) = _readings(gates), lax.optimization_barrier((q, k, v))
    scores, alike = jnp.split(_product_turned(jnp.concatenate([q, k], axis=3), k).astype(k.dtype), 2, axis=3)
    system = _sum(one.system(alike) for one in readings)
    right = [one.beta * jnp.concatenate([v, jnp.exp(one.b) * k], axis=-1) for one in readings]
    found = [_by_platform(system, x, upper=one.late) for one, x in zip(readings, right, strict=True)]
    over = zip(*map(_Gates.step, readings, repeat(k), found), strict=True)
    matrix, a = (jnp.concatenate(some, axis=1) for some in over)
    M = steps(matrix)
    states = _split(matrix_recurrence(M, a).astype(k.dtype), readings, axis=1)
    states = [one.turned(x) for one, x in zip(readings, states, strict=True)]
    S = lax.optimization_barrier(jnp.concatenate(states, axis=-1))
    old = _product(q, S).astype(k.dtype)
    made = list(map(_Gates.read, readings, repeat(v), repeat(scores), found, _split(S, readings, axis=-1)))
    y = [jnp.exp(one.b) * x for one, x in zip(readings, _split(old, readings, axis=-1), strict=True)]
    return _sum(one.y + x for one, x in zip(made, y, strict=True)), (q, k, gates, system, M, S, old, made)


def _pull_read(kept: tuple[Any, ...], g: Array) -> tuple[Array, Array, Array, list[tuple[Array, Array]]]:
    q, k, gates, system, M, S, old, made = lax.optimization_barrier(kept)
    readings, dtype, dy = _readings(gates), q.dtype, g.astype(q.dtype)
    faded = jnp.concatenate([jnp.exp(one.b) * dy for one in readings], axis=-1).astype(dtype)
    inside = [_turned_product(one.weights, dy) for one in made]
    later = _later(readings, made, M, _turned_product(q, faded), inside)
    ends = _split(_product(k, later).astype(dtype), readings, axis=-1)
    ends = [one.left * x for one, x in zip(readings, ends, strict=True)]
    dw = [x + y for x, y in zip(inside, ends, strict=True)]
    dw = [_by_platform(system, x, upper=one.late, transposed=True) for one, x in zip(readings, dw, strict=True)]

    states = (_split(x, readings, axis=-1) for x in (old, S, later))
    dgates = list(map(_Gates.pull, readings, made, repeat(dy), *states, ends, dw))
    dv = _sum(one.beta * x for one, x in zip(readings, dw, strict=True)).astype(dtype)
    dq, dk = _pull_keys(q, k, dy, S, later, readings, made, [x.astype(dtype) for x in dw])
    return (dq + _product_turned(faded, S).astype(dtype)).astype(dtype), dk.astype(dtype), dv, dgates


def _later(
    readings: list[_Gates], made: list[_Read], M: list[Array], dold: Array, dw: list[Array]
) -> Float[Array, "B H N K V"]:
    """The gradient by the state after each chunk, of the readings side by side, by those of q . S and of w."""
    K, dtype = dold.shape[3], made[0].w.dtype
    dS = [
        one.turned(x - _turned_product(part.found[..., -K:], y))
        for one, part, x, y in zip(readings, made, _split(dold, readings, axis=-1), dw, strict=True)
    ]
    states = matrix_recurrence(M, jnp.concatenate(dS, axis=1), transposed=True).astype(dtype)
    later = [one.turned(x) for one, x in zip(readings, _split(states, readings, axis=1), strict=True)]
    return lax.optimization_barrier(jnp.concatenate(later, axis=-1))


def _pull_keys(
    q: Array,
    k: Array,
    dy: Array,
    S: Array,
    later: Array,
    readings: list[_Gates],
    made: list[_Read],
    dw: list[Array],
) -> tuple[Float32[Array, "B H N c K"], Float32[Array, "B H N c K"]]:
    """The gradients by q but for what reads S, and by k; sums of products that are as exact as q."""
    dtype, w = q.dtype, [one.w for one in made]
    dscores = _sum(one.ratios(0) * _near(dy, x) for one, x in zip(readings, w, strict=True)).astype(dtype)
    dalike = _sum(-one.system(_near(x, y)) for one, x, y in zip(readings, dw, w, strict=True)).astype(dtype)
    pairs = _product(jnp.concatenate([dscores, dalike], axis=3), k).astype(dtype)
    dq, dk = jnp.split(pairs.astype(jnp.float32), 2, axis=3)
    dk += _turned_product(dscores, q).astype(dtype)
    dk += _turned_product(dalike, k).astype(dtype)
    dw = lax.optimization_barrier(dw)  # or XLA makes one product of two, and first copies their other operands together
    for one, w_, later_, dw_, S_ in zip(
        readings, w, _split(later, readings, axis=-1), dw, _split(S, readings, axis=-1), strict=True
    ):
        dk += one.left * _near(w_, later_) - one.beta * jnp.exp(one.b) * _near(dw_, S_)
    return dq, dk


read.defvjp(_keep_read, _pull_read)


def _readings(gates: list[tuple[Array, Array]]) -> list[_Gates]:
    """The first reading, and the late one if there are two."""
    return [
        _Gates(lax.cumsum(g, 3, reverse=late), beta, late)
        for late, (g, beta) in zip((False, True), gates, strict=False)
    ]


def _sum(arrays: Iterable[Array]) -> Array:
    return reduce(jnp.add, arrays)


def _split(x: Array, readings: list[_Gates], axis: int) -> list[Array]:
    return jnp.split(x, len(readings), axis)


def _turned_product(a: Array, b: Array) -> Array:
    """a^T b."""
    return product("...ji,...jk->...ik", a, b)


def _product_turned(a: Array, b: Array) -> Array:
    """a b^T."""
    return product("...ij,...kj->...ik", a, b)


def _near(a: Array, b: Array) -> Array:
    """a b^T, as exact as b."""
    return _product_turned(a, b).astype(b.dtype)


def _by_platform(a: Array, x: Array, *, upper: bool, transposed: bool = False) -> Array:
    """(1 + a)^-1 x, or (1 + a^T)^-1 x, of a triangle of `a`, of whose other triangle nothing is read."""

    def substituted(a: Array, x: Array) -> Array:
        a, x = a.swapaxes(-1, -2), x.swapaxes(-1, -2)  # cuBLAS counts columns first: as they lie in memory
        y = lax.linalg.triangular_solve(a, x, left_side=False, lower=upper, unit_diagonal=True, transpose_a=transposed)
        return y.swapaxes(-1, -2)

    def inverted(a: Array, x: Array) -> Array:
        lower = jnp.tril(a.swapaxes(-1, -2) if upper else a, -1)
        return (_product if upper == transposed else _turned_product)(inverse(lower), x)

    return lax.platform_dependent(a, x, cuda=substituted, default=inverted)


def _cut(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H N size K"]:
    """The length in chunks, the last one filled up with zeros."""
    B, H, L, K = x.shape
    return jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0))).reshape(B, H, -1, size, K)


def _chunks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H N size K"]:
    """The same in float32."""
    return _cut(x.astype(jnp.float32), size)
