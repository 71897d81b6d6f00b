"""Sine and cosine by polynomials against the ones that numpy has."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lra_bench.kernels.sine_cosine import sine_cosine, sine_cosine_reference


def test_values() -> None:
    near, far = np.linspace(-30, 30, 100001), np.random.default_rng(0).uniform(-1e4, 1e4, 100000)
    x = np.float32(np.concatenate([near, far, np.arange(-4000, 4000) * np.pi / 4]))
    for found, exact in zip(jax.jit(sine_cosine)(x), (np.sin(np.float64(x)), np.cos(np.float64(x))), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, atol=1.2e-7)


def test_gradients() -> None:
    x, g = jax.random.normal(jax.random.key(0), (2, 1000)) * 5
    slopes = [
        jax.jit(jax.grad(lambda x, f=f: (f(x)[0] * g + f(x)[1] * g**2).sum()))(x)
        for f in (sine_cosine, sine_cosine_reference)
    ]
    np.testing.assert_allclose(*slopes, atol=1e-5)
