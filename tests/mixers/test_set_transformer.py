"""Set Transformer: ISAB as it is written, and who tells whom."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from equations import Values, apply, attention, compare, cut, draw, join, layer_norm, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.set_transformer import Config, Mixer

H = 2
X, MASK = texts(11, 6)


def multihead(p: Values, name: str, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    k, v = (cut(y @ W, H) for W in p[f"{name}.kv"])
    return join(attention(cut(x @ p[f"{name}.q"], H), k, v, mask)) @ p[f"{name}.out"]


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    points = p["points"]
    a = points + multihead(p, "gather", points, x, mask)
    a = layer_norm(a, p["before_rff.scale"], p["before_rff.bias"])
    rff = np.maximum(a @ p["rff.kernel"] + p["rff.bias"], 0)
    h = layer_norm(a + rff, p["after_rff.scale"], p["after_rff.bias"])
    return multihead(p, "give", x, h, np.ones(len(h), bool))


def test_equations_9_and_10() -> None:
    compare(draw(Mixer, Config(points=4), Dims(6, H, 4, 12)), by_hand, X, MASK)


def test_the_order_of_the_tokens_does_not_matter() -> None:
    """A set: whoever is permuted, gets the same answer at the new place."""
    mixer = draw(Mixer, Config(points=4), Dims(6, H, 4, 11))
    order = np.random.default_rng(2).permutation(11)
    x, mask = np.asarray(X), np.asarray(MASK)
    y, z = jnp.split(apply(mixer, *(jnp.asarray(np.concatenate([a, a[:, order]])) for a in (x, mask))), 2)
    np.testing.assert_allclose(z, y[:, order], atol=1e-5)


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="points"):
        Config(points=0)
