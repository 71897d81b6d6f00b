"""A window with vectors for distances against the same with all weights in memory; who is near, and what it saves."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, ragged, widened
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_bench.kernels.relative_attention import relative_attention, relative_attention_reference


def arrays(mask: jax.Array, far: int, more: int = 0, dtype: type = jnp.float32) -> tuple[jax.Array, ...]:
    """q, k, v, mask, the vectors, further keys and values, and the cotangents of the output and of the logsumexp."""
    (B, L), rng = mask.shape, np.random.default_rng(far)
    q, k, v, g = (normal(B, 2, L, 4, seed=rng, dtype=dtype) for _ in "qkvg")
    further = (normal(B, 2, more, 4, seed=rng, dtype=dtype) for _ in "kv")
    return q, k, v, mask, normal(2, 2 * far + 1, 4, seed=rng), *further, g, normal(B, 2, L, seed=rng)


@partial(jax.jit, static_argnums=(0, 1))
def values_and_gradients(attend, radius, q, k, v, mask, a, k_all, v_all, g, g_sum):  # type: ignore[no-untyped-def]
    parts, pull = jax.vjp(lambda q, k, v, a, *more: attend(q, k, v, mask, a, more, radius), q, k, v, a, k_all, v_all)
    return *parts, *pull((g, g_sum))


def compare(radius: int, arguments: tuple[jax.Array, ...]) -> None:
    both = (relative_attention, relative_attention_reference)
    for a, b in zip(*(values_and_gradients(attend, radius, *arguments) for attend in both), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5, rtol=3e-4)


@pytest.mark.parametrize(
    ("length", "radius", "far", "more"), [(1, 3, 2, 0), (70, 1, 0, 3), (131, 70, 12, 0), (67, 200, 3, 5)]
)
def test_values_and_gradients(length: int, radius: int, far: int, more: int) -> None:
    compare(radius, arrays(ragged(length, length, (length + 1) // 2, 0), far, more))


@settings(max_examples=20, deadline=None)
@given(mask=st.lists(st.booleans(), min_size=13, max_size=13))
def test_any_mask(mask: list[bool]) -> None:
    compare(4, arrays(jnp.array([mask]), 2))


def test_bfloat16() -> None:
    half = arrays(ragged(70, 70, 30), 4, 3, jnp.bfloat16)
    full = widened(half)
    got = values_and_gradients(relative_attention, 9, *half)
    expected = values_and_gradients(relative_attention_reference, 9, *full)
    assert [x.dtype for x in got] == [jnp.bfloat16, jnp.float32, *[jnp.bfloat16] * 3, jnp.float32, *[jnp.bfloat16] * 2]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


def test_a_row_without_a_key_is_zero() -> None:
    q, k, v, mask, a, *more, _, _ = arrays(jnp.zeros((1, 9), bool), 2)
    out, logsumexp = jax.jit(relative_attention, static_argnums=6)(q, k, v, mask, a, tuple(more), 3)
    assert not out.any()
    assert (logsumexp < -1e29).all()


def test_memory_is_linear() -> None:
    def temporary(length: int) -> int:
        q, more = (jax.ShapeDtypeStruct((1, 1, n, 64), jnp.float32) for n in (length, 16))
        mask, a = jax.ShapeDtypeStruct((1, length), jnp.bool_), jax.ShapeDtypeStruct((1, 25, 64), jnp.float32)

        def loss(q: jax.Array, k: jax.Array, v: jax.Array, a: jax.Array, more: jax.Array, mask: jax.Array) -> jax.Array:
            return relative_attention(q, k, v, mask, a, (more, more), 84)[0].sum()

        gradient = jax.grad(loss, argnums=(0, 1, 2, 3, 4))
        return jax.jit(gradient).lower(q, q, q, a, more, mask).compile().memory_analysis().temp_size_in_bytes

    assert temporary(4096) < 2.2 * temporary(2048)
