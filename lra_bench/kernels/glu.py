"""Gated linear unit (arXiv 1612.08083, equation 1): a sigmoid(b) of the two halves of a projection."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def glu_reference(x: Float[Array, "... D2"]) -> Float[Array, "... D"]:
    """The first half of the width, gated by the second."""
    a, b = jnp.split(x, 2, axis=-1)
    return a * jax.nn.sigmoid(b)


@jax.checkpoint
def glu(x: Float[Array, "... D2"]) -> Float[Array, "... D"]:
    """The same. For the backward pass only x is kept."""
    return glu_reference(x)
