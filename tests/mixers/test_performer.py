"""Performer: phi written out; the features' distribution; what is drawn when."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import Equation, Values, causally, compare, cut, draw, join, texts

from lra_bench.errors import ConfigError
from lra_bench.kernels import prefix
from lra_bench.kernels.favor import causal_favor, favor, orthogonal_features
from lra_bench.mixers.base import Dims
from lra_bench.mixers.performer import Config, Mixer

H = 2
X, MASK = texts(11, 6)


def written_out(kernel: str) -> Equation:
    def phi(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        x = x / len(x) ** 0.25
        return np.maximum(w @ x, 0) + 1e-3 if kernel == "relu" else np.exp(w @ x - x @ x / 2) / np.sqrt(len(w))

    def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        q, k, v = (cut(part, H) for part in np.split(x @ p["qkv"], 3, axis=1))
        heads = []
        for h in range(H):
            weights = np.array([[phi(a, p["features"]) @ phi(b, p["features"]) for b in k[h][mask]] for a in q[h]])
            heads.append(weights / weights.sum(1, keepdims=True) @ v[h][mask])
        return join(heads) @ p["out"]

    return by_hand


@pytest.mark.parametrize("kernel", ["exp", "relu"])
def test_lemma_1(kernel: str) -> None:
    compare(draw(Mixer, Config(features=10, kernel=kernel), Dims(6, H, 4, 12)), written_out(kernel), X, MASK)


@pytest.mark.parametrize(("kernel", "impl"), [("exp", "xla"), ("exp", "batched"), ("relu", "xla")])
def test_the_causal_equation_by_chunks(kernel: str, impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "CHUNK", 4)
    mixer = draw(Mixer, Config(features=10, kernel=kernel, impl=impl), Dims(6, H, 4, 12, causal=True))
    compare(mixer, causally(written_out(kernel)), X, MASK)


@pytest.mark.parametrize("direction", [1, -1])
def test_causal_features_that_vanish(direction: int) -> None:
    """Queries and keys are so long that the largest feature of either is nothing to the other."""
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 1, 300, 4))
    w = orthogonal_features(jax.random.key(1), 20, 4)
    mask = jnp.arange(300)[None] >= 2
    y = jax.jit(causal_favor)(q + 60, k + 60 * direction, v, mask, w)
    np.testing.assert_allclose(y[:, :, -1:], favor(q[:, :, -1:] + 60, k + 60 * direction, v, mask, w), atol=1e-3)
    np.testing.assert_allclose(y[:, :, :3], v[:, :, :3] * mask[:, None, :3, None], atol=1e-3)


def test_the_features_are_orthogonal_in_blocks_and_gaussian() -> None:
    w = np.asarray(orthogonal_features(jax.random.key(0), 10, 4))
    for i in range(0, 10, 4):
        gram = w[i : i + 4] @ w[i : i + 4].T
        np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-5)
    many = np.asarray(orthogonal_features(jax.random.key(1), 20000, 4))
    np.testing.assert_allclose(many.mean(0), 0, atol=0.04)
    np.testing.assert_allclose(many.T @ many / len(many), np.eye(4), atol=0.05)
    np.testing.assert_allclose((many**4).mean(0), 3, rtol=0.1)  # a Gaussian's fourth moment


def test_what_is_drawn_when() -> None:
    """Anew in training where asked for, never at evaluation; and never left in the model."""
    for redraw in (False, True):
        mixer = draw(Mixer, Config(features=10, redraw=redraw), Dims(6, H, 4, 12))
        run = jax.jit(lambda key, mixer=mixer: mixer(X, MASK, key=key)[0])
        kept, a, b = (run(key) for key in (None, jax.random.key(1), jax.random.key(2)))
        assert [float(abs(y - z).max()) > 1e-3 for y, z in ((a, kept), (b, kept), (a, b))] == [redraw] * 3
        np.testing.assert_array_equal(run(None), kept)


@pytest.mark.parametrize(("options", "named"), [({"features": 0}, "features"), ({"kernel": "tanh"}, "kernel")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
