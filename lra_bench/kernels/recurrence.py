"""The diagonal linear recurrence h_t = a h_{t-1} + x_t with a constant `a`, real or complex, as in the state space S5
(arXiv 2208.04933, section 3.2) and in LRU (2303.06349, section 3.2). h is 0 before the first token.

The text is cut into sqrt(L) pieces that are walked through side by side, then the pieces' last states are walked
through, and a^i times the state before the piece is added: 2 sqrt(L) steps over large arrays in place of L over small
ones. On a CPU, with 32 complex states and L = 4,096, `lax.scan` over the tokens is as fast, while an associative scan
or a convolution by Fourier transforms takes 5 times as long (the former also to compile). Where a step of a loop is
dear, both walks are a product with the matrix of a^(t - s), of sqrt(L) rows. The backward pass is the same recurrence
from the end; it keeps `a` and h.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Inexact

from lra_bench.kernels.impl import XLA


def recurrence_reference(
    a: Inexact[Array, " P"], x: Inexact[Array, "B L P"], reverse: bool = False
) -> Inexact[Array, "B L P"]:
    """Token by token."""

    def step(h: Array, x: Array) -> tuple[Array, Array]:
        h = a * h + x
        return h, h

    return lax.scan(step, jnp.zeros_like(x[:, 0]), x.swapaxes(0, 1), reverse=reverse)[1].swapaxes(0, 1)


def continued(
    a: Inexact[Array, " P"], h: Inexact[Array, "B P"], x: Inexact[Array, "B N P"], impl: str = XLA
) -> tuple[Inexact[Array, "B P"], Inexact[Array, "B N P"]]:
    """The last h, and all N of them, from the state `h` on."""
    states = recurrence(a, x.at[:, 0].add(a * h), False, impl)
    return states[:, -1], states


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def recurrence(
    a: Inexact[Array, " P"], x: Inexact[Array, "B L P"], reverse: bool = False, impl: str = XLA
) -> Inexact[Array, "B L P"]:
    """The same, in pieces. x is of a's dtype, float32 or complex64.

    Args:
        reverse: from the last token to the first.
        impl: as `impl.chosen` says it.
    """
    return _walked(a, x, reverse) if impl == XLA else _multiplied(a, x, reverse)


def _multiplied(a: Array, x: Array, reverse: bool) -> Array:
    """By products with the powers of a, in full precision: a walk has no other."""
    B, L, P = x.shape
    x = jnp.flip(x, 1) if reverse else x
    size = math.isqrt(L - 1) + 1
    pieces = jnp.pad(x, ((0, 0), (0, -L % size), (0, 0))).reshape(B, -1, size, P)
    powers = _powers(a, size + 1)
    inside = _product("tsp,bnsp->bntp", _toeplitz(powers[:size], size), pieces)
    count = pieces.shape[1]
    between = jnp.pad(_toeplitz(_powers(powers[size], count), count)[:-1], ((1, 0), (0, 0), (0, 0)))
    before = _product("nmp,bmp->bnp", between, inside[:, :, -1])
    h = (inside + powers[1:] * before[:, :, None]).reshape(B, -1, P)[:, :L]
    return jnp.flip(h, 1) if reverse else h


def _powers(a: Inexact[Array, " P"], count: int) -> Inexact[Array, "N P"]:
    """a^0 to a^(N - 1)."""
    factors = jnp.broadcast_to(a, (count, *a.shape)).at[0].set(1)
    return jnp.cumprod(factors, axis=0)


def _toeplitz(powers: Inexact[Array, "N P"], size: int) -> Inexact[Array, "size size P"]:
    """a^(t - s) in the row t and the column s; 0 where s is above t."""
    lag = np.arange(size)[:, None] - np.arange(size)
    return jnp.where((lag >= 0)[..., None], powers[np.maximum(lag, 0)], 0)


def _product(equation: str, a: Array, b: Array) -> Array:
    return jnp.einsum(equation, a, b, precision=lax.Precision.HIGHEST)


def _walked(a: Array, x: Array, reverse: bool) -> Array:
    B, L, P = x.shape
    size = math.isqrt(L - 1) + 1
    pieces = jnp.pad(x, ((0, 0), (0, -L % size), (0, 0))).reshape(B, -1, size, P)
    start, one = jnp.zeros_like(pieces[:, :, 0]), jnp.ones_like(a)

    def inside(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        h, power = carry
        h, power = a * h + x, a * power
        return (h, power), (h, power)

    (last, across), (h, powers) = lax.scan(inside, (start, one), pieces.swapaxes(0, 2).swapaxes(1, 2), reverse=reverse)

    def between(h: Array, last: Array) -> tuple[Array, Array]:
        return across * h + last, h

    before = lax.scan(between, start[:, 0], last.swapaxes(0, 1), reverse=reverse)[1].swapaxes(0, 1)
    h = h + powers[:, None, None] * before
    return h.swapaxes(1, 2).swapaxes(0, 2).reshape(B, -1, P)[:, :L]


def _keep(a: Array, x: Array, reverse: bool, impl: str) -> tuple[Array, tuple[Array, Array]]:
    h = recurrence(a, x, reverse, impl)
    return h, (a, h)


def _backward(reverse: bool, impl: str, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    a, h = kept
    dx = recurrence(a, g, not reverse, impl)
    now, before = (dx[:, :-1], h[:, 1:]) if reverse else (dx[:, 1:], h[:, :-1])
    return (now * before).sum((0, 1)), dx


recurrence.defvjp(_keep, _backward)
