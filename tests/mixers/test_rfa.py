"""RFA: phi written out; more features come nearer to the kernel that they estimate; what is drawn when."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import Values, apply, compare, cut, draw, join, sigmoid, texts, values

from lra_bench.errors import ConfigError
from lra_bench.kernels import prefix
from lra_bench.mixers.base import Dims
from lra_bench.mixers.rfa import Config, Mixer

H = 2
X, MASK = texts(11, 6)


def phi(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    angle = w @ (x / np.linalg.norm(x))
    return np.concatenate([np.sin(angle), np.cos(angle)]) / np.sqrt(len(w))


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray, exact: bool = False) -> np.ndarray:
    """With the features, or with the kernel that they estimate: a Gaussian of the distance, stretched by sigma."""
    q, k, v = (cut(part, H) for part in np.split(x @ p["qkv"], 3, axis=1))
    heads = []
    for h in range(H):
        w, sigma = p["features"][h] * p["sigma"][h], p["sigma"][h]
        weights = np.array([[phi(a, w) @ phi(b, w) for b in k[h][mask]] for a in q[h]])
        if exact:
            near = lambda a, b: sigma * (a / np.linalg.norm(a) - b / np.linalg.norm(b))  # noqa: B023, E731
            weights = np.array([[np.exp(-near(a, b) @ near(a, b) / 2) for b in k[h][mask]] for a in q[h]])
        heads.append(weights / np.maximum(weights.sum(1, keepdims=True), 0.01) @ v[h][mask])
    return join(heads) @ p["out"]


def make(features: int, redraw: bool = False, impl: str = "auto", causal: bool = False) -> Mixer:
    mixer = draw(Mixer, Config(features, redraw, impl=impl), Dims(6, H, 4, 12, causal=causal))
    mixer.sigma[...] = jnp.asarray(np.linspace(0.5, 1, 8).reshape(H, 4), jnp.float32)
    return mixer


def test_equations_3_and_5() -> None:
    compare(make(64), by_hand, X, MASK)


def gated(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """RFA-Gate, one token after another."""
    q, k, v = (cut(part, H) for part in np.split(x @ p["qkv"], 3, axis=1))
    g = sigmoid(x @ p["gate.kernel"] + p["gate.bias"])
    heads = np.zeros(v.shape)
    for h in range(H):
        w, S, z = p["features"][h] * p["sigma"][h], 0.0, 0.0
        for t in np.flatnonzero(mask):
            key, query = phi(k[h, t], w), phi(q[h, t], w)
            S = g[t, h] * S + (1 - g[t, h]) * np.outer(key, v[h, t])
            z = g[t, h] * z + (1 - g[t, h]) * key
            heads[h, t] = query @ S / max(query @ z, 0.01)
    return join(heads) @ p["out"]


@pytest.mark.parametrize("impl", ["xla", "batched"])
def test_the_causal_equation_has_gates(impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "CHUNK", 4)
    compare(make(64, impl=impl, causal=True), gated, X, MASK)


def test_more_features_come_nearer_to_the_kernel() -> None:
    """At sigma = 1 that kernel is softmax attention's, of unit queries and keys, without a scale."""
    errors = []
    for m in (16, 512, 16384):
        mixer = make(m)
        arrays = values(mixer)
        arrays["features"] = arrays["features"][:, :1]
        exact = by_hand(arrays, np.float64(X[0]), np.ones(11, bool), exact=True)
        errors.append(abs(apply(mixer, X[:1], MASK[:1])[0] - exact).max() / abs(exact).max())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02


def test_what_is_drawn_when() -> None:
    for redraw in (False, True):
        mixer = make(8, redraw)
        run = jax.jit(lambda key, mixer=mixer: mixer(X, MASK, key=key)[0])
        kept, a, b = (run(key) for key in (None, jax.random.key(1), jax.random.key(2)))
        assert [float(abs(y - z).max()) > 1e-3 for y, z in ((a, kept), (b, kept), (a, b))] == [redraw] * 3


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="features"):
        Config(features=0)
