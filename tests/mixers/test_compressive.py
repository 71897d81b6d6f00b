"""Compressive Transformer: which cells a segment sees, and whom the reconstruction loss trains."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from equations import Values, attention, compare, cut, draw, join, texts, values
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.compressive import Config, Mixer

S, C = 4, 2


def relative(p: Values, distance: np.ndarray) -> np.ndarray:
    """Sinusoids of [i, j], projected: [H, i, j, K]."""
    D, both = p["relative"].shape
    angle = distance[..., None] / 10000 ** (np.arange(0, D, 2) / D)
    r = np.concatenate([np.sin(angle), np.cos(angle)], axis=-1) @ p["relative"]
    return np.moveaxis(r.reshape(*distance.shape, 2, both // 2), 2, 0)


def compress(p: Values, form: str, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """f_c of whole cells."""
    cells = []
    for n in range(0, len(x), C):
        some, there = x[n : n + C], mask[n : n + C]
        if form == "conv":
            cells.append(sum(some[t] * there[t] @ W for t, W in enumerate(np.split(p["compressor"], C))))
        elif not there.any():
            cells.append(np.zeros_like(x[0]))
        else:
            cells.append(some[there].mean(0) if form == "mean" else some[there].max(0))
    return np.stack(cells) if cells else x[:0]


def full(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, C).any(1)


@pytest.mark.parametrize(("form", "causal"), [("conv", False), ("mean", False), ("max", False), ("conv", True)])
def test_the_equation(form: str, causal: bool) -> None:
    """Of six segments the last one sees one of tokens, two of cells, and not the first two."""

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        W_q, W_k, W_v = np.split(p["qkv"], 3, axis=1)
        rows, past = [], p["fixed"]
        for begin in range(0, len(x), S):
            end, memory = min(len(x), begin + S), max(0, begin - S)
            oldest = max(0, memory - 2 * S)
            cells = compress(p, form, past[oldest:memory], mask[oldest:memory])
            h = np.concatenate([cells, past[memory:begin], x[begin:end]])
            seen = np.concatenate([full(mask[oldest:memory]), mask[memory:end]])
            i, j = np.arange(len(h) - (end - begin), len(h))[:, None], np.arange(len(h))
            q, k, v, r = cut(x[begin:end] @ W_q), cut(h @ W_k), cut(h @ W_v), relative(p, i - j)
            bias = np.einsum("hik,hijk->hij", q + p["v"][:, None], r) + np.einsum("hk,hjk->hj", p["u"], k)[:, None]
            rows.append(join(attention(q, k, v, seen & ((j <= i) | (not causal)), bias / 2)))
        return np.concatenate(rows) @ p["out"]

    compare(made(form, causal), equation, *texts(22, 8), untrained={"compressor"})


def made(form: str = "conv", causal: bool = False) -> Mixer:
    config = Config(segment=S, memory=1, compressed=2, rate=C, compression=form)
    return draw(Mixer, config, Dims(8, 2, 4, 24, causal=causal))


def test_the_reconstruction_loss_trains_the_compressor_alone() -> None:
    """Which the task does not: see above."""
    x, mask = texts(22, 8)
    graph, params, rest = nnx.split(made(), nnx.Param, ...)

    def own(params: nnx.State, x: jax.Array) -> jax.Array:
        mixer = nnx.merge(graph, params, rest, copy=True)
        mixer(x, mask, key=jax.random.key(0))
        return mixer.reconstruction[...]

    value, (slopes, of_x) = jax.jit(jax.value_and_grad(own, (0, 1)))(params, x)
    np.testing.assert_allclose(value, by_hand(values(made()), np.float64(x), np.asarray(mask)), rtol=1e-5)
    assert slopes["compressor"][...].any()
    assert not any(slopes[name][...].any() for name in slopes if name != "compressor")
    assert not of_x.any()


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> float:
    """The mean over tokens with an evicted past, of all texts, of how far attention to its cells is off, squared."""
    W_q, W_k, W_v = np.split(p["qkv"], 3, axis=1)
    errors = []
    for text, there in zip(x, mask, strict=True):
        for begin in range(S, len(text), S):
            past, real = text[begin - S : begin], there[begin - S : begin]
            q, cells = cut(text[begin : begin + S] @ W_q), compress(p, "conv", past, real)
            old = attention(q, cut(past @ W_k), cut(past @ W_v), real)
            new = attention(q, cut(cells @ W_k), cut(cells @ W_v), full(real))
            if real.any():
                errors.append(np.square(old - new)[:, there[begin : begin + S]].ravel())
    return float(np.concatenate(errors).mean())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"segment": 0}, "segment"),
        ({"memory": 0}, "memory"),
        ({"compressed": -1}, "compressed"),
        ({"segment": 8, "rate": 3}, "rate"),
        ({"compression": "dilated convolution"}, "compression"),
    ],
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
