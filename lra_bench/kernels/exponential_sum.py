"""Re sum_n w_n exp(r_n t) for t = 0 to L - 1: the convolution filter of a diagonal state space, which is a product with
the Vandermonde matrix of its eigenvalues (S4D, arXiv 2206.11893, section 3.2), or of an exponential moving average.

With t = c j + i the exponential is exp(r c j) exp(r i), so the sum over n is a product of two small matrices, and the
L x N Vandermonde matrix never exists: 2 N sqrt(L) exponentials in place of N L.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact


def exponential_sum_reference(
    weight: Inexact[Array, "... D N"], rate: Inexact[Array, "D N"], length: int
) -> Float[Array, "... D L"]:
    """The sum, by the whole Vandermonde matrix."""
    vandermonde = jnp.exp(rate[..., None] * jnp.arange(length))
    return jnp.einsum("...dn,dnl->...dl", weight, vandermonde).real


@partial(jax.checkpoint, static_argnums=2)
def exponential_sum(
    weight: Inexact[Array, "... D N"], rate: Inexact[Array, "D N"], length: int
) -> Float[Array, "... D L"]:
    """The same; only weights and rates are kept for the backward pass. Both are float32, or both complex64."""
    c = math.isqrt(length - 1) + 1
    near = jnp.exp(rate[..., None] * jnp.arange(c))
    far = weight[..., None, :] * jnp.exp(rate[:, None, :] * (c * jnp.arange(-(-length // c)))[:, None])
    if jnp.iscomplexobj(rate):
        near = jnp.concatenate([near.real, near.imag], axis=-2)
        far = jnp.concatenate([far.real, -far.imag], axis=-1)
    sums = jnp.einsum("...djn,dni->...dji", far, near)
    return sums.reshape(*sums.shape[:-2], -1)[..., :length]
