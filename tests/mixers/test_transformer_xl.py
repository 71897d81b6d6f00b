"""Transformer-XL: segment by segment with a cache, as in the paper, and no gradient through it."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Values, attention, compare, cut, draw, join, pulled, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.transformer_xl import Config, Mixer

DIMS = Dims(8, 2, 4, 14)


def relative(p: Values, distance: np.ndarray) -> np.ndarray:
    """Sinusoids of [i, j], projected: [H, i, j, K]."""
    D, both = p["relative"].shape
    angle = distance[..., None] / 10000 ** (np.arange(0, D, 2) / D)
    r = np.concatenate([np.sin(angle), np.cos(angle)], axis=-1) @ p["relative"]
    return np.moveaxis(r.reshape(*distance.shape, 2, both // 2), 2, 0)


@pytest.mark.parametrize(
    ("memory", "causal", "by_option"), [(1, False, False), (2, True, True), (0, False, False), (1, True, False)]
)
def test_the_equation(memory: int, causal: bool, by_option: bool) -> None:
    s = 4

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        W_q, W_k, W_v = np.split(p["qkv"], 3, axis=1)
        rows = []
        for begin in range(0, len(x), s):
            first, end = max(0, begin - memory * s), min(len(x), begin + s)
            h = np.concatenate([p["fixed"][first:begin], x[begin:end]])
            i, j = np.arange(begin, end)[:, None], np.arange(first, end)
            q, k, v, r = cut(x[begin:end] @ W_q), cut(h @ W_k), cut(h @ W_v), relative(p, i - j)
            bias = np.einsum("hik,hijk->hij", q + p["v"][:, None], r) + np.einsum("hk,hjk->hj", p["u"], k)[:, None]
            rows.append(join(attention(q, k, v, mask[first:end] & ((j <= i) | (not causal)), bias / 2)))
        return np.concatenate(rows) @ p["out"]

    dims = replace(DIMS, causal=causal and not by_option)
    compare(draw(Mixer, Config(s, memory, by_option), dims), equation, *texts(14, 8))


def test_the_cache_is_read_and_passes_no_gradient() -> None:
    mixer = draw(Mixer, Config(segment=4), Dims(8, 2, 4, 16))
    x, mask = np.asarray(normal(1, 12, 8)).repeat(3, axis=0), np.ones((3, 12), bool)
    x[1, 4] += 1
    x[2, 3] += 1  # beyond the cache
    g = np.zeros(x.shape)
    g[0, 8:] = 1
    y, slopes = pulled(mixer, jnp.asarray(x), jnp.asarray(mask), g)
    assert slopes["x"][0, 8:].any()
    assert not slopes["x"][0, :8].any()
    assert (y[1, 8:] != y[0, 8:]).any()
    assert (y[2, 8:] == y[0, 8:]).all()


@pytest.mark.parametrize(("options", "named"), [({"segment": 0}, "segment"), ({"memory": -1}, "memory")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
