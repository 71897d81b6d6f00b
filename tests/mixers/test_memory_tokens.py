"""Memory tokens: as so many more tokens in front of the text, whatever else is seen beside them."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Equation, Values, apply, attention, compare, cut, draw, join, texts, values

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.memory_tokens import Config, Mixer

H = 2
X, MASK = texts(11, 6)


def written_out(window: int, *, causal: bool = False) -> Equation:
    def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        m = len(p["memory"])
        q, k, v = (cut(part, H) for part in np.split(np.concatenate([p["memory"], x]) @ p["qkv"], 3, axis=1))
        i, j = np.indices((len(x), len(x)))
        near = mask & (abs(i - j) <= window) & ((j <= i) | (not causal))
        return join(attention(q[:, m:], k, v, np.concatenate([np.ones((len(x), m), bool), near], axis=1))) @ p["out"]

    return by_hand


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 3])
def test_the_equation(window: int | None, causal: bool) -> None:
    mixer = draw(Mixer, Config(tokens=3, window=window), Dims(6, H, 4, 12, causal=causal))
    compare(mixer, written_out(99 if window is None else window, causal=causal), X, MASK)


def test_a_text_without_tokens_reads_the_memory() -> None:
    mixer = draw(Mixer, Config(tokens=1), Dims(6, H, 4, 12))
    y, p = apply(mixer, X, MASK)[3], values(mixer)
    np.testing.assert_allclose(y, np.tile(p["memory"] @ p["qkv"][:, 16:] @ p["out"], (len(y), 1)), atol=1e-5)


@pytest.mark.parametrize(("options", "named"), [({"tokens": -1}, "tokens"), ({"window": 0}, "window")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
