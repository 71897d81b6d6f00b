"""Compressive Transformer: which cells a segment sees, and whom the reconstruction loss trains."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import QUICK, attention, compare, heads, ragged
from flax import nnx
from jax import lax

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.compressive import Config, Mixer

S, C = 4, 2


def sinusoids(distance: np.ndarray, width: int) -> np.ndarray:
    angle = distance[..., None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


def compress(mixer: Mixer, x: jax.Array, mask: jax.Array) -> jax.Array:
    """f_c of whole cells."""
    cells, form = [], mixer.config.compression
    for n in range(0, len(x), C):
        some, there = x[n : n + C], mask[n : n + C, None]
        if form == "conv":
            cells.append(sum(some[t] * there[t] @ W for t, W in enumerate(jnp.split(mixer.compressor[...], C))))
        elif form == "mean":
            cells.append((some * there).sum(0) / jnp.maximum(there.sum(), 1))
        else:
            cells.append(jnp.where(there.any(), jnp.where(there, some, -jnp.inf).max(0), 0))
    return jnp.stack(cells) if cells else x[:0]


def full(mask: jax.Array) -> jax.Array:
    return mask.reshape(-1, C).any(1)


@pytest.mark.parametrize("form", ["conv", "mean", "max"])
def test_the_equation(form: str) -> None:
    """Of six segments the last one sees one of tokens, two of cells, and not the first two."""

    def equation(mixer: Mixer, x: jax.Array, mask: jax.Array) -> jax.Array:
        W_q, W_k, W_v = jnp.split(mixer.qkv[...], 3, axis=1)
        rows = []
        for begin in range(0, len(x), S):
            end, memory = min(len(x), begin + S), max(0, begin - S)
            oldest = max(0, memory - 2 * S)
            cells = compress(mixer, x[oldest:memory], mask[oldest:memory])
            h = jnp.concatenate([lax.stop_gradient(cells), lax.stop_gradient(x[memory:begin]), x[begin:end]])
            seen = jnp.concatenate([full(mask[oldest:memory]), mask[memory:end]])
            i, j = np.arange(len(h) - (end - begin), len(h))[:, None], np.arange(len(h))
            R = jnp.einsum("ijd,dk->ijk", sinusoids(i - j, x.shape[1]), mixer.relative[...])
            parts = []
            for n, (q, k, v) in enumerate(zip(heads(x[begin:end], W_q), heads(h, W_k), heads(h, W_v), strict=True)):
                r = jnp.split(R, 2, axis=-1)[n]
                bias = jnp.einsum("ik,ijk->ij", q + mixer.v[n], r) / 2 + mixer.u[n] @ k.T / 2
                parts.append(attention(q, k, v, jnp.broadcast_to(seen, bias.shape), bias))
            rows.append(jnp.concatenate(parts, axis=1))
        return jnp.concatenate(rows) @ mixer.out[...]

    compare(made(form), equation, 22)


def made(form: str = "conv") -> Mixer:
    config = Config(segment=S, memory=1, compressed=2, rate=C, compression=form)
    return Mixer(config, Dims(8, 2, 4, 24), rngs=nnx.Rngs(0))


def test_the_reconstruction_loss_trains_the_compressor_alone() -> None:
    x, mask = ragged(22)
    graph, params, rest = nnx.split(made(), nnx.Param, ...)

    def own(params: nnx.State, x: jax.Array) -> jax.Array:
        mixer = nnx.merge(graph, params, rest, copy=True)
        mixer(x, mask, key=jax.random.key(0))
        return mixer.reconstruction[...]

    def task(params: nnx.State) -> jax.Array:
        return jnp.square(nnx.merge(graph, params, rest, copy=True)(x, mask, key=None)).sum()

    value, (slopes, of_x) = jax.jit(jax.value_and_grad(own, (0, 1)), compiler_options=QUICK)(params, x)
    np.testing.assert_allclose(value, by_hand(nnx.merge(graph, params, rest, copy=True), x, mask), rtol=1e-5)
    assert slopes["compressor"][...].any()
    assert not any(slopes[name][...].any() for name in slopes if name != "compressor")
    assert not of_x.any()
    assert not jax.jit(jax.grad(task), compiler_options=QUICK)(params)["compressor"][...].any()


def by_hand(mixer: Mixer, x: jax.Array, mask: jax.Array) -> float:
    """The mean over tokens with an evicted past, of all texts, of how far attention to its cells is off, squared."""
    W_q, W_k, W_v = jnp.split(mixer.qkv[...], 3, axis=1)
    errors = []
    for text, there in zip(x, mask, strict=True):
        for begin in range(S, len(text), S):
            past, real, end = text[begin - S : begin], there[begin - S : begin], begin + S
            cells = compress(mixer, past, real)
            for q, W, V in zip(
                heads(text[begin:end], W_q), jnp.split(W_k, 2, axis=1), jnp.split(W_v, 2, axis=1), strict=True
            ):
                old = attention(q, past @ W, past @ V, real)
                new = attention(q, cells @ W, cells @ V, full(real))
                if real.any():
                    errors.extend(np.square(old - new)[np.asarray(there[begin:end])].ravel().tolist())
    return float(np.mean(errors))


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        ({"segment": 0}, "segment"),
        ({"memory": 0}, "memory"),
        ({"compressed": -1}, "compressed"),
        ({"segment": 8, "rate": 3}, "rate"),
        ({"compression": "dilated convolution"}, "compression"),
    ],
)
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
