"""LSH attention by sorted chunks against full attention under a mask, and rows reordered against plain indexing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, widened

from lra_bench.kernels.lsh_attention import Chunks, buckets, lsh_attention, lsh_attention_reference
from lra_bench.kernels.reordered import reordered, reordered_reference

bucketed = jax.jit(buckets, static_argnums=3)
by_xla = partial(lsh_attention, impl="xla")


def arrays(length: int, dtype: jnp.dtype | type = jnp.float32) -> tuple[jax.Array, ...]:
    """q, v, mask, buckets of two rounds, and dL/dy; the last text is empty, the second has gaps."""
    rng = np.random.default_rng(length)
    q, v, g = (normal(3, 2, length, 8, seed=rng, dtype=dtype) for _ in "qvg")
    mask = jnp.asarray(np.stack([np.ones(length, bool), np.arange(length) % 3 == 0, np.zeros(length, bool)]))
    return q, v, mask, bucketed(q, mask, normal(2, 8, 2, 4, seed=rng), (4, 4)), g


@partial(jax.jit, static_argnums=(0, 1))
def pulled(attend: object, chunks: Chunks, *arguments: jax.Array) -> tuple[jax.Array, ...]:
    q, v, mask, bucket, g = arguments
    y, back = jax.vjp(lambda q, v: attend(q, v, mask, bucket, chunks), q, v)  # type: ignore[operator]
    return y, *back(g)


@pytest.mark.parametrize("chunks", [Chunks(8, 1, 1, 37), Chunks(5, 0, 2, 37, across=True), Chunks(64, length=64)])
def test_values_and_gradients(chunks: Chunks) -> None:
    length = chunks.length
    q, v, mask, *rest = arrays(length)
    values = (pulled(f, chunks, q, v, mask, *rest) for f in (by_xla, lsh_attention_reference))
    for a, b in zip(*values, strict=True):
        there = mask[:, None, :, None]
        np.testing.assert_allclose(a * there, b * there, atol=1e-5)


def test_bfloat16() -> None:
    half, chunks = arrays(37, jnp.bfloat16), Chunks(8, 1, 1, 37)
    full = widened(half)
    for a, b in zip(pulled(by_xla, chunks, *half), pulled(by_xla, chunks, *full), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


def test_buckets_are_pairs_of_hashes() -> None:
    """argmax [xR; -xR], written as the paper has it."""
    x, R = np.asarray(normal(40, 8)), normal(1, 8, 1, 5, seed=1)
    turned = x @ np.asarray(R)[0, :, 0]
    first, second = (np.argmax(np.concatenate([t, -t], axis=1), axis=1) for t in (turned[:, :2], turned[:, 2:]))
    mask = np.arange(40) < 30
    found = bucketed(jnp.asarray(x[None, None]), jnp.asarray(mask[None]), R, (4, 6))[0, 0, 0]
    np.testing.assert_array_equal(found, np.where(mask, 6 * first + second, 24))


def test_rows_reordered() -> None:
    x, g = normal(1, 4, 3), normal(1, 6, 3, seed=1)
    there, back = jnp.array([[2, -1, 0, 3, -1, -1]]), jnp.array([[2, -1, 0, 3]])

    @partial(jax.jit, static_argnums=0)
    def run(f: Callable[..., jax.Array], x: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
        y, pull = jax.vjp(lambda x: f(x, there, back), x)
        return y, *pull(g)

    values = [run(f, x, g) for f in (reordered, reordered_reference)]
    np.testing.assert_array_equal(values[0][0], values[1][0])
    np.testing.assert_allclose(values[0][1], values[1][1], atol=1e-6)
