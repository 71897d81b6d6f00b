"""Linear attention: its two equations agree, and padding, which LRA's ignored, is in neither sum."""

from __future__ import annotations

import numpy as np
from equations import Values, causally, compare, draw, texts

from lra_bench.mixers.base import Dims
from lra_bench.mixers.linear import Config, Mixer


def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    q, k, v = np.split(x @ p["qkv"], 3, axis=-1)
    phi = lambda x: np.where(x > 0, x + 1, np.exp(x))  # noqa: E731
    weights = phi(q) @ phi(k).T * mask
    return weights / weights.sum(1, keepdims=True) @ v @ p["out"]


def test_the_equation_over_the_tokens_that_are_there() -> None:
    compare(draw(Mixer, Config(), Dims(8, 1, 8, 12)), equation, *texts(12, 8))


def test_the_causal_equation_over_chunks() -> None:
    compare(draw(Mixer, Config(), Dims(8, 1, 8, 150, causal=True)), causally(equation), *texts(150, 8))
