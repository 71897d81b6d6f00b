"""Each attention kernel against its reference: values and gradients, odd lengths, rows without a key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import widened
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_bench.kernels.linear_attention import linear_attention, linear_attention_reference
from lra_bench.kernels.softmax_attention import softmax_attention, softmax_attention_reference

Attend = Callable[..., jax.Array]
PAIRS: dict[str, tuple[Attend, Attend]] = {
    "softmax": (softmax_attention, softmax_attention_reference),
    "linear": (linear_attention, linear_attention_reference),
    "linear, turned": (
        lambda *given: linear_attention(*given, True),
        lambda *given: linear_attention_reference(*given, True),
    ),
}
pairs = pytest.mark.parametrize(("fast", "plain"), PAIRS.values(), ids=PAIRS)


def arrays(length: int, lengths: list[int], dtype: jnp.dtype | type = jnp.float32, queries: int = 0) -> tuple:
    keys = jax.random.split(jax.random.key(length), 4)
    q, g = (jax.random.normal(k, (len(lengths), 2, queries or length, 8)).astype(dtype) for k in keys[:2])
    k, v = (jax.random.normal(k, (len(lengths), 2, length, 8)).astype(dtype) for k in keys[2:])
    return q, k, v, jnp.arange(length) < jnp.array(lengths)[:, None], g


@partial(jax.jit, static_argnums=0)
def values_and_gradients(
    attend: Attend, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, g: jax.Array
) -> tuple:
    out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, mask), q, k, v)
    return out, *pull(g)


def compare(fast: Attend, plain: Attend, *arguments: jax.Array) -> None:
    for a, b in zip(*(values_and_gradients(attend, *arguments) for attend in (fast, plain)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)


@pairs
@pytest.mark.parametrize("length", [1, 63, 64, 65, 300, 1100])
def test_values_and_gradients(fast: Attend, plain: Attend, length: int) -> None:
    compare(fast, plain, *arrays(length, [length, (length + 1) // 2, 0]))


@pytest.mark.parametrize(("queries", "length"), [(300, 7), (7, 600), (257, 513)])
def test_as_many_queries_as_one_likes(queries: int, length: int) -> None:
    compare(softmax_attention, softmax_attention_reference, *arrays(length, [length, 1], queries=queries))


@pairs
@settings(max_examples=20, deadline=None)
@given(mask=st.lists(st.booleans(), min_size=9, max_size=9))
def test_any_mask(fast: Attend, plain: Attend, mask: list[bool]) -> None:
    q, k, v, _, g = arrays(9, [9])
    compare(fast, plain, q, k, v, jnp.array([mask]), g)


@pairs
def test_large_scores_stay_finite(fast: Attend, plain: Attend) -> None:
    q, k, v, mask, _ = arrays(300, [300, 100, 0])
    np.testing.assert_allclose(jax.jit(fast)(100 * q, k, v, mask), jax.jit(plain)(100 * q, k, v, mask), atol=1e-4)


@pairs
def test_a_row_without_a_key_is_zero(fast: Attend, plain: Attend) -> None:
    q, k, v, mask, _ = arrays(65, [65, 0])
    assert not fast(q, k, v, mask)[1].any()
    assert not plain(q, k, v, mask)[1].any()


@pairs
def test_bfloat16(fast: Attend, plain: Attend) -> None:
    half = arrays(300, [300, 150], jnp.bfloat16)
    full = widened(half)
    for a, b in zip(values_and_gradients(fast, *half), values_and_gradients(plain, *full), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


@pairs
def test_memory_is_linear(fast: Attend, plain: Attend) -> None:
    def temporary(length: int) -> int:
        q = jax.ShapeDtypeStruct((1, 1, length, 64), jnp.float32)
        mask = jax.ShapeDtypeStruct((1, length), jnp.bool_)
        gradient = jax.grad(lambda q, k, v, mask: fast(q, k, v, mask).sum(), argnums=(0, 1, 2))
        return jax.jit(gradient).lower(q, q, q, mask).compile().memory_analysis().temp_size_in_bytes

    assert temporary(4096) < 4096 * 4096 * 4 / 2
