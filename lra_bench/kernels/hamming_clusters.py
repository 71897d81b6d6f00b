"""K-means of vectors' random bits under the Hamming distance (arXiv 2007.04825, section 3.2.2 and supplement).

Bits are held as -1 and 1: the distance then falls with the inner product, and all of it is products of matrices.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.product import product

EXACT = 256  # whole numbers up to it are themselves in bfloat16


def hamming_clusters_reference(
    x: Float[Array, "B H L K"], mask: Bool[Array, "B L"], planes: Float[Array, "K+1 b"], clusters: int, iterations: int
) -> Int[Array, "B H L"]:
    """Distances counted bit by bit, for all texts at once."""
    bits = product("bhlk,kn->bhln", x, planes[:-1]) + planes[-1] > 0
    there = jnp.broadcast_to(mask[:, None], bits.shape[:3])
    behind = jnp.argsort(~there, axis=-1, stable=True)
    first = jnp.arange(clusters) * mask.sum(1)[:, None, None] // clusters
    first = jnp.take_along_axis(behind, jnp.broadcast_to(first, (*bits.shape[:2], clusters)), axis=-1)
    centroids = jnp.take_along_axis(bits, first[..., None], axis=2)
    for _ in range(iterations):
        cluster = jnp.argmin((bits[:, :, :, None] != centroids[:, :, None]).sum(-1), axis=-1)
        member = (cluster[..., None] == jnp.arange(clusters)) & there[..., None]
        ones = (member[..., None] & bits[:, :, :, None]).sum(2)
        count = member.sum(2)[..., None]
        centroids = jnp.where(count > 0, 2 * ones > count, centroids)
    return jnp.where(there, cluster, clusters)


def hamming_clusters(
    x: Float[Array, "B H L K"],
    mask: Bool[Array, "B L"],
    planes: Float[Array, "K+1 b"],
    clusters: int,
    iterations: int,
    impl: str = XLA,
) -> Int[Array, "B H L"]:
    """The cluster of each vector, without a gradient, one head of one text after another.

    Args:
        planes: normals of b random planes, and below them their offsets; a bit says on which side a vector is.
        clusters: C, the cluster that stands for none: of vectors that are not there.
        iterations: of Lloyd's algorithm. The first centroids are tokens at equal distances; a cluster that loses its
            last member stays where it is.
        impl: as `impl.chosen` says it.
    """
    B, H, L, K = x.shape
    rows = lax.stop_gradient(x).reshape(B * H, L, K), jnp.repeat(mask, H, axis=0)
    some = at_once(impl, B * H, B * H * clusters * L)
    kind = jnp.float32 if impl == XLA else jnp.bfloat16
    found = lax.map(lambda row: _cluster(row[0], row[1], planes, clusters, iterations, kind), rows, batch_size=some)
    return found.reshape(B, H, L)


def _cluster(x: Array, mask: Array, planes: Array, clusters: int, iterations: int, kind: Any) -> Int[Array, "L"]:
    """`kind` is the dtype of bits and memberships, which are exact in 16 bits; sums are float32."""
    L = len(x)
    bits = jnp.where(product("lk,kn->ln", x, planes[:-1]) + planes[-1] > 0, 1.0, -1.0).astype(kind)
    places = jnp.sort(jnp.where(mask, jnp.arange(L), L))
    start = bits[jnp.minimum(places[jnp.arange(clusters) * mask.sum() // clusters], L - 1)]
    order = jnp.arange(clusters, 0, -1)[:, None]

    def nearness(centroids: Array) -> Array:
        """Whole numbers, [C, L], no two of a vector alike: of equal distances the first centroid's is the largest."""
        alike = product("cn,ln->cl", centroids, bits)
        if planes.shape[1] <= EXACT:
            alike = alike.astype(kind).astype(jnp.float32)
        return alike * clusters + order

    def nearest(centroids: Array) -> Bool[Array, "C L"]:
        near = nearness(centroids)
        if kind == jnp.float32:  # compared where they are; a place that is found first is a pass less over memory
            return near == near.max(0)
        return jnp.argmax(near, axis=0) == jnp.arange(clusters)[:, None]

    def step(centroids: Array, _: None) -> tuple[Array, None]:
        member = jnp.where(nearest(centroids) & mask, 1.0, 0.0).astype(kind)
        votes = product("cl,ln->cn", member, bits)
        count = member.sum(1, keepdims=True, dtype=jnp.float32)
        return jnp.where(count > 0, jnp.where(votes > 0, 1.0, -1.0).astype(kind), centroids), None

    centroids, _ = lax.scan(step, start, None, length=iterations - 1)
    return jnp.where(mask, jnp.argmax(nearness(centroids), axis=0), clusters)
