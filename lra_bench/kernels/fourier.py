"""The real part of the discrete Fourier transform over tokens and width (FNet, arXiv 2105.03824, equation 3).

The texts are real, so half the frequencies over the length give the others: Re Y[L-k, D-m] = Re Y[k, m]. The map is its
own transpose, which is the backward pass, and nothing is kept for it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def fourier_reference(x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """By the matrices of both transforms, in float32."""
    over_length, over_width = (
        jnp.exp(-2j * jnp.pi * (jnp.outer(i, i) % len(i)) / len(i)) for i in map(jnp.arange, x.shape[1:])
    )
    y = jnp.einsum("ml,bld,de->bme", over_length, x.astype(jnp.float32), over_width)
    return y.real.astype(x.dtype)


@jax.custom_vjp
def fourier(x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """The same, by fast transforms."""
    L = x.shape[1]
    half = jnp.fft.fft(jnp.fft.rfft(x.astype(jnp.float32), axis=1), axis=2).real
    rest = jnp.roll(half[:, 1 : L - half.shape[1] + 1][:, ::-1, ::-1], 1, axis=2)
    return jnp.concatenate([half, rest], axis=1).astype(x.dtype)


def _keep(x: Array) -> tuple[Array, None]:
    return fourier(x), None


def _backward(_: None, g: Array) -> tuple[Array]:
    return (fourier(g),)


fourier.defvjp(_keep, _backward)
