"""Hierarchical attention: each pair of tokens at its own level, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Values, compare, cut, draw, join, softmax, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.hierarchical import Config, Mixer


def level(i: int, j: int, block: int) -> int:
    """The lowest at which the blocks of i and j are neighbors or the same."""
    return next(n for n in range(20) if abs(i // (block << n) - j // (block << n)) <= 1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block", [2, 4])
def test_the_equation(block: int, causal: bool) -> None:
    at = np.array([[level(i, j, block) for j in range(21)] for i in range(21)])

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        L = len(x)

        def means(X: np.ndarray, n: int) -> np.ndarray:
            cells = np.arange(L) >> n
            same = (cells[:, None] == cells) & mask
            return same @ X / np.maximum(same.sum(1, keepdims=True), 1)

        q, k, v = map(cut, np.split(x @ p["qkv"], 3, axis=1))
        levels = range(at.max() + 1)
        asked = [q if causal else means(q, n) for n in levels]
        logits = sum(np.where(at == n, asked[n] @ means(k, n).swapaxes(1, 2) / 2, 0) for n in levels)
        return join(softmax(np.asarray(logits), mask & (np.tri(L, dtype=bool) | (not causal))) @ v) @ p["out"]

    compare(draw(Mixer, Config(block), Dims(8, 2, 4, 22, causal=causal)), equation, *texts(21, 8))


@pytest.mark.parametrize("block", [0, 3])
def test_wrong_options(block: int) -> None:
    with pytest.raises(ConfigError, match="block"):
        Config(block=block)
