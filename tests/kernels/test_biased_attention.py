"""Attention with logits of its own, block by block, against all weights at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import widened

from lra_bench.kernels.biased_attention import biased_attention, biased_attention_reference


def arrays(length: int, dtype: jnp.dtype | type = jnp.float32) -> tuple:
    q, k, v, g = jax.random.normal(jax.random.key(length), (4, 4, 2, length, 8)).astype(dtype)
    holes = jax.random.bernoulli(jax.random.key(1), 0.5, (1, length)).at[0, 0].set(True)
    mask = jnp.arange(length) < jnp.array([length, (length + 1) // 2, 0])[:, None]
    s = 3 * jax.random.normal(jax.random.key(2), (length, 2, length))
    return q, k, v, jnp.concatenate([mask, holes]), s, g


@partial(jax.jit, static_argnums=(0, 1))
def values_and_gradients(f: Callable, pairs: bool, *arguments: jax.Array) -> tuple:
    *rest, mask, s, g = arguments

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, s: jax.Array) -> jax.Array:
        return f(q, k, v, mask, s) if pairs else f(None, None, v, mask, s)

    y, pull = jax.vjp(attend, *rest, s)
    return y, *pull(g)


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("length", [1, 63, 130])
def test_values_and_gradients(length: int, pairs: bool) -> None:
    both = (values_and_gradients(f, pairs, *arrays(length)) for f in (biased_attention, biased_attention_reference))
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)


def test_a_row_without_a_key_is_zero() -> None:
    y, *gradients = values_and_gradients(biased_attention, True, *arrays(37))
    assert not y[2].any()
    assert not any(bool(x[2].any()) for x in gradients[:3])


def test_bfloat16() -> None:
    half = arrays(100, jnp.bfloat16)
    full = widened(half)
    both = (
        values_and_gradients(biased_attention, True, *half),
        values_and_gradients(biased_attention_reference, True, *full),
    )
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))
    assert both[0][0].dtype == both[0][1].dtype == jnp.bfloat16


def test_no_weights_of_the_batch_exist() -> None:
    q = jax.ShapeDtypeStruct((8, 1, 1024, 8), jnp.float32)
    mask, s = jax.ShapeDtypeStruct((8, 1024), jnp.bool_), jax.ShapeDtypeStruct((1024, 1, 1024), jnp.float32)
    gradient = jax.grad(lambda q, k, v, mask, s: biased_attention(q, k, v, mask, s).sum(), argnums=(0, 1, 2, 4))
    plan = jax.jit(gradient).lower(q, q, q, mask, s).compile().memory_analysis()
    assert plan.temp_size_in_bytes < 8 * 1024 * 1024 * 4 / 2
