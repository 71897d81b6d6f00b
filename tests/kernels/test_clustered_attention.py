"""Clusters by products of matrices against distances counted bit by bit, and attention by blocks of one cluster each
against all weights in memory."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, widened

from lra_bench.kernels.clustered_attention import SIZE, clustered_attention, clustered_attention_reference, laid
from lra_bench.kernels.hamming_clusters import hamming_clusters, hamming_clusters_reference

C = 4


def arrays(length: int, dtype: jnp.dtype | type = jnp.float32) -> tuple[jax.Array, ...]:
    """q, k, v, mask, clusters and dL/dy; the second text has gaps, the last is empty."""
    rng = np.random.default_rng(length)
    q, k, v, g = (normal(3, 2, length, 8, seed=rng, dtype=dtype) for _ in "qkvg")
    mask = np.stack([np.ones(length, bool), np.arange(length) % 3 == 0, np.zeros(length, bool)])
    cluster = np.where(mask[:, None], rng.integers(0, C - 1, (3, 2, length)), C)  # one is empty
    return q, k, v, jnp.asarray(mask), jnp.asarray(cluster, jnp.int32), g


@partial(jax.jit, static_argnums=(0, 1))
def pulled(attend: object, top: int, *arguments: jax.Array) -> tuple[jax.Array, ...]:
    q, k, v, mask, cluster, g = arguments
    y, back = jax.vjp(lambda q, k, v: attend(q, k, v, mask, cluster, C, top), q, k, v)  # type: ignore[operator]
    return y, *back(g)


@pytest.mark.parametrize(("length", "top"), [(1, 3), (81, 0), (81, 5), (64, 64)])
def test_values_and_gradients(length: int, top: int) -> None:
    values = (pulled(f, top, *arrays(length)) for f in (clustered_attention, clustered_attention_reference))
    for a, b in zip(*values, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_bfloat16() -> None:
    half = arrays(81, jnp.bfloat16)
    full = widened(half)
    for a, b in zip(pulled(clustered_attention, 5, *half), pulled(clustered_attention, 5, *full), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


@pytest.mark.parametrize("members", [[[0] * 70], [[i % C for i in range(70)]], [[C] * 35 + [1] * 35]])
def test_a_block_has_one_cluster(members: list[list[int]]) -> None:
    cluster = np.array(members)
    there, back, owner, count = map(np.asarray, jax.jit(laid, static_argnums=1)(jnp.asarray(cluster), C))
    stand = np.flatnonzero(there[0] >= 0)
    np.testing.assert_array_equal(owner[0][stand // SIZE], cluster[0][there[0][stand]])
    np.testing.assert_array_equal(back[0][there[0][stand]], stand)
    np.testing.assert_array_equal(np.sort(there[0][stand]), np.flatnonzero(cluster[0] < C))
    np.testing.assert_array_equal(count[0], [(cluster == c).sum() for c in range(C)])


@pytest.mark.parametrize("iterations", [1, 4])
def test_clusters(iterations: int) -> None:
    x, _, _, mask, *_ = arrays(81)
    planes = normal(9, 16)
    values = [
        jax.jit(lambda x, f=f: f(x, mask, planes, C, iterations))(x)
        for f in (hamming_clusters, hamming_clusters_reference)
    ]
    np.testing.assert_array_equal(*values)
    assert set(np.unique(values[0][0])) == set(range(C))
    assert (values[0][2] == C).all()
