"""Rotary positions: what a mixer makes of them depends on the distance of two tokens, and on nothing else of places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, apply, compare, cut, draw, join, texts

from lra_bench import mixers
from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, MixerBase

CASES: list[tuple[str, dict[str, Any]]] = [
    ("softmax", {}),
    ("linear", {}),
    ("cosformer", {}),
    ("performer", {"kernel": "relu", "features": 6}),
    ("long-short", {"window": 8, "rank": 3}),
    ("local", {"window": 3}),
    ("hierarchical", {"block": 8}),
]
FEATURES = ("linear", "cosformer", "performer")
D, K = 8, 4


def made(name: str, options: dict[str, Any], length: int, *, rotary: bool = True) -> MixerBase:
    module = mixers.load(mixers.model_card(name).path)
    return draw(module.Mixer, module.Config(**options), Dims(D, 2, K, length, rotary=rotary))


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_text_that_is_moved_is_the_same_text(name: str, options: dict[str, Any]) -> None:
    x, (length, tokens, moved) = np.asarray(normal(1, 13, D)), (48, 13, 16)
    wide, there = np.zeros((2, length, D), np.float32), np.zeros((2, length), bool)
    for row, at in enumerate((0, moved)):
        wide[row, at : at + tokens], there[row, at : at + tokens] = x, True
    y = np.asarray(apply(made(name, options, length), wide, there))
    np.testing.assert_allclose(y[1, moved : moved + tokens], y[0, :tokens], atol=2e-5)
    plain = np.asarray(apply(made(name, options, length, rotary=False), wide, there))
    assert abs(plain[0, :tokens] - y[0, :tokens]).max() > 1e-3


def turned(x: np.ndarray) -> np.ndarray:
    """Entry i and entry i + K / 2 as one complex number, turned."""
    a, b = np.split(x, 2, axis=-1)
    angle = np.arange(x.shape[1])[:, None] * 10000.0 ** (-np.arange(0, x.shape[2], 2) / x.shape[2])
    z = (a + 1j * b) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], axis=-1)


def equation_19(name: str) -> Equation:
    """RoFormer's, arXiv 2104.09864: features are turned above the line of the fraction only."""

    def phi(p: Values, x: np.ndarray) -> np.ndarray:
        if name == "linear":
            return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
        if name == "performer":
            return np.maximum(x * K**-0.25 @ p["features"].T, 0) + 1e-3
        angle = np.pi / 2 / 13 * np.arange(x.shape[1])[:, None]
        return np.concatenate([np.maximum(x, 0) * f(angle) for f in (np.cos, np.sin)], axis=-1)

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        q, k, v = map(cut, np.split(x @ p["qkv"], 3, axis=-1))
        q, k = phi(p, q), phi(p, k)
        above, below = turned(q) @ turned(k).swapaxes(1, 2) * mask, q @ k.swapaxes(1, 2) * mask
        return join(above @ v / np.maximum(below.sum(-1, keepdims=True), 1e-6)) @ p["out"]

    return equation


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] in FEATURES])
def test_features_are_turned_in_the_numerator(name: str, options: dict[str, Any]) -> None:
    untrained = ["features"] if name == "performer" else []
    mixer = made(name, options, 13)
    compare(mixer, equation_19(name), *texts(13, D), untrained)


def test_an_odd_number_of_features_has_no_pairs() -> None:
    with pytest.raises(ConfigError, match="even"):
        made("performer", {"kernel": "relu", "features": 5}, 13)
