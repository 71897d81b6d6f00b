"""Routing attention: algorithm 1 by loops, who is taken, and centroids that move in training only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.routing import Config, Mixer

L, DIMS = 21, Dims(8, 2, 4, 21)
MASK = jnp.stack([jnp.arange(L) < 17, jnp.arange(L) % 3 > 0])


def make(**knobs: float) -> Mixer:
    return Mixer(Config(**knobs), DIMS, rngs=nnx.Rngs(0))  # type: ignore[arg-type]


def texts() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, L, 8))


def run(mixer: Mixer, x: jax.Array, mask: jax.Array = MASK) -> jax.Array:
    return jax.jit(lambda x: mixer(x, mask, key=None))(x)


def norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    weights = np.exp(q @ k.T / np.sqrt(q.shape[1]))
    return weights / weights.sum(1, keepdims=True) @ v


def by_hand(mixer: Mixer, x: np.ndarray, mask: np.ndarray, near: int = 0) -> np.ndarray:
    """One text, head by head and centroid by centroid."""
    heads, tokens = [], np.flatnonzero(mask)
    Q, K, V = np.split(np.float64(x) @ np.float64(mixer.qkv[...]), 3, axis=-1)
    for h in range(2):
        q, k, v = (part[:, 4 * h : 4 * h + 4] for part in (Q, K, V))
        y, times = np.zeros_like(v), np.zeros((len(x), 1))
        if h < near:
            for i in tokens:
                seen = [j for j in tokens if abs(i - j) <= 3]
                y[i], times[i] = attended(q[i : i + 1], k[seen], v[seen])[0], 1
        else:
            q, k, centroids = norm(q), norm(k), np.float64(mixer.centroids[...][h - near])
            for mu in centroids:
                count = -(-len(x) // len(centroids))
                i, j = (sorted(tokens, key=lambda t, part=part: -part[t] @ mu)[:count] for part in (q, k))
                y[i] += attended(q[i], k[j], v[j])
                times[i] += 1
        heads.append(y / np.maximum(times, 1))
    return np.concatenate(heads, axis=1) @ np.float64(mixer.out[...])


@pytest.mark.parametrize("knobs", [{"clusters": 4}, {"clusters": 3, "near_heads": 1, "window": 3}])
def test_the_algorithm(knobs: dict) -> None:
    mixer, x = make(**knobs), texts()
    g = jax.random.normal(jax.random.key(2), x.shape) * MASK[..., None]
    y, pull = jax.vjp(lambda x: run(mixer, x), x)
    step, back = 1e-5 * np.asarray(jax.random.normal(jax.random.key(3), x.shape), np.float64), pull(g)[0]
    for row, mask in enumerate(np.asarray(MASK)):
        exact, more, less = (
            by_hand(mixer, np.float64(x[row]) + s * step[row], mask, knobs.get("near_heads", 0)) for s in (0, 1, -1)
        )
        np.testing.assert_allclose(y[row][mask], exact[mask], atol=1e-5)
        slope = ((more - less) * np.float64(g[row])).sum() / 2
        np.testing.assert_allclose((np.float64(back[row]) * step[row]).sum(), slope, rtol=1e-3, atol=1e-9)


def test_one_cluster_is_attention_among_normalised_queries_and_keys() -> None:
    mixer, x = make(clusters=1), texts()
    Q, K, V = np.split(np.float64(x[0, :17]) @ np.float64(mixer.qkv[...]), 3, axis=-1)
    parts = zip(*(np.split(part, 2, axis=1) for part in (Q, K, V)), strict=True)
    exact = np.concatenate([attended(norm(q), norm(k), v) for q, k, v in parts], axis=1)
    np.testing.assert_allclose(run(mixer, x)[0, :17], exact @ np.float64(mixer.out[...]), atol=1e-5)


def test_centroids_follow_their_members_in_training_only() -> None:
    mixer, x = make(clusters=4, decay=0.9, commitment=0.5), texts()
    old = np.asarray(mixer.centroids[...])
    mixer(x, MASK, key=None)
    np.testing.assert_array_equal(mixer.centroids[...], old)
    assert mixer.loss[...] == 0
    padded = jnp.where(MASK[..., None], x, 1e3)
    mixer(padded, MASK, key=jax.random.key(0))
    Q, K, _ = np.split(np.float64(x[MASK]) @ np.float64(mixer.qkv[...]), 3, axis=-1)
    squares = []
    for h in range(2):
        members = np.concatenate([norm(part[:, 4 * h : 4 * h + 4]) for part in (Q, K)])
        cluster = (members @ old[h].T).argmax(1)
        squares.append(np.square(members - old[h][cluster]).mean())
        for c in range(4):
            mean = members[cluster == c].mean(0) if (cluster == c).any() else old[h][c]
            np.testing.assert_allclose(mixer.centroids[...][h, c], 0.9 * old[h][c] + 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(mixer.loss[...], 0.5 * np.mean(squares), rtol=1e-5)


def test_the_commitment_reaches_the_projections() -> None:
    def loss(qkv: jax.Array, weight: float) -> jax.Array:
        mixer = make(clusters=4, commitment=weight)
        mixer.qkv[...] = qkv
        mixer(texts(), MASK, key=jax.random.key(0))
        return mixer.loss[...]

    slope = jax.jit(jax.grad(loss), static_argnums=1)
    joint = DIMS.heads * DIMS.head_width
    assert abs(slope(make().qkv[...], 1.0)[:, : 2 * joint]).max() > 1e-3
    assert not slope(make().qkv[...], 0.0).any()


def test_a_token_that_no_centroid_takes_gets_nothing() -> None:
    mixer = make(clusters=4)
    mixer.centroids[...] = jnp.broadcast_to(mixer.centroids[...][:, :1], mixer.centroids.shape)
    mixer.out[...] = jnp.eye(8)
    y = run(mixer, texts()).reshape(2, L, 2, 4)
    np.testing.assert_array_equal((abs(y).max(-1) > 0).sum(1), np.full((2, 2), 6))  # the same ceil(21 / 4) for all four


@pytest.mark.parametrize(
    "knobs", [{"clusters": -1}, {"decay": 1.5}, {"commitment": -1.0}, {"near_heads": 2}, {"window": 0}]
)
def test_wrong_knobs(knobs: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(knobs))):
        make(**knobs)
