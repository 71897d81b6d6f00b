"""Einstein sums that come out in float32 whatever goes in: what softmax statistics and weight gradients are made of."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32

from lra_bench.kernels.impl import XLA


def product(equation: str, a: Float[Array, "..."], b: Float[Array, "..."]) -> Float32[Array, "..."]:
    """`einsum` of two arrays, accumulated in float32; by what the platform that it is compiled for has."""
    if a.dtype == b.dtype == jnp.float32:
        return accumulated(equation, a, b)
    # A CPU has no product of two bfloat16 into float32 for small matrices.
    cast, as_it_is = partial(product_reference, equation), partial(accumulated, equation)
    return lax.platform_dependent(a, b, cpu=cast, default=as_it_is)


def product_reference(equation: str, a: Float[Array, "..."], b: Float[Array, "..."]) -> Float32[Array, "..."]:
    """The same, both cast first."""
    return jnp.einsum(equation, a.astype(jnp.float32), b.astype(jnp.float32))


def accumulated(equation: str, a: Float[Array, "..."], b: Float[Array, "..."]) -> Float32[Array, "..."]:
    """The same, by a product that adds up in float32 what is shorter; of two dtypes, in the longer one."""
    longer = jnp.promote_types(a.dtype, b.dtype)
    a, b = a.astype(longer), b.astype(longer)
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def inner(a: Float[Array, "... K"], b: Float[Array, "... K"]) -> Float32[Array, "..."]:
    """Inner products over the last axis, in float32. Where an axis before it has length 1, XLA on a CPU takes 15 times
    as long for products and their sum as for this einsum."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return lax.platform_dependent(a, b, cpu=partial(jnp.einsum, "...k,...k->..."), default=inner_reference)


def inner_reference(a: Float[Array, "... K"], b: Float[Array, "... K"]) -> Float32[Array, "..."]:
    """The same, by products and their sum."""
    return (a.astype(jnp.float32) * b.astype(jnp.float32)).sum(-1)


def over_keys(x: Float[Array, "B H L K"], weights: Float[Array, "B H L M"], impl: str) -> Float32[Array, "B H K M"]:
    """x^T W: the sum over L keys of their K numbers, by M columns of weights.

    `xla` writes x^T to memory first. Without the barrier XLA makes the transpose a part of the product, which then
    takes a CPU two or three times as long.
    """
    if impl != XLA:
        return product("bhlk,bhlm->bhkm", x, weights)
    return product("bhkl,bhlm->bhkm", lax.optimization_barrier(x.swapaxes(-1, -2)), weights)
