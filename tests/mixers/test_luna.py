"""Luna: pack and unpack as they are written, tied or not; padding is not packed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compared import Values, apply, compare, cut, join, softmax
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.luna import Config, Mixer

H = 2
X = jax.random.normal(jax.random.key(1), (3, 11, 6))
MASK = jnp.array([[1] * 11, [1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0], [0] * 11], bool)


def attention(p: Values, name: str, x: np.ndarray, context: np.ndarray, mask: np.ndarray) -> np.ndarray:
    kv = p[f"{name}.kv"]
    q, k, v = (cut(a @ w, H) for a, w in ((x, p[f"{name}.q"]), (context, kv[0]), (context, kv[-1])))
    heads = [softmax(q[h] @ k[h].T / np.sqrt(q.shape[-1]), mask) @ v[h] for h in range(H)]
    return join(heads) @ p[f"{name}.out"]


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    packed = attention(p, "pack", p["rows"], x, mask)
    return attention(p, "unpack", x, packed, np.ones(len(packed), bool))


@pytest.mark.parametrize(("tied", "matrices"), [(True, 1), (False, 2)])
def test_equations_4_to_6(tied: bool, matrices: int) -> None:
    mixer = Mixer(Config(packed=4, tied=tied), Dims(6, H, 4, 12), rngs=nnx.Rngs(0))
    assert mixer.pack.kv.shape == mixer.unpack.kv.shape == (matrices, 6, 8)
    compare(mixer, by_hand, X, MASK)


def test_an_empty_text_packs_to_nothing() -> None:
    mixer = Mixer(Config(packed=4), Dims(6, H, 4, 12), rngs=nnx.Rngs(0))
    assert not apply(mixer, X, MASK)[2].any()


def test_wrong_knobs() -> None:
    with pytest.raises(ConfigError, match="packed"):
        Config(packed=0)
