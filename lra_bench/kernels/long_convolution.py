"""Convolution of every channel with a filter as long as the text, by fast Fourier transforms (arXiv 2302.10866, section
2.1; 2111.00396, section 2.4): L log L.

    y_t = sum_s k_{t-s} x_s          t, s from 0 to L - 1; the filter has lags from -(L - 1) to L - 1

Cyclic transforms of a length of at least 2L - 1 leave no lag standing for two. In float32; for the backward pass only x
and the filter are kept.

A transform rounds every y by every x. Where no later token may change a y, not by its rounding either, the text is
halved again and again, down to leaves whose tokens meet each other by a product; a second half meets its first one by a
transform, as in the relaxed multiplication of power series: L (log L)^2.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex64, Float, Float32, Int

LEAF = 64  # tokens at most that meet each other by a product, whose matrix has so many squared for each channel


def long_convolution_reference(x: Float[Array, "B L D"], k: Float[Array, "D W"]) -> Float[Array, "B L D"]:
    """The sum, by an L x L matrix for each channel."""
    L = x.shape[1]
    lag = jnp.arange(L)[:, None] - jnp.arange(L)
    return jnp.einsum("dts,bsd->btd", k.astype(jnp.float32)[:, lag + L - 1], x.astype(jnp.float32)).astype(x.dtype)


@jax.custom_vjp
def long_convolution(x: Float[Array, "B L D"], k: Float[Array, "D W"]) -> Float[Array, "B L D"]:
    """The same. k holds its W = 2L - 1 lags in ascending order, 0 in the middle."""
    L = x.shape[1]
    y = jnp.fft.irfft(_spectrum(x) * _filter_spectrum(k), _size(L))
    return y[..., :L].swapaxes(1, 2).astype(x.dtype)


def causal_convolution(x: Float[Array, "B L D"], k: Float[Array, "D L"], leaf: int = LEAF) -> Float[Array, "B L D"]:
    """y_t = sum_s k_{t-s} x_s over the s up to t, by halves. k holds the lags from 0 to L - 1."""
    return jax.checkpoint(partial(_halved, leaf=leaf))(x, k)


def _halved(x: Array, k: Array, leaf: int) -> Float[Array, "B L D"]:
    L = x.shape[1]
    halvings = max(0, math.ceil(math.log2(L / leaf)))
    size = -(-L // 2**halvings)
    size += -size % 8 if halvings else 0  # lengths of transforms without large prime factors
    more = (size << halvings) - L
    u = jnp.pad(x.swapaxes(1, 2).astype(jnp.float32), ((0, 0), (0, 0), (0, more)))
    k = jnp.pad(k.astype(jnp.float32), ((0, 0), (0, more)))
    y = _among(u, k[:, :size])
    for n in range(halvings):
        y = y + _of_first_halves(u, k[:, : size << (n + 1)])
    return y[..., :L].swapaxes(1, 2).astype(x.dtype)


def at_latest(
    ring: Float[Array, "B S D"], x: Float[Array, "B D"], k: Float[Array, "S D"], place: Int[Array, ""]
) -> Float[Array, "B D"]:
    """y at the place of x, a further token: of the S - 1 before it, each in the slot of its place mod S, and of itself.
    k holds the lags from 0 to S - 1, a row each."""
    S = len(k)
    lags = jnp.roll(k[::-1], place % S + 1, axis=0)
    others = (jnp.arange(S) != place % S)[:, None]
    y = jnp.where(others, ring.astype(jnp.float32) * lags, 0).sum(1) + k[0] * x.astype(jnp.float32)
    return y.astype(x.dtype)


def _among(x: Float32[Array, "B D L"], k: Float32[Array, "D c"]) -> Float32[Array, "B D L"]:
    """What the tokens of each c have of each other, by the matrix of k_{t-s}."""
    lag = np.arange(k.shape[1])[:, None] - np.arange(k.shape[1])
    matrix = jnp.where(lag >= 0, k[:, np.maximum(lag, 0)], 0)
    leaves = x.reshape(*x.shape[:2], -1, k.shape[1])
    return jnp.einsum("dts,bdns->bdnt", matrix, leaves, precision=lax.Precision.HIGHEST).reshape(x.shape)


def _of_first_halves(x: Float32[Array, "B D L"], k: Float32[Array, "D W"]) -> Float32[Array, "B D L"]:
    """What the second half of each W tokens has of the first; 0 in the first. No lag comes round to it."""
    W = k.shape[1]
    pieces = x.reshape(*x.shape[:2], -1, W)
    first = jnp.fft.rfft(pieces[..., : W // 2], W)
    second = jnp.fft.irfft(first * jnp.fft.rfft(k)[:, None], W)[..., W // 2 :]
    return jnp.pad(second, ((0, 0), (0, 0), (0, 0), (W // 2, 0))).reshape(x.shape)


def two_sided(forward: Float[Array, "D L"], backward: Float[Array, "D L"]) -> Float[Array, "D W"]:
    """The filter that adds what `forward` makes of the text and `backward` of the reversed text; both have lag 0."""
    both = forward[:, :1] + backward[:, :1]
    return jnp.concatenate([backward[:, :0:-1], both, forward[:, 1:]], axis=1)


def _keep(x: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
    return long_convolution(x, k), (x, k)


def _backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, k = kept
    L, n = x.shape[1], _size(x.shape[1])
    G = _spectrum(g)
    dx = jnp.fft.irfft(G * _filter_spectrum(k).conj(), n)[..., :L]
    dk = jnp.fft.irfft((G * _spectrum(x).conj()).sum(0), n)
    dk = jnp.concatenate([dk[:, n - (L - 1) :], dk[:, :L]], axis=1)
    return dx.swapaxes(1, 2).astype(x.dtype), dk.astype(k.dtype)


long_convolution.defvjp(_keep, _backward)


def _spectrum(x: Float[Array, "B L D"]) -> Complex64[Array, "B D F"]:
    return jnp.fft.rfft(x.swapaxes(1, 2).astype(jnp.float32), _size(x.shape[1]))


def _filter_spectrum(k: Float32[Array, "D W"]) -> Complex64[Array, "D F"]:
    """Lag 0 stands first; negative lags stand at the end, which to a cyclic transform is before the beginning."""
    L = (k.shape[1] + 1) // 2
    n = _size(L)
    gap = jnp.zeros((len(k), n - k.shape[1]))
    return jnp.fft.rfft(jnp.concatenate([k[:, L - 1 :], gap, k[:, : L - 1]], axis=1).astype(jnp.float32))


def _size(length: int) -> int:
    """The least n of at least 2L - 1 that has no prime factor above 5: transforms of such lengths are fast."""
    n = max(2, 2 * length - 1)
    while not _smooth(n):
        n += 1
    return n


def _smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1
