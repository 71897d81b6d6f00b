"""The small kernels around gated mechanisms: the gated linear unit, and the convolution of a few taps."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.glu import glu, glu_reference
from lra_bench.kernels.short_convolution import short_convolution, short_convolution_reference


def test_glu() -> None:
    x, g = jax.random.normal(jax.random.key(0), (5, 8)), jax.random.normal(jax.random.key(1), (5, 4))
    for a, b in zip(*((f(x), *jax.vjp(f, x)[1](g)) for f in (glu, glu_reference)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(glu(jnp.array([3.0, 0.0])), [1.5])


@pytest.mark.parametrize(("causal", "whole"), [(False, 1), (True, 2)])
def test_short_convolution(causal: bool, whole: int) -> None:
    """`whole` is the first token with something under each of its taps."""
    x, g = jax.random.normal(jax.random.key(0), (2, 2, 9, 4))
    taps = jax.random.normal(jax.random.key(1), (3, 4))
    both = (partial(f, causal=causal) for f in (short_convolution, short_convolution_reference))
    fast, plain = ((f(x, taps), *jax.vjp(f, x, taps)[1](g)) for f in both)
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(fast[0][0, whole], (x[0, :3] * taps).sum(0), atol=1e-6)


def test_short_convolution_in_bfloat16() -> None:
    x, taps = jnp.ones((1, 5, 2), jnp.bfloat16), jnp.ones((3, 2))
    y = short_convolution(x, taps)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(y[0, :, 0]), [2, 3, 3, 3, 2])
