"""LSH attention by sorted chunks against full attention under a mask, and rows reordered against plain indexing."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.lsh_attention import Chunks, buckets, lsh_attention, lsh_attention_reference
from lra_bench.kernels.reordered import reordered, reordered_reference

pytestmark = pytest.mark.sweep  # its mixers are held to their equations, with gradients, by a faster test


def arrays(length: int, dtype: jnp.dtype | type = jnp.float32) -> tuple[jax.Array, ...]:
    """q, v, mask, buckets of two rounds, and dL/dy; the last text is empty, the second has gaps."""
    keys = jax.random.split(jax.random.key(length), 4)
    q, v, g = (jax.random.normal(key, (3, 2, length, 8)).astype(dtype) for key in keys[:3])
    mask = (jnp.arange(length) % jnp.array([1, 3, length])[:, None] == 0) & jnp.array([True, True, False])[:, None]
    return q, v, mask, buckets(q, mask, jax.random.normal(keys[3], (2, 8, 2, 4)), (4, 4)), g


@partial(jax.jit, static_argnums=(0, 1))
def pulled(attend: object, chunks: Chunks, *arguments: jax.Array) -> tuple[jax.Array, ...]:
    q, v, mask, bucket, g = arguments
    y, back = jax.vjp(lambda q, v: attend(q, v, mask, bucket, chunks), q, v)  # type: ignore[operator]
    return y, *back(g)


@pytest.mark.parametrize("chunks", [Chunks(8, 1, 1, 37), Chunks(5, 0, 2, 37, across=True), Chunks(64, length=64)])
def test_values_and_gradients(chunks: Chunks) -> None:
    length = chunks.length
    q, v, mask, *rest = arrays(length)
    values = (pulled(f, chunks, q, v, mask, *rest) for f in (lsh_attention, lsh_attention_reference))
    for a, b in zip(*values, strict=True):
        there = mask[:, None, :, None]
        np.testing.assert_allclose(a * there, b * there, atol=1e-5)


def test_bfloat16() -> None:
    half, chunks = arrays(37, jnp.bfloat16), Chunks(8, 1, 1, 37)
    full = [x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x for x in half]
    for a, b in zip(pulled(lsh_attention, chunks, *half), pulled(lsh_attention, chunks, *full), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


def test_buckets_are_pairs_of_hashes() -> None:
    """argmax [xR; -xR], written as the paper has it."""
    x, R = np.asarray(jax.random.normal(jax.random.key(0), (40, 8))), jax.random.normal(jax.random.key(1), (1, 8, 1, 5))
    turned = x @ np.asarray(R)[0, :, 0]
    first, second = (np.argmax(np.concatenate([t, -t], axis=1), axis=1) for t in (turned[:, :2], turned[:, 2:]))
    mask = jnp.arange(40) < 30
    found = buckets(jnp.asarray(x)[None, None], mask[None], R, (4, 6))[0, 0, 0]
    np.testing.assert_array_equal(found, np.where(mask, 6 * first + second, 24))


def test_rows_reordered() -> None:
    x, g = jax.random.normal(jax.random.key(0), (1, 4, 3)), jax.random.normal(jax.random.key(1), (1, 6, 3))
    there, back = jnp.array([[2, -1, 0, 3, -1, -1]]), jnp.array([[2, -1, 0, 3]])
    values = [jax.vjp(lambda x, f=f: f(x, there, back), x) for f in (reordered, reordered_reference)]
    np.testing.assert_array_equal(values[0][0], values[1][0])
    np.testing.assert_allclose(values[0][1](g)[0], values[1][1](g)[0], atol=1e-6)
