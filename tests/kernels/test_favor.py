"""FAVOR+ as two softmax attentions against FAVOR+ by its features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import widened

from lra_bench.kernels.favor import favor, favor_reference, orthogonal_features

W = orthogonal_features(jax.random.key(9), 20, 8)


def arrays(length: int, dtype: jnp.dtype | type = jnp.float32) -> tuple:
    q, k, v, g = jax.random.normal(jax.random.key(length), (4, 4, 2, length, 8)).astype(dtype)
    holes = jax.random.bernoulli(jax.random.key(1), 0.5, (1, length)).at[0, 0].set(True)
    mask = jnp.arange(length) < jnp.array([length, (length + 1) // 2, 0])[:, None]
    return q, k, v, jnp.concatenate([mask, holes]), g


@partial(jax.jit, static_argnums=0)
def values_and_gradients(f: Callable, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, g: jax.Array) -> tuple:
    y, pull = jax.vjp(lambda q, k, v: f(q, k, v, mask, W), q, k, v)
    return y, *pull(g)


@pytest.mark.parametrize("length", [1, 37, 600])
def test_values_and_gradients(length: int) -> None:
    for a, b in zip(*(values_and_gradients(f, *arrays(length)) for f in (favor, favor_reference)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-3)
        assert not a[2].any()


def test_bfloat16() -> None:
    """Logits are float32 there too: at 30 a bfloat16 is off by 0.1."""
    half = arrays(100, jnp.bfloat16)
    full = widened(half)
    for a, b in zip(values_and_gradients(favor, *half), values_and_gradients(favor_reference, *full), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


def test_keys_so_long_that_the_features_vanish() -> None:
    """exp(-|k|^2 / 2) is 0 in float32 here; relative to each other the weights are as good as ever."""
    q, k, v, mask, g = arrays(37)
    outs = [values_and_gradients(favor, q, k + shift, v, mask, g) for shift in (0.0, 100.0)]
    assert all(bool(jnp.isfinite(x).all()) for x in outs[1])
    assert float(abs(outs[1][0][0]).max()) > 0.1


def test_the_features_never_exist() -> None:
    def temporary(length: int) -> int:
        q = jax.ShapeDtypeStruct((1, 1, length, 8), jnp.float32)
        w, mask = jax.ShapeDtypeStruct((256, 8), jnp.float32), jax.ShapeDtypeStruct((1, length), jnp.bool_)
        gradient = jax.grad(lambda q, k, v, mask, w: favor(q, k, v, mask, w).sum(), argnums=(0, 1, 2))
        return jax.jit(gradient).lower(q, q, q, mask, w).compile().memory_analysis().temp_size_in_bytes

    assert temporary(16384) < 16384 * 256 * 4
