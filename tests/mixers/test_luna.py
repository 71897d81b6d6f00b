"""Luna: pack and unpack as they are written, tied or not; padding is not packed."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Values, apply, attention, compare, cut, draw, join, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.luna import Config, Mixer

H = 2
X, MASK = texts(11, 6)


def multihead(p: Values, name: str, x: np.ndarray, context: np.ndarray, mask: np.ndarray) -> np.ndarray:
    kv = p[f"{name}.kv"]
    q, k, v = (cut(a @ w, H) for a, w in ((x, p[f"{name}.q"]), (context, kv[0]), (context, kv[-1])))
    return join(attention(q, k, v, mask)) @ p[f"{name}.out"]


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    packed = multihead(p, "pack", p["rows"], x, mask)
    return multihead(p, "unpack", x, packed, np.ones(len(packed), bool))


@pytest.mark.parametrize(("tied", "matrices"), [(True, 1), (False, 2)])
def test_equations_4_to_6(tied: bool, matrices: int) -> None:
    mixer = draw(Mixer, Config(packed=4, tied=tied), Dims(6, H, 4, 12))
    assert mixer.pack.kv.shape == mixer.unpack.kv.shape == (matrices, 6, 8)
    compare(mixer, by_hand, X, MASK)


def test_an_empty_text_packs_to_nothing() -> None:
    mixer = draw(Mixer, Config(packed=4), Dims(6, H, 4, 12))
    assert not apply(mixer, X, MASK)[3].any()


def test_wrong_knobs() -> None:
    with pytest.raises(ConfigError, match="packed"):
        Config(packed=0)
