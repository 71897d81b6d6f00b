"""Hierarchical attention against its levels expanded to L x L, and what the public package lacked: the top levels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.hierarchical_attention import hierarchical_attention, hierarchical_attention_reference

pytestmark = pytest.mark.sweep  # its mixers are held to their equations, with gradients, by a faster test

Attend = Callable[..., jax.Array]


@partial(jax.jit, static_argnums=(0, 6), compiler_options={"xla_backend_optimization_level": "1"})
def pulled(
    attend: Attend, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, g: jax.Array, size: int
) -> tuple[jax.Array, ...]:
    real = mask[:, None, :, None]
    out, pull = jax.vjp(lambda q, k, v: jnp.where(real, attend(q, k, v, mask, size), 0), q, k, v)
    return out, *pull(g)


def arrays(length: int, mask: jax.Array, dtype: type = jnp.float32) -> tuple[jax.Array, ...]:
    q, k, v, g = jax.random.normal(jax.random.key(length), (4, len(mask), 2, length, 4), jnp.float32).astype(dtype)
    return q, k, v, mask, g * mask[:, None, :, None]


@pytest.mark.parametrize(("length", "size"), [(1, 2), (37, 4), (83, 2), (200, 66)])
def test_values_and_gradients(length: int, size: int) -> None:
    some = jax.random.bernoulli(jax.random.key(0), 0.5, (length,))
    mask = jnp.stack([jnp.ones(length, bool), jnp.arange(length) < length // 2, some, jnp.zeros(length, bool)])
    data = arrays(length, mask)
    fast, plain = (pulled(f, *data, size) for f in (hierarchical_attention, hierarchical_attention_reference))
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)


def test_bfloat16() -> None:
    mask = jnp.arange(83) < jnp.array([83, 40])[:, None]
    half = arrays(83, mask, jnp.bfloat16)
    full = [x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x for x in half]
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
