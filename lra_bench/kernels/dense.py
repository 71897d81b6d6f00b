"""x W, the product under every layer, with its gradient written so that XLA does not transpose the longer operand.

Differentiated as it stands, the weight's gradient becomes dot(g, x) and a transpose, for which XLA on a CPU first
copies all of g, column by column: forward and backward pass together then take twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
from jaxtyping import Array, Float

from lra_bench.kernels.product import product


def dense_reference(x: Float[Array, "... I"], w: Float[Array, "I O"]) -> Float[Array, "... O"]:
    """x W, in x's dtype."""
    return x @ w.astype(x.dtype)


Product = Callable[[Array, Array], Array]

_INSTEAD: ContextVar[Product | None] = ContextVar("instead", default=None)


def dense(x: Float[Array, "... I"], w: Float[Array, "I O"]) -> Float[Array, "... O"]:
    """The same; or what stands `instead` while a model is traced."""
    other = _INSTEAD.get()
    return exact(x, w) if other is None else other(x, w)


@contextmanager
def instead(product: Product) -> Iterator[None]:
    """What is traced within has `product` in place of `exact`: in integers, say."""
    token = _INSTEAD.set(product)
    try:
        yield
    finally:
        _INSTEAD.reset(token)


@jax.custom_vjp
def exact(x: Float[Array, "... I"], w: Float[Array, "I O"]) -> Float[Array, "... O"]:
    """x W, in x's dtype."""
    return dense_reference(x, w)


def _keep(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return dense_reference(x, w), (x, w)


def _backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = kept
    rows, grads = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    dw = product("ni,no->io", rows, grads)
    return g @ w.astype(g.dtype).T, dw.astype(w.dtype)


exact.defvjp(_keep, _backward)
