"""Funnel: queries are means of true neighbours, keys are not pooled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from equations import attention, compare, heads
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.funnel import Config, Mixer


@pytest.mark.parametrize("pool", [2, 3])
def test_the_equation(pool: int) -> None:
    def equation(mixer: Mixer, x: jax.Array, mask: jax.Array) -> jax.Array:
        Q, K, V = (heads(x, w) for w in jnp.split(mixer.qkv[...], 3, axis=1))
        group = jnp.arange(len(x)) // pool
        share = (group[:, None] == group) & mask
        share = share / jnp.maximum(share.sum(1, keepdims=True), 1)
        mixed = [attention(share @ q, k, v, mask) for q, k, v in zip(Q, K, V, strict=True)]
        return jnp.concatenate(mixed, axis=1) @ mixer.out[...]

    compare(Mixer(Config(pool), Dims(8, 2, 4, 14), rngs=nnx.Rngs(0)), equation, 13)


def test_a_group_shares_what_it_finds() -> None:
    mixer = Mixer(Config(), Dims(8, 2, 4, 8), rngs=nnx.Rngs(0))
    y = mixer(jax.random.normal(jax.random.key(0), (1, 8, 8)), jnp.ones((1, 8), bool), key=None)[0]
    assert (y[0::2] == y[1::2]).all()
    assert (y[0] != y[2]).all()


def test_wrong_knobs() -> None:
    with pytest.raises(ConfigError, match="pool"):
        Config(pool=0)
