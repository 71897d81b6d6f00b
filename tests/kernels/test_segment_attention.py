"""Segment attention: the shift against a row gathered for each pair, and which segments stand before which."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, widened

from lra_bench.kernels.segment_attention import earlier, segment_attention, segment_attention_reference, sinusoids


@partial(jax.jit, static_argnums=(0, 1))
def pulled(attend: Callable[..., jax.Array], causal: bool, mask: jax.Array, g: jax.Array, *given: jax.Array) -> tuple:
    out, pull = jax.vjp(lambda q, k, v, *rest: attend(q, k, v, mask, *rest, causal=causal), *given)
    return out, *pull(g)


def arrays(s: int, J: int, dtype: type = jnp.float32) -> tuple[jax.Array, ...]:
    """The mask, the output's gradient, q, k, v, r, u and w. A segment without a key is among them."""
    B, H, N, K = 2, 2, 3, 4
    shapes = [(B, H, N, s, K)] * 2 + [(B, H, N, J, K)] * 2 + [(H, J + s - 1, K), (H, K), (H, K)]
    rng = np.random.default_rng(0)
    mask = rng.random((B, N, J)) < 0.7
    mask[1, 1] = False
    return jnp.asarray(mask), *(normal(*shape, seed=rng, dtype=dtype) for shape in shapes)


@pytest.mark.parametrize(("s", "J", "causal"), [(5, 13, False), (4, 4, True), (1, 3, False), (7, 7, False)])
def test_values_and_gradients(s: int, J: int, causal: bool) -> None:
    data = arrays(s, J)
    fast, plain = (pulled(f, causal, *data) for f in (segment_attention, segment_attention_reference))
    assert not fast[0][1, :, 1].any()
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)


def test_bfloat16() -> None:
    half = arrays(5, 13, jnp.bfloat16)
    full = widened(half)
    for a, b in zip(
        pulled(segment_attention, False, *half), pulled(segment_attention_reference, False, *full), strict=True
    ):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


def test_what_stands_before_a_segment() -> None:
    x = jnp.arange(1, 9).reshape(1, 1, 4, 2, 1)
    rows = lambda *given: earlier(x, *given)[0, 0, :, :, 0].tolist()  # noqa: E731
    assert rows(1) == [[0, 0], [1, 2], [3, 4], [5, 6]]
    assert rows(2, 1) == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 2], [1, 2, 3, 4]]
    assert rows(5)[3] == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert earlier(x, 0).shape == (1, 1, 4, 0, 1)


def test_a_row_for_each_distance() -> None:
    d = np.arange(4, -3, -1)[:, None]
    angle = d / 10000 ** (np.arange(0, 6, 2) / 6)
    np.testing.assert_allclose(sinusoids(5, 3, 6), np.concatenate([np.sin(angle), np.cos(angle)], axis=1), atol=1e-6)
