"""Rows at other places, by indices that are known both ways, so that the gradient is a gather as the value is.

Differentiated as it stands, plain indexing becomes a scatter that adds row after row.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def reordered_reference(
    x: Float[Array, "N L K"], there: Int[Array, "N M"], back: Int[Array, "N L"]
) -> Float[Array, "N M K"]:
    """Plain indexing."""
    rows = jnp.take_along_axis(x, jnp.maximum(there, 0)[..., None], axis=1)
    return jnp.where(there[..., None] >= 0, rows, 0)


@jax.custom_vjp
def reordered(x: Float[Array, "N L K"], there: Int[Array, "N M"], back: Int[Array, "N L"]) -> Float[Array, "N M K"]:
    """The rows of x at the places that `there` names.

    Args:
        there: for each row of the result its place in x; -1: a row of zeros.
        back: for each row of x its place in the result; -1: it has none.
    """
    return reordered_reference(x, there, back)


def _keep(x: Array, there: Array, back: Array) -> tuple[Array, Array]:
    return reordered_reference(x, there, back), back


def _backward(back: Array, g: Array) -> tuple[Array, None, None]:
    return reordered_reference(g, back, back), None, None


reordered.defvjp(_keep, _backward)
