"""cosFormer: its weights, pair by pair; M is the model's length, not the batch's."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Values, causally, compare, cut, draw, join, texts, unmoved_by_padding

from lra_bench.kernels import prefix
from lra_bench.mixers.base import Dims
from lra_bench.mixers.cosformer import Config, Mixer

H, M = 2, 12
X, MASK = texts(11, 6)


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    q, k, v = (cut(part, H) for part in np.split(x @ p["qkv"], 3, axis=1))
    i, j = np.indices((len(x), len(x)))
    heads = []
    for h in range(H):
        weights = np.maximum(q[h], 0) @ np.maximum(k[h], 0).T * np.cos(np.pi / 2 * (i - j) / M) * mask
        heads.append(weights / np.maximum(weights.sum(1, keepdims=True), 1e-6) @ v[h])
    return join(heads) @ p["out"]


def test_equations_9_and_10() -> None:
    compare(draw(Mixer, Config(), Dims(6, H, 4, M)), by_hand, X, MASK)


@pytest.mark.parametrize("impl", ["xla", "batched"])
def test_the_causal_equation_by_chunks(impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "CHUNK", 4)
    compare(draw(Mixer, Config(impl=impl), Dims(6, H, 4, M, causal=True)), causally(by_hand), X, MASK)


def test_padding_changes_no_weight() -> None:
    unmoved_by_padding(draw(Mixer, Config(), Dims(6, H, 4, 20)), X)
