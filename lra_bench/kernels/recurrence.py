"""The diagonal linear recurrence h_t = a h_{t-1} + x_t with a constant `a`, real or complex, as in the state space S5
(arXiv 2208.04933, section 3.2) and in LRU (2303.06349, section 3.2). h is 0 before the first token.

The text is cut into sqrt(L) pieces that are walked through side by side, then the pieces' last states are walked
through, and a^i times the state before the piece is added: 2 sqrt(L) steps over large arrays in place of L over small
ones, which is what counts on an accelerator. On a CPU, with 32 complex states and L = 4,096, `lax.scan` over the tokens
is as fast, while an associative scan or a convolution by Fourier transforms takes 5 times as long (the former also to
compile). The backward pass is the same recurrence from the end; it keeps `a` and h.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact


def recurrence_reference(
    a: Inexact[Array, " P"], x: Inexact[Array, "B L P"], reverse: bool = False
) -> Inexact[Array, "B L P"]:
    """Token by token."""

    def step(h: Array, x: Array) -> tuple[Array, Array]:
        h = a * h + x
        return h, h

    return lax.scan(step, jnp.zeros_like(x[:, 0]), x.swapaxes(0, 1), reverse=reverse)[1].swapaxes(0, 1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def recurrence(a: Inexact[Array, " P"], x: Inexact[Array, "B L P"], reverse: bool = False) -> Inexact[Array, "B L P"]:
    """The same, in pieces. `reverse`: from the last token to the first. x is of a's dtype, float32 or complex64."""
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


def _keep(a: Array, x: Array, reverse: bool) -> tuple[Array, tuple[Array, Array]]:
    h = recurrence(a, x, reverse)
    return h, (a, h)


def _backward(reverse: bool, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    a, h = kept
    dx = recurrence(a, g, not reverse)
    now, before = (dx[:, :-1], h[:, 1:]) if reverse else (dx[:, 1:], h[:, :-1])
    return (now * before).sum((0, 1)), dx


recurrence.defvjp(_keep, _backward)
