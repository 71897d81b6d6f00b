"""Attention in chunks with a bias for each distance, against all weights at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, ragged, widened

from lra_bench.kernels.chunk_attention import chunk_attention, chunk_attention_reference


def arrays(length: int, c: int, dtype: type = jnp.float32) -> tuple[jax.Array, ...]:
    """q, k, v, the bias, the mask and dL/dy; the first token of a longer text is padding."""
    rng = np.random.default_rng(length)
    q, k, v, g = (normal(3, length, width, seed=rng, dtype=dtype) for width in (4, 4, 6, 6))
    mask = np.array(ragged(length, length, (length + 1) // 2, 0))
    mask[0, 0] = length == 1
    return q, k, v, normal(2 * c - 1, seed=rng), jnp.asarray(mask), g


@partial(jax.jit, static_argnums=(0, 1), static_argnames="causal")
def run(attend: Callable[..., jax.Array], laplace: bool, q, k, v, bias, mask, g, causal=False) -> tuple[jax.Array, ...]:
    y, pull = jax.vjp(lambda q, k, v, bias: attend(q, k, v, mask, bias, laplace, causal), q, k, v, bias)
    return y, *pull(g)


@pytest.mark.parametrize("laplace", [False, True])
@pytest.mark.parametrize(("length", "c"), [(1, 1), (37, 8), (40, 8), (5, 8), (200, 200), (300, 129)])
def test_values_and_gradients(length: int, c: int, laplace: bool) -> None:
    made = [run(f, laplace, *arrays(length, c)) for f in (chunk_attention, chunk_attention_reference)]
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)
    assert not made[0][0][2].any()


@pytest.mark.parametrize("laplace", [False, True])
@pytest.mark.parametrize(("length", "c"), [(37, 8), (300, 129)])
def test_causal_values_and_gradients(length: int, c: int, laplace: bool) -> None:
    q, k, v, bias, *rest = arrays(length, c)
    forms = chunk_attention, chunk_attention_reference
    made = [run(f, laplace, q, k, v, bias[c - 1 :], *rest, causal=True) for f in forms]
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)
    assert not made[0][0][0, 0].any()


def test_bfloat16() -> None:
    half = arrays(37, 8, jnp.bfloat16)
    full = widened(half)
    y, exact = run(chunk_attention, False, *half)[0], run(chunk_attention_reference, False, *full)[0]
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y), exact, atol=0.03 * float(abs(exact).max()))


def test_memory_is_linear_even_over_everything() -> None:
    q, bias = jax.ShapeDtypeStruct((1, 4096, 16), jnp.float32), jax.ShapeDtypeStruct((8191,), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, 4096), jnp.bool_)
    gradient = jax.jit(jax.grad(lambda q, m, b: chunk_attention(q, q, q, m, b).sum(), argnums=(0, 2)))
    assert gradient.lower(q, mask, bias).compile().memory_analysis().temp_size_in_bytes < 4096 * 4096 * 4 / 2
