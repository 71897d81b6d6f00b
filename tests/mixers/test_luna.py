"""Luna: pack and unpack as they are written, tied or not; padding is not packed."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Values, apply, attention, compare, cut, draw, join, layer_norm, pulled, softmax, texts, values
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.kernels import prefix
from lra_bench.mixers.base import Dims
from lra_bench.mixers.luna import Config, Mixer

H = 2
X, MASK = texts(11, 6)


def multihead(p: Values, name: str, x: np.ndarray, context: np.ndarray, mask: np.ndarray) -> np.ndarray:
    kv = p[f"{name}.kv"]
    q, k, v = (cut(a @ w, H) for a, w in ((x, p[f"{name}.q"]), (context, kv[0]), (context, kv[-1])))
    return join(attention(q, k, v, mask))


def asked(p: Values) -> np.ndarray:
    angle = np.arange(len(p["rows"]))[:, None] / 10000 ** (np.arange(0, 6, 2) / 6)
    places = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(-1, 6)
    return layer_norm(6**0.5 * p["rows"] + places, p["norm.scale"], p["norm.bias"])


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    packed = multihead(p, "pack", asked(p), x, mask)
    return multihead(p, "unpack", x, packed, np.ones(len(packed), bool)) @ p["unpack.out"]


def causal_by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Section 3.3 as running sums, one token after another: rows packed for keys, and rows packed for values."""
    rows = cut(asked(p) @ p["pack.q"], H) / 4**0.5
    kv = p["unpack.kv"]
    c, q, k, v = (cut(x @ w, H) for w in (p["pack.kv"][0], p["unpack.q"], kv[0], kv[-1]))
    heads = np.zeros(v.shape)
    for h in range(H):
        keys = values = 0.0
        for count, t in enumerate(np.flatnonzero(mask), 1):
            score = rows[h] @ c[h, t]
            a = np.where(score > 0, score + 1, np.exp(np.minimum(score, 0)))
            keys, values = keys + np.outer(a, k[h, t]), values + np.outer(a, v[h, t])
            heads[h, t] = softmax(keys @ q[h, t] / 4**0.5 / count, np.ones(len(a), bool)) @ values / count
    return join(heads) @ p["unpack.out"]


@pytest.mark.parametrize(("tied", "impl"), [(True, "xla"), (False, "xla"), (False, "batched")])
def test_the_causal_equation_by_chunks(tied: bool, impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "CHUNK", 4)
    mixer = draw(Mixer, Config(packed=5, tied=tied, impl=impl), Dims(6, H, 4, 12, causal=True))
    assert [mixer.pack.kv.shape, mixer.unpack.kv.shape] == [(1, 6, 8), (1 if tied else 2, 6, 8)]
    compare(mixer, causal_by_hand, X, MASK)


def test_scores_that_are_as_large_as_rounding_makes_them_differ() -> None:
    """Scores of 1e12 are 65,536 apart: the largest, computed once more, must not come out above itself."""
    mixer = draw(Mixer, Config(packed=5), Dims(6, H, 4, 16, causal=True))
    x, mask = 1e4 * normal(2, 16, 6, seed=2), jnp.asarray(np.arange(16) < np.array([[16], [12]]))
    y, slopes = pulled(mixer, x, mask, normal(2, 16, 6, seed=3))
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    for text, real in enumerate(np.asarray(mask)):
        exact = causal_by_hand(values(mixer), np.float64(x[text]), real)
        np.testing.assert_allclose(y[text, real], exact[real], atol=1e-3 * abs(exact).max())


@pytest.mark.parametrize(("tied", "matrices"), [(True, 1), (False, 2)])
def test_equations_4_to_6(tied: bool, matrices: int) -> None:
    mixer = draw(Mixer, Config(packed=4, tied=tied), Dims(6, H, 4, 12))
    assert mixer.pack.kv.shape == (matrices, 6, 8)
    assert mixer.unpack.kv.shape == (matrices, 8, 8)
    compare(mixer, by_hand, X, MASK)


def test_the_rows_begin_with_questions_of_their_own() -> None:
    """Rows of N(0, 1 / D), unnormalized, all ask the same: of the outputs 1e-5 would differ from token to token."""
    mixer = Mixer(Config(packed=64), Dims(64, 2, 32, 128), rngs=nnx.Rngs(0))
    x = normal(1, 128, 64, seed=3)
    y = apply(mixer, x, jnp.ones((1, 128), bool))[0]
    assert np.square(y - y.mean(0)).mean() > 3e-3 * np.square(y).mean()
    assert [name for name in values(mixer) if name.endswith("out")] == ["unpack.out"]


def test_an_empty_text_packs_to_nothing() -> None:
    mixer = draw(Mixer, Config(packed=4), Dims(6, H, 4, 12))
    assert not apply(mixer, X, MASK)[3].any()


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="packed"):
        Config(packed=0)
