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
from jax import lax
from jaxtyping import Array, Float, Float32, Inexact

from lra_bench.kernels.long_convolution import causal_convolution

CHUNK = 64  # tokens that are added to a state at once


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


def continued(
    h: Inexact[Array, "B D N"], x: Float[Array, "B T D"], weight: Inexact[Array, "D N"], rate: Inexact[Array, "D N"]
) -> tuple[Inexact[Array, "B D N"], Float32[Array, "B T D"]]:
    """The causal convolution with this filter from a state on, and the state after it, some tokens at a time.

    Args:
        h: of the tokens before x the sum of exp(r_n t) times the one t tokens before the last.
    """
    (B, T, D), rest = x.shape, x.shape[1] % CHUNK
    x = x.astype(jnp.float32)
    if T <= CHUNK:
        return _continued(h, x, weight, rate)
    pieces = x[:, : T - rest].reshape(B, -1, CHUNK, D).swapaxes(0, 1)
    h, y = lax.scan(lambda h, x: _continued(h, x, weight, rate), h, pieces)
    y = y.swapaxes(0, 1).reshape(B, T - rest, D)
    if rest == 0:
        return h, y
    h, last = _continued(h, x[:, T - rest :], weight, rate)
    return h, jnp.concatenate([y, last], axis=1)


def _continued(h: Array, x: Array, weight: Array, rate: Array) -> tuple[Array, Array]:
    T = x.shape[1]
    later = jnp.exp(rate[..., None] * jnp.arange(T + 1))
    read = jnp.einsum("bdn,dnt->btd", weight * h, later[..., 1:], precision=lax.Precision.HIGHEST).real
    added = jnp.einsum("btd,dnt->bdn", x, later[..., T - 1 :: -1], precision=lax.Precision.HIGHEST)
    return later[..., T] * h + added, causal_convolution(x, exponential_sum(weight, rate, T)) + read
