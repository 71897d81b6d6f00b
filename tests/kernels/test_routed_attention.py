"""Clusters that take as many queries and keys each, against one cluster after another; and which tokens they take."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, ragged

from lra_bench.kernels.routed_attention import closest, nearest, routed_attention, routed_attention_reference


@pytest.mark.parametrize("count", [3, 8])
def test_values_and_gradients(count: int) -> None:
    rng = np.random.default_rng(count)
    q, k, v, g = (normal(3, 2, 19, 4, seed=rng) for _ in "qkvg")
    mask, centroids = ragged(19, 19, 10, 0), normal(2, 5, 4, seed=rng)
    queries, keys = (nearest(x, mask, centroids, count) for x in (q, k))
    made = []
    for f in (routed_attention, routed_attention_reference):
        y, pull = jax.vjp(lambda q, k, v, f=f: f(q, k, v, queries, keys), q, k, v)
        made.append((y, *pull(g)))
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_each_centroid_takes_the_nearest_tokens_that_are_there() -> None:
    x, centroids, mask = normal(2, 3, 11, 4), normal(3, 5, 4, seed=1), ragged(11, 11, 2)
    places = np.asarray(nearest(x, mask, centroids, 4))
    scores = np.einsum("hck,bhlk->bhcl", centroids, x)
    assert (places[0] == np.argsort(-scores[0], axis=-1)[..., :4]).all()
    assert (np.sort(places[1], axis=-1) == [-1, -1, 0, 1]).all()


def test_the_closest_centroid_and_of_equal_ones_the_first() -> None:
    x, centroids = normal(2, 3, 11, 4), normal(3, 5, 4, seed=1)
    found = closest(x, centroids)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, np.einsum("hck,bhlk->bhcl", centroids, x).argmax(2))
    np.testing.assert_array_equal(closest(x, jnp.ones((3, 5, 4))), 0)
