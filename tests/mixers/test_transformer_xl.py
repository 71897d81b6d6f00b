"""Transformer-XL: segment by segment with a cache, as in the paper, and no gradient through it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import attention, compare, heads
from flax import nnx
from jax import lax

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.transformer_xl import Config, Mixer


def sinusoids(distance: np.ndarray, width: int) -> np.ndarray:
    angle = distance[..., None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


@pytest.mark.parametrize(("memory", "causal"), [(1, False), (2, True), (0, False)])
def test_the_equation(memory: int, causal: bool) -> None:
    s = 4

    def equation(mixer: Mixer, x: jax.Array, mask: jax.Array) -> jax.Array:
        W_q, W_k, W_v = jnp.split(mixer.qkv[...], 3, axis=1)
        rows = []
        for begin in range(0, len(x), s):
            first, end = max(0, begin - memory * s), min(len(x), begin + s)
            h = jnp.concatenate([lax.stop_gradient(x[first:begin]), x[begin:end]])
            i, j = np.arange(begin, end)[:, None], np.arange(first, end)
            seen = mask[first:end] & ((j <= i) if causal else True)
            R = jnp.einsum("ijd,dk->ijk", sinusoids(i - j, x.shape[1]), mixer.relative[...])
            parts = []
            for n, (q, k, v) in enumerate(zip(heads(x[begin:end], W_q), heads(h, W_k), heads(h, W_v), strict=True)):
                r = jnp.split(R, 2, axis=-1)[n]
                bias = jnp.einsum("ik,ijk->ij", q + mixer.v[n], r) / 2 + mixer.u[n] @ k.T / 2
                parts.append(attention(q, k, v, jnp.broadcast_to(seen, bias.shape), bias))
            rows.append(jnp.concatenate(parts, axis=1))
        return jnp.concatenate(rows) @ mixer.out[...]

    compare(Mixer(Config(s, memory, causal), Dims(8, 2, 4, 14), rngs=nnx.Rngs(0)), equation, 14)


def test_the_cache_is_read_and_passes_no_gradient() -> None:
    mixer = Mixer(Config(segment=4), Dims(8, 2, 4, 16), rngs=nnx.Rngs(0))
    x, mask = jax.random.normal(jax.random.key(0), (1, 12, 8)), jnp.ones((1, 12), bool)
    run = jax.jit(lambda x: mixer(x, mask, key=None)[0, 8:])
    slope = jax.grad(lambda x: run(x).sum())(x)[0]
    assert slope[8:].any()
    assert not slope[:8].any()
    assert (run(x.at[0, 4].add(1.0)) != run(x)).any()
    assert (run(x.at[0, 3].add(1.0)) == run(x)).all()  # beyond the cache


@pytest.mark.parametrize(("knobs", "named"), [({"segment": 0}, "segment"), ({"memory": -1}, "memory")])
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
