"""cosFormer: its weights, pair by pair; M is the model's length, not the batch's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from compared import Values, apply, compare, cut, join
from flax import nnx

from lra_bench.mixers.base import Dims
from lra_bench.mixers.cosformer import Config, Mixer

H, M = 2, 12
X = jax.random.normal(jax.random.key(1), (3, 11, 6))
MASK = jnp.array([[1] * 11, [1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0], [0] * 11], bool)


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    q, k, v = (cut(part, H) for part in np.split(x @ p["qkv"], 3, axis=1))
    i, j = np.indices((len(x), len(x)))
    heads = []
    for h in range(H):
        weights = np.maximum(q[h], 0) @ np.maximum(k[h], 0).T * np.cos(np.pi / 2 * (i - j) / M) * mask
        heads.append(weights / np.maximum(weights.sum(1, keepdims=True), 1e-6) @ v[h])
    return join(heads) @ p["out"]


def test_equations_9_and_10() -> None:
    compare(Mixer(Config(), Dims(6, H, 4, M), rngs=nnx.Rngs(0)), by_hand, X, MASK)


def test_padding_changes_no_weight() -> None:
    mixer = Mixer(Config(), Dims(6, H, 4, M), rngs=nnx.Rngs(0))
    long, short = (
        apply(mixer, X, jnp.arange(11)[None] < jnp.full((3, 1), 7)),
        apply(mixer, X[:, :7], jnp.ones((3, 7), bool)),
    )
    np.testing.assert_allclose(long[:, :7], short, atol=1e-5)
