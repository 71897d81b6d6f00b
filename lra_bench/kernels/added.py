"""x + p, the same p for every text of a batch: what a label of its place adds to a token.

Differentiated as it stands, p's gradient is a sum over the first axis, which XLA on a CPU does some 30 times as slowly
as the product with ones that stands here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lra_bench.kernels.product import product


def added_reference(x: Float[Array, "B L D"], p: Float[Array, "L D"]) -> Float[Array, "B L D"]:
    """Plain addition, in the wider dtype of the two."""
    return x + p


@jax.custom_vjp
def added(x: Float[Array, "B L D"], p: Float[Array, "L D"]) -> Float[Array, "B L D"]:
    """The same."""
    return added_reference(x, p)


def _keep(x: Array, p: Array) -> tuple[Array, tuple[Array, Array]]:
    return added_reference(x, p), (x[:0, :0], p[:0])  # their dtypes


def _backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, p = kept
    total = product("b,bld->ld", jnp.ones(len(g), g.dtype), g)
    return g.astype(x.dtype), total.astype(p.dtype)


added.defvjp(_keep, _backward)
