"""Luna: pack and unpack as they are written, tied or not; padding is not packed."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Values, apply, attention, compare, cut, draw, join, layer_norm, texts, values
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.luna import Config, Mixer

H = 2
X, MASK = texts(11, 6)


def multihead(p: Values, name: str, x: np.ndarray, context: np.ndarray, mask: np.ndarray) -> np.ndarray:
    kv = p[f"{name}.kv"]
    q, k, v = (cut(a @ w, H) for a, w in ((x, p[f"{name}.q"]), (context, kv[0]), (context, kv[-1])))
    return join(attention(q, k, v, mask))


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    angle = np.arange(len(p["rows"]))[:, None] / 10000 ** (np.arange(0, 6, 2) / 6)
    places = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(-1, 6)
    rows = layer_norm(6**0.5 * p["rows"] + places, p["norm.scale"], p["norm.bias"])
    packed = multihead(p, "pack", rows, x, mask)
    return multihead(p, "unpack", x, packed, np.ones(len(packed), bool)) @ p["unpack.out"]


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
