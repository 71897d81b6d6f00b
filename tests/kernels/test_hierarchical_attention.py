"""Hierarchical attention against its levels expanded to L x L, and what the public package lacked: the top levels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import coins, normal, ragged, widened

from lra_bench.kernels.hierarchical_attention import hierarchical_attention, hierarchical_attention_reference

Attend = Callable[..., jax.Array]


@partial(jax.jit, static_argnums=(0, 6))
def pulled(
    attend: Attend, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, g: jax.Array, size: int
) -> tuple[jax.Array, ...]:
    real = mask[:, None, :, None]
    out, pull = jax.vjp(lambda q, k, v: jnp.where(real, attend(q, k, v, mask, size), 0), q, k, v)
    return out, *pull(g)


def arrays(length: int, mask: jax.Array, dtype: type = jnp.float32) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(length)
    q, k, v, g = (normal(len(mask), 2, length, 4, seed=rng, dtype=dtype) for _ in "qkvg")
    return q, k, v, mask, g


@pytest.mark.parametrize(("length", "size"), [(1, 2), (37, 4), (83, 2), (200, 66)])
def test_values_and_gradients(length: int, size: int) -> None:
    mask = jnp.concatenate([ragged(length, length, length // 2, 0), coins(1, length)])
    data = arrays(length, mask)
    fast, plain = (pulled(f, *data, size) for f in (hierarchical_attention, hierarchical_attention_reference))
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)


def test_bfloat16() -> None:
    half = arrays(83, ragged(83, 83, 40), jnp.bfloat16)
    full = widened(half)
    fast, plain = pulled(hierarchical_attention, *half, 4), pulled(hierarchical_attention_reference, *full, 4)
    for a, b in zip(fast, plain, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


def test_every_token_sees_every_other() -> None:
    """h-transformer-1d's two halves never met."""
    q, k, v, mask, _ = arrays(100, jnp.ones((1, 100), bool))
    seen = jax.jit(jax.jacrev(lambda v: hierarchical_attention(q, k, v, mask, 4)[0, 0].sum(-1)))(v)
    weights = seen[:, 0, 0].mean(-1)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
