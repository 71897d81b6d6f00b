"""Routing attention: algorithm 1 by loops, who is taken, and centroids that move in training only."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, apply, attention, compare, cut, draw, join
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.routing import Config, Mixer

L, DIMS = 21, Dims(8, 2, 4, 21)
X = normal(2, L, 8, seed=1)
MASK = jnp.asarray(np.stack([np.arange(L) < 17, np.arange(L) % 3 > 0]))


def make(**options: float) -> Mixer:
    return draw(Mixer, Config(**{"near_heads": 0, **options}), DIMS)  # type: ignore[arg-type]


def norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def written_out(near: int = 0) -> Equation:
    """Head by head and centroid by centroid."""

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        heads, tokens = [], np.flatnonzero(mask)
        for h, (q, k, v) in enumerate(zip(*map(cut, np.split(x @ p["qkv"], 3, axis=-1)), strict=True)):
            y, times = np.zeros_like(v), np.zeros((len(x), 1))
            if h < near:
                i, j = np.indices((len(x), len(x)))
                y, times = attention(q, k, v, mask & (abs(i - j) <= 3)), times + 1
            else:
                q, k, centroids = norm(q), norm(k), p["centroids"][h - near]
                for mu in centroids:
                    count = -(-len(x) // len(centroids))
                    i, j = (sorted(tokens, key=lambda t, part=part: -part[t] @ mu)[:count] for part in (q, k))
                    y[i] += attention(q[i], k[j], v[j], np.ones(len(j), bool))
                    times[i] += 1
            heads.append(y / np.maximum(times, 1))
        return join(heads) @ p["out"]

    return equation


@pytest.mark.parametrize("options", [{"clusters": 4}, {"clusters": 3, "near_heads": 1, "window": 3}])
def test_the_algorithm(options: dict) -> None:
    compare(make(**options), written_out(options.get("near_heads", 0)), X, MASK)


@pytest.mark.parametrize("near", [0, 1])
def test_the_causal_equation(near: int) -> None:
    """A token's cluster up to itself, of that the latest ceil(21 / 4); its key is its query where heads route."""

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        Q, K, V = np.split(x @ p["qkv"], [8, 8 + 4 * near], axis=1)
        q, v, heads = cut(Q), cut(V), []
        i, j = np.indices((len(x), len(x)))
        if near:
            heads.append(attention(q[0], K, v[0], mask & (j <= i) & (i - j <= 3)))
        for h in range(near, 2):
            key = norm(q[h])
            cluster = np.argmax(key @ p["centroids"][h - near].T, axis=1)
            seen = np.zeros((len(x), len(x)), bool)
            for t in np.flatnonzero(mask):
                seen[t, [s for s in range(t + 1) if mask[s] and cluster[s] == cluster[t]][-6:]] = True
            heads.append(attention(key, key, v[h], seen))
        return join(heads) @ p["out"]

    mixer = draw(Mixer, Config(clusters=4, near_heads=near, window=3), replace(DIMS, causal=True))
    compare(mixer, equation, X, MASK)


def test_one_cluster_is_attention_among_normalized_queries_and_keys() -> None:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        q, k, v = map(cut, np.split(x @ p["qkv"], 3, axis=-1))
        return join(attention(norm(q), norm(k), v, mask)) @ p["out"]

    compare(make(clusters=1), equation, X, MASK)


def test_centroids_follow_their_members_in_training_only() -> None:
    graph, state = nnx.split(make(clusters=4, decay=0.9, commitment=0.5))

    @jax.jit
    def after(x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        mixer = nnx.merge(graph, state, copy=True)
        mixer(x, MASK, key=key)
        return mixer.centroids[...], mixer.loss[...]

    old = np.asarray(state["centroids"][...])
    kept, loss = after(X, None)
    np.testing.assert_array_equal(kept, old)
    assert loss == 0
    moved, loss = after(jnp.where(MASK[..., None], X, 1e3), jax.random.key(0))
    Q, K, _ = np.split(np.float64(X[MASK]) @ np.float64(state["qkv"][...]), 3, axis=-1)
    squares = []
    for h, members in enumerate(np.concatenate([norm(cut(part)) for part in (Q, K)], axis=1)):
        cluster = (members @ old[h].T).argmax(1)
        squares.append(np.square(members - old[h][cluster]).mean())
        for c in range(4):
            mean = members[cluster == c].mean(0) if (cluster == c).any() else old[h][c]
            np.testing.assert_allclose(moved[h, c], 0.9 * old[h][c] + 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(loss, 0.5 * np.mean(squares), rtol=1e-5)


def test_the_commitment_reaches_the_projections() -> None:
    def loss(qkv: jax.Array, weight: float) -> jax.Array:
        mixer = make(clusters=4, commitment=weight)
        mixer.qkv[...] = qkv
        mixer(X, MASK, key=jax.random.key(0))
        return mixer.loss[...]

    slope = jax.jit(jax.grad(loss), static_argnums=1)
    qkv = make().qkv[...]
    assert abs(slope(qkv, 1.0)[:, : 2 * DIMS.heads * DIMS.head_width]).max() > 1e-3
    assert not slope(qkv, 0.0).any()


def test_a_token_that_no_centroid_takes_gets_nothing() -> None:
    mixer = make(clusters=4)
    mixer.centroids[...] = jnp.asarray(np.asarray(mixer.centroids[...])[:, :1].repeat(4, axis=1))
    mixer.out[...] = jnp.eye(8)
    y = np.asarray(apply(mixer, X, MASK)).reshape(2, L, 2, 4)
    np.testing.assert_array_equal((abs(y).max(-1) > 0).sum(1), np.full((2, 2), 6))  # the same ceil(21 / 4) for all four


@pytest.mark.parametrize(
    "options", [{"clusters": -1}, {"decay": 1.5}, {"commitment": -1.0}, {"near_heads": 2}, {"window": 0}]
)
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make(**options)
