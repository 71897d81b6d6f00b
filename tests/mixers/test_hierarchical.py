"""Hierarchical attention: each pair of tokens at its own level, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import compare, heads
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.hierarchical import Config, Mixer


def level(i: int, j: int, block: int) -> int:
    """The lowest at which the blocks of i and j are neighbours or the same."""
    return next(n for n in range(20) if abs(i // (block << n) - j // (block << n)) <= 1)


@pytest.mark.parametrize("block", [2, 4])
def test_the_equation(block: int) -> None:
    def equation(mixer: Mixer, x: jax.Array, mask: jax.Array) -> jax.Array:
        L = len(x)

        def means(X: jax.Array, n: int) -> jax.Array:
            cells = jnp.arange(L) >> n
            same = (cells[:, None] == cells) & mask
            return same @ X / jnp.maximum(same.sum(1, keepdims=True), 1)

        at = np.array([[level(i, j, block) for j in range(L)] for i in range(L)])
        parts = []
        for q, k, v in zip(*(heads(x, w) for w in jnp.split(mixer.qkv[...], 3, axis=1)), strict=True):
            logits = sum(jnp.where(at == n, means(q, n) @ means(k, n).T / 2, 0) for n in range(at.max() + 1))
            weights = jnp.where(mask, jnp.exp(logits), 0)
            parts.append(weights / jnp.maximum(weights.sum(1, keepdims=True), 1e-30) @ v)
        return jnp.concatenate(parts, axis=1) @ mixer.out[...]

    compare(Mixer(Config(block), Dims(8, 2, 4, 22), rngs=nnx.Rngs(0)), equation, 21)


@pytest.mark.parametrize("block", [0, 3])
def test_wrong_knobs(block: int) -> None:
    with pytest.raises(ConfigError, match="block"):
        Config(block=block)
