"""Attention by features in blocks against all its weights at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import widened

from lra_bench.kernels.feature_attention import feature_attention, feature_attention_reference

W = jax.random.normal(jax.random.key(9), (20, 8))


def arrays(length: int, dtype: jnp.dtype | type = jnp.float32) -> tuple:
    q, k, v, g = jax.random.normal(jax.random.key(length), (4, 4, 2, length, 8)).astype(dtype)
    holes = jax.random.bernoulli(jax.random.key(1), 0.5, (1, length)).at[0, 0].set(True)
    mask = jnp.arange(length) < jnp.array([length, (length + 1) // 2, 0])[:, None]
    return q, k, v, jnp.concatenate([mask, holes]), g


@partial(jax.jit, static_argnums=0)
def values_and_gradients(f: Callable, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, g: jax.Array) -> tuple:
    def attend(q: jax.Array, k: jax.Array, v: jax.Array, w: jax.Array) -> jax.Array:
        return f(q, k, v, mask, lambda x, i: jax.nn.softplus(x @ w.T + jnp.sin(i)[:, None]), 1e-6)

    y, pull = jax.vjp(attend, q, k, v, W)
    return y, *pull(g)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("length", [1, 511, 1100])
def test_values_and_gradients(length: int, turned: bool) -> None:
    fs = (partial(f, turned=turned) for f in (feature_attention, feature_attention_reference))
    both = (values_and_gradients(f, *arrays(length)) for f in fs)
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(abs(b).max())), rtol=2e-3)


def test_a_row_without_a_key_is_zero() -> None:
    assert not values_and_gradients(feature_attention, *arrays(37))[0][2].any()


def test_bfloat16() -> None:
    half = arrays(100, jnp.bfloat16)
    full = widened(half)
    both = values_and_gradients(feature_attention, *half), values_and_gradients(feature_attention_reference, *full)
    for a, b in list(zip(*both, strict=True))[:4]:
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


def test_the_features_never_exist() -> None:
    def temporary(length: int) -> int:
        q = jax.ShapeDtypeStruct((1, 1, length, 8), jnp.float32)
        w, mask = jax.ShapeDtypeStruct((256, 8), jnp.float32), jax.ShapeDtypeStruct((1, length), jnp.bool_)

        def total(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, w: jax.Array) -> jax.Array:
            return feature_attention(q, k, v, mask, lambda x, i: jax.nn.relu(x @ w.T), 1e-6).sum()

        gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
        return gradient.lower(q, q, q, mask, w).compile().memory_analysis().temp_size_in_bytes

    assert temporary(16384) < 16384 * 256 * 4
