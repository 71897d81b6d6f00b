"""x W, the product under every layer, with its gradient written so that XLA does not transpose the longer operand.

Differentiated as it stands, the weight's gradient becomes dot(g, x) and a transpose, for which XLA on a CPU first
copies all of g, column by column: forward and backward pass together then take twice as long.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, Float

from lra_bench.kernels.product import product


def dense_reference(x: Float[Array, "... I"], w: Float[Array, "I O"]) -> Float[Array, "... O"]:
    """x W, in x's dtype."""
    return x @ w.astype(x.dtype)


@jax.custom_vjp
def dense(x: Float[Array, "... I"], w: Float[Array, "I O"]) -> Float[Array, "... O"]:
    """The same."""
    return dense_reference(x, w)


def _keep(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return dense_reference(x, w), (x, w)


def _backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = kept
    rows, grads = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    dw = product("ni,no->io", rows, grads)
    return g @ w.astype(g.dtype).T, dw.astype(w.dtype)


dense.defvjp(_keep, _backward)
