"""Set Transformer: ISAB as it is written, and who tells whom."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compared import Values, apply, compare, cut, join, layer_norm, softmax
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.set_transformer import Config, Mixer

H = 2
X = jax.random.normal(jax.random.key(1), (3, 11, 6))
MASK = jnp.array([[1] * 11, [1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0], [0] * 11], bool)


def multihead(p: Values, name: str, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    k, v = (cut(y @ W, H) for W in p[f"{name}.kv"])
    q = cut(x @ p[f"{name}.q"], H)
    heads = [softmax(q[h] @ k[h].T / np.sqrt(q.shape[-1]), mask) @ v[h] for h in range(H)]
    return join(heads) @ p[f"{name}.out"]


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    points = p["points"]
    a = points + multihead(p, "gather", points, x, mask)
    a = layer_norm(a, p["before_rff.scale"], p["before_rff.bias"])
    rff = np.maximum(a @ p["rff.kernel"] + p["rff.bias"], 0)
    h = layer_norm(a + rff, p["after_rff.scale"], p["after_rff.bias"])
    return multihead(p, "give", x, h, np.ones(len(h), bool))


def test_equations_9_and_10() -> None:
    compare(Mixer(Config(points=4), Dims(6, H, 4, 12), rngs=nnx.Rngs(0)), by_hand, X, MASK)


def test_the_order_of_the_tokens_does_not_matter() -> None:
    """A set: whoever is permuted, gets the same answer at the new place."""
    mixer = Mixer(Config(points=4), Dims(6, H, 4, 11), rngs=nnx.Rngs(0))
    order = jax.random.permutation(jax.random.key(2), 11)
    y, z = (apply(mixer, x, mask) for x, mask in ((X, MASK), (X[:, order], MASK[:, order])))
    np.testing.assert_allclose(z, y[:, order], atol=1e-5)


def test_wrong_knobs() -> None:
    with pytest.raises(ConfigError, match="points"):
        Config(points=0)
