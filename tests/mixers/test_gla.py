"""Gated linear attention: both readings as one token after another, each with its own gates."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from equations import Values, apply, compare, draw, sigmoid, silu, texts, unmoved_by_padding

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.gla import Config, Mixer

H, K, V = 2, 2, 4
TAU = 3.0


def plain(p: Values, x: np.ndarray, mask: np.ndarray, readings: int = 2) -> np.ndarray:
    q, k, v, r = np.split(x @ p["qkvr"], np.cumsum([H * K, H * K, H * V]), axis=1)
    gates = sigmoid(x @ p["down"] @ p["up.kernel"] + p["up.bias"]) ** (1 / TAU)
    rows = []
    for h in range(H):
        keys, values = slice(h * K, h * K + K), slice(h * V, h * V + V)
        o = np.zeros((len(x), V))
        for direction, order in enumerate((range(len(x)), reversed(range(len(x))))[:readings]):
            a = gates[:, direction * H * K :][:, keys]
            S = np.zeros((K, V))
            for t in order:
                if mask[t]:
                    S = a[t][:, None] * S + np.outer(k[t, keys], v[t, values])
                o[t] += S.T @ q[t, keys] * K**-0.5
        spread = np.sqrt(o.var(1, keepdims=True) + 1e-6)
        rows.append((o - o.mean(1, keepdims=True)) / spread * p["norm.scale"] + p["norm.bias"])
    return (silu(r + p["bias"]) * np.concatenate(rows, axis=1)) @ p["out"]


def test_the_equations() -> None:
    compare(draw(Mixer, Config(rank=3, temper=TAU), Dims(6, H, V, 13)), plain, *texts(13, 6))


@pytest.mark.parametrize("impl", ["xla", "batched"])
def test_the_causal_equation_is_one_reading(impl: str) -> None:
    """19 tokens are two chunks."""
    mixer = draw(Mixer, Config(rank=3, temper=TAU, impl=impl), Dims(6, H, V, 19, causal=True))
    assert mixer.up.kernel.shape == (3, H * K)
    compare(mixer, partial(plain, readings=1), *texts(19, 6))


def test_padding_is_read_by_neither_reading_and_does_not_fade_the_memory() -> None:
    mixer = draw(Mixer, Config(), Dims(6, H, V, 40))
    x = texts(13, 6)[0]
    unmoved_by_padding(mixer, x, before=5)
    holes = np.arange(13) % 3 != 1
    short = apply(mixer, x[:, holes], np.ones((len(x), holes.sum()), bool))
    np.testing.assert_allclose(apply(mixer, x, np.tile(holes, (len(x), 1)))[:, holes], short, atol=1e-5)


@pytest.mark.parametrize(("options", "named"), [({"rank": 0}, "rank"), ({"temper": 0.0}, "temper")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
