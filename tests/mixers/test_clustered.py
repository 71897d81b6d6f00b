"""Clustered attention: both forms by loops, on clusters found bit by bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.clustered import Config, Mixer

L = 41
MASK = jnp.stack([jnp.arange(L) < 37, jnp.arange(L) % 3 > 0])


def make(**knobs: float | bool) -> Mixer:
    return Mixer(Config(**({"clusters": 4, "bits": 12} | knobs)), Dims(8, 2, 4, L), rngs=nnx.Rngs(0))  # type: ignore[arg-type]


def texts() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, L, 8))


def run(mixer: Mixer, x: jax.Array, mask: jax.Array = MASK) -> jax.Array:
    return jax.jit(lambda x: mixer(x, mask, key=None))(x)


def clusters(mixer: Mixer, q: np.ndarray) -> np.ndarray:
    """K-means of the signs, of the queries that are there."""
    planes, C = np.float64(mixer.planes[...]), mixer.clusters
    bits = q @ planes[:-1] + planes[-1] > 0
    centroids = bits[np.arange(C) * len(q) // C]
    for left in range(mixer.iterations, 0, -1):
        member = np.array([np.argmin([(bit != centroid).sum() for centroid in centroids]) for bit in bits])
        for c in range(C) if left > 1 else ():
            if (member == c).any():
                centroids[c] = bits[member == c].mean(0) > 0.5
    return member


def by_hand(mixer: Mixer, x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """One text without padding, head by head and query by query; clusters and choice of keys are those of `like`."""
    heads = []
    Q, K, V = np.split(np.float64(x) @ np.float64(mixer.qkv[...]), 3, axis=-1)
    Q0, K0, _ = np.split(np.float64(like) @ np.float64(mixer.qkv[...]), 3, axis=-1)
    for h in range(2):
        q, k, v, q0, k0 = (part[:, 4 * h : 4 * h + 4] for part in (Q, K, V, Q0, K0))
        member, y = clusters(mixer, q0), np.zeros_like(v)
        for i, c in enumerate(member):
            weights = np.exp(q[member == c].mean(0) @ k.T / 2)
            weights /= weights.sum()
            if mixer.top:
                chosen = np.argsort(-(q0[member == c].mean(0) @ k0.T))[: mixer.top]
                anew = np.exp(q[i] @ k[chosen].T / 2)
                weights[chosen] = weights[chosen].sum() * anew / anew.sum()
            y[i] = weights @ v
        heads.append(y)
    return np.concatenate(heads, axis=1) @ np.float64(mixer.out[...])


@pytest.mark.parametrize("knobs", [{"improved": False}, {"top": 5}, {"top": 3, "iterations": 1}])
def test_the_equations(knobs: dict) -> None:
    mixer, x = make(**knobs), texts()
    g = jax.random.normal(jax.random.key(2), x.shape) * MASK[..., None]
    y, pull = jax.vjp(lambda x: run(mixer, x), x)
    step, back = 1e-5 * np.asarray(jax.random.normal(jax.random.key(3), x.shape), np.float64), pull(g)[0]
    for row, mask in enumerate(np.asarray(MASK)):
        there, moved = np.float64(x[row])[mask], step[row][mask]
        exact, more, less = (by_hand(mixer, there + s * moved, there) for s in (0, 1, -1))
        np.testing.assert_allclose(y[row][mask], exact, atol=1e-5)
        slope = ((more - less) * np.float64(g[row])[mask]).sum() / 2
        np.testing.assert_allclose((np.float64(back[row]) * step[row])[mask].sum(), slope, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(("improved", "different"), [(False, 4), (True, 37)])
def test_only_improved_queries_differ_from_their_cluster(improved: bool, different: int) -> None:
    mixer = make(improved=improved, top=5)
    mixer.out[...] = jnp.eye(8)
    head = np.round(run(mixer, texts())[0, :37, :4], 5)
    assert len(np.unique(head, axis=0)) == different


def test_appending_padding_changes_nothing() -> None:
    mixer, x = make(top=5), texts()
    short = run(mixer, x[:, :30], jnp.ones((2, 30), bool))
    np.testing.assert_allclose(run(mixer, x, (jnp.arange(L) < 30)[None].repeat(2, 0))[:, :30], short, atol=1e-5)


@pytest.mark.parametrize("knobs", [{"clusters": 0}, {"bits": 0}, {"iterations": 0}, {"top": 0}])
def test_wrong_knobs(knobs: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(knobs))):
        make(**knobs)
