"""The backbone's kernels against their references."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.added import added, added_reference
from lra_bench.kernels.dense import dense, dense_reference
from lra_bench.kernels.layer_norm import layer_norm, layer_norm_reference

r = lambda i, *shape: jax.random.normal(jax.random.key(i), shape)  # noqa: E731


def test_dense() -> None:
    x, w, g = r(0, 3, 5, 7), r(1, 7, 4), r(2, 3, 5, 4)
    for a, b in zip(*((f(x, w), *jax.vjp(f, x, w)[1](g)) for f in (dense, dense_reference)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_dense_keeps_the_parameters_dtype() -> None:
    x, w = r(0, 3, 7).astype(jnp.bfloat16), r(1, 7, 4)
    y, pull = jax.vjp(dense, x, w)
    dx, dw = pull(y)
    assert (y.dtype, dx.dtype, dw.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_added(dtype: jnp.dtype) -> None:
    x, p, g = r(0, 3, 5, 7).astype(dtype), r(1, 5, 7), r(2, 3, 5, 7)
    made = [(f(x, p), *jax.vjp(f, x, p)[1](g)) for f in (added, added_reference)]
    for a, b in zip(*made, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_layer_norm(shift: float) -> None:
    x, scale, bias, g = r(0, 3, 5, 8) + shift, r(1, 8), r(2, 8), r(3, 3, 5, 8)
    made = [(f(x, scale, bias), *jax.vjp(f, x, scale, bias)[1](g)) for f in (layer_norm, layer_norm_reference)]
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    unit = (np.asarray(made[0][0]) - np.asarray(bias)) / np.asarray(scale)
    np.testing.assert_allclose(unit.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(unit.std(-1), 1, atol=1e-3)


def test_layer_norm_in_half_precision_has_float32_statistics() -> None:
    x = (r(0, 4, 64) + 30).astype(jnp.bfloat16)
    y = layer_norm(x, jnp.ones(64), jnp.zeros(64))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y).mean(-1), 0, atol=0.01)
