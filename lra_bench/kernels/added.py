"""x + p, where p labels the places of a text, as learned positions do, and is the same for every text of a batch.

Differentiated as it stands, p's gradient is a sum over the first axis. XLA on a CPU takes some 30 times as long for
that as for the product with ones that stands here.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32


def added_reference(x: Float[Array, "B L D"], p: Float[Array, "L D"]) -> Float[Array, "B L D"]:
    """Plain addition, in the wider dtype of the two."""
    return x + p


@jax.custom_vjp
def added(x: Float[Array, "B L D"], p: Float[Array, "L D"]) -> Float[Array, "B L D"]:
    """`added_reference`, with the faster gradient."""
    return added_reference(x, p)


def _keep(x: Array, p: Array) -> tuple[Array, tuple[Array, Array]]:
    return added_reference(x, p), (x[:0, :0], p[:0])  # their dtypes


def _backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, p = kept
    total = lax.platform_dependent(g.astype(jnp.float32), cpu=_summed, default=partial(jnp.sum, axis=0))
    return g.astype(x.dtype), total.astype(p.dtype)


def _summed(g: Float32[Array, "B L D"]) -> Float32[Array, "L D"]:
    return jnp.einsum("b,bld->ld", jnp.ones(len(g)), g)


added.defvjp(_keep, _backward)
