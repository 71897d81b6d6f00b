"""The convolution by banded products against shifted copies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.depthwise_convolution import depthwise_convolution, depthwise_convolution_reference


@partial(jax.jit, static_argnums=0)
def values_and_gradients(f: Callable, x: jax.Array, w: jax.Array, g: jax.Array) -> tuple:
    y, pull = jax.vjp(f, x, w)
    return y, *pull(g)


def arrays(length: int, width: int, dtype: jnp.dtype | type = jnp.float32) -> tuple:
    x, g = jax.random.normal(jax.random.key(length), (2, 3, 2, length, 4)).astype(dtype)
    return x, jax.random.normal(jax.random.key(1), (2, width)), g


@pytest.mark.parametrize(("length", "width"), [(1, 1), (5, 9), (64, 33), (70, 41)])
def test_values_and_gradients(length: int, width: int) -> None:
    both = (depthwise_convolution, depthwise_convolution_reference)
    for a, b in zip(*(values_and_gradients(f, *arrays(length, width)) for f in both), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * float(abs(b).max()), rtol=1e-4)


def test_bfloat16() -> None:
    x, w, g = arrays(50, 5, jnp.bfloat16)
    y = values_and_gradients(depthwise_convolution, x, w, g)
    exact = values_and_gradients(depthwise_convolution_reference, x.astype(jnp.float32), w, g.astype(jnp.float32))
    assert [a.dtype for a in y] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    for a, b in zip(y, exact, strict=True):
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))
