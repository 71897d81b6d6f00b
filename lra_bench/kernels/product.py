"""Einstein sums that come out in float32 whatever goes in: what softmax statistics and weight gradients are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


def product(equation: str, a: Float[Array, "..."], b: Float[Array, "..."]) -> Float32[Array, "..."]:
    """`einsum` of two arrays, accumulated in float32."""
    if jax.default_backend() == "cpu":  # which has no product of two bfloat16 into float32 for small matrices
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def product_reference(equation: str, a: Float[Array, "..."], b: Float[Array, "..."]) -> Float32[Array, "..."]:
    """The same, both cast first."""
    return jnp.einsum(equation, a.astype(jnp.float32), b.astype(jnp.float32))
