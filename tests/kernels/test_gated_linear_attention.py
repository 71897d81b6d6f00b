"""Gated linear attention in chunks against one token after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, widened

from lra_bench.kernels.gated_linear_attention import gated_linear_attention, gated_linear_attention_reference


def arrays(length: int, strength: float = 1.0, dtype: type = jnp.float32) -> tuple[jax.Array, ...]:
    """q, k, v, the gates' logarithms and dL/dy."""
    rng = np.random.default_rng(length)
    q, k = (normal(2, 2, length, 4, seed=rng, dtype=dtype) for _ in "qk")
    v, pulled = (normal(2, 2, length, 6, seed=rng, dtype=dtype) for _ in "vg")
    gates = -strength * np.log1p(np.exp(rng.normal(size=k.shape)))
    return q, k, v, jnp.asarray(gates, jnp.float32), pulled


@partial(jax.jit, static_argnums=0)
def run(attend: Callable[..., jax.Array], *arrays: jax.Array) -> tuple[jax.Array, ...]:
    y, pull = jax.vjp(attend, *arrays[:-1])
    return y, *pull(arrays[-1])


@pytest.mark.parametrize("strength", [0.06, 1.0, 5.0])
@pytest.mark.parametrize(
    ("length", "impl"), [(1, "xla"), (32, "xla"), (37, "xla"), (100, "xla"), (37, "batched"), (700, "batched")]
)
def test_values_and_gradients(length: int, impl: str, strength: float) -> None:
    """700 tokens are two groups of chunks."""
    made = [
        run(f, *arrays(length, strength))
        for f in (partial(gated_linear_attention, impl=impl), gated_linear_attention_reference)
    ]
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("chunk", [1, 5, 16])
def test_the_chunk_changes_nothing(chunk: int) -> None:
    *inputs, _ = arrays(37)
    run = jax.jit(gated_linear_attention, static_argnums=4)
    np.testing.assert_allclose(run(*inputs, chunk), run(*inputs), atol=1e-5)


def test_forgetting_everything_at_once_stays_finite() -> None:
    q, k, v, g, pulled = arrays(100)
    made = [
        run(f, 100 * q, 100 * k, v, 0 * g - 1e4, pulled)
        for f in (gated_linear_attention, gated_linear_attention_reference)
    ]
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(abs(b).max()))


def test_bfloat16() -> None:
    half = arrays(37, dtype=jnp.bfloat16)
    y = run(gated_linear_attention, *half)[0]
    exact = run(gated_linear_attention_reference, *widened(half))[0]
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y), exact, atol=0.02 * float(abs(exact).max()))
