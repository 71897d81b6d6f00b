"""Attention in chunks with a bias for each distance, against all weights at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.chunk_attention import chunk_attention, chunk_attention_reference

pytestmark = pytest.mark.sweep  # its mixers are held to their equations, with gradients, by a faster test


def arrays(length: int, c: int, dtype: type = jnp.float32) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(length), 5)
    q, k, v, g = (
        jax.random.normal(key, (3, length, width)).astype(dtype) for key, width in zip(keys, (4, 4, 6, 6), strict=False)
    )
    mask = jnp.arange(length) < jnp.array([length, (length + 1) // 2, 0])[:, None]
    return q, k, v, jax.random.normal(keys[4], (2 * c - 1,)), mask.at[0, 0].set(length == 1), g


@partial(jax.jit, static_argnums=(0, 1))
def run(attend: Callable[..., jax.Array], laplace: bool, q, k, v, bias, mask, g) -> tuple[jax.Array, ...]:
    y, pull = jax.vjp(lambda q, k, v, bias: attend(q, k, v, mask, bias, laplace), q, k, v, bias)
    return y, *pull(g)


@pytest.mark.parametrize("laplace", [False, True])
@pytest.mark.parametrize(("length", "c"), [(1, 1), (37, 8), (40, 8), (5, 8), (200, 200), (300, 129)])
def test_values_and_gradients(length: int, c: int, laplace: bool) -> None:
    made = [run(f, laplace, *arrays(length, c)) for f in (chunk_attention, chunk_attention_reference)]
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)
    assert not made[0][0][2].any()


def test_bfloat16() -> None:
    half = arrays(37, 8, jnp.bfloat16)
    full = [x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x for x in half]
    y, exact = run(chunk_attention, False, *half)[0], run(chunk_attention_reference, False, *full)[0]
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y), exact, atol=0.03 * float(abs(exact).max()))


def test_memory_is_linear_even_over_everything() -> None:
    q, bias = jax.ShapeDtypeStruct((1, 4096, 16), jnp.float32), jax.ShapeDtypeStruct((8191,), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, 4096), jnp.bool_)
    gradient = jax.jit(jax.grad(lambda q, m, b: chunk_attention(q, q, q, m, b).sum(), argnums=(0, 2)))
    assert gradient.lower(q, mask, bias).compile().memory_analysis().temp_size_in_bytes < 4096 * 4096 * 4 / 2
