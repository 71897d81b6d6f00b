"""Fourier mixing by fast transforms against the matrices of both."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.fourier import fourier, fourier_reference


@pytest.mark.parametrize(("length", "width"), [(1, 1), (2, 3), (8, 5), (37, 6)])
def test_values_and_gradients(length: int, width: int) -> None:
    x, g = jax.random.normal(jax.random.key(0), (2, 3, length, width))
    for a, b in zip(*((f(x), *jax.vjp(f, x)[1](g)) for f in (fourier, fourier_reference)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_bfloat16() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 37, 6)).astype(jnp.bfloat16)
    y = fourier(x)
    assert y.dtype == jnp.bfloat16
    exact = fourier_reference(x.astype(jnp.float32))
    np.testing.assert_allclose(np.float32(y), exact, atol=0.01 * float(abs(exact).max()))
