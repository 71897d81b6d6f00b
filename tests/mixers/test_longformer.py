"""Longformer: window and global tokens, whose own projections serve only what they themselves look at."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import match
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.longformer import Config, Mixer

L = 14

QUICK = {"xla_backend_optimization_level": "1"}  # half the time to compile


def make(window: int, global_tokens: int, length: int = L, *, rotary: bool = False) -> Mixer:
    mixer = Mixer(
        Config(window=window, global_tokens=global_tokens), Dims(8, 2, 4, length, rotary=rotary), rngs=nnx.Rngs(0)
    )
    if global_tokens:  # no longer a copy, as after training
        mixer.global_qkv[...] += 0.3 * jax.random.normal(jax.random.key(5), mixer.global_qkv.shape)
    return mixer


def by_hand(mixer: Mixer, x: jax.Array, mask: np.ndarray) -> jax.Array:
    """One text, with all weights in memory."""
    w, g, (i, j) = mixer.pattern.width, mixer.first, np.indices((len(x), len(x)))
    local, own = mixer.qkv[...], mixer.global_qkv[...] if mixer.first else mixer.qkv[...]
    near = mask & ((abs(i - j) <= w) | (j < g))
    heads = []
    for h in (0, 1):
        q, k, v = (part[:, 4 * h : 4 * h + 4] for part in jnp.split(x @ local, 3, axis=-1))
        rows = attention(q, k, v, near)
        q, k, v = (part[:, 4 * h : 4 * h + 4] for part in jnp.split(x @ own, 3, axis=-1))
        heads.append(jnp.concatenate([attention(q, k, v, mask & (i >= 0))[:g], rows[g:]]))
    return jnp.concatenate(heads, axis=1) @ mixer.out[...]


def attention(q: jax.Array, k: jax.Array, v: jax.Array, seen: np.ndarray) -> jax.Array:
    """Of each query of one head over the keys that it sees."""
    weights = jnp.where(seen, jnp.exp(q @ k.T / q.shape[1] ** 0.5), 0)
    return weights @ v / jnp.maximum(weights.sum(1, keepdims=True), 1e-30)


@pytest.mark.parametrize(("window", "global_tokens"), [(2, 1), (3, 4), (1, 0)])
def test_the_equation(window: int, global_tokens: int) -> None:
    match(by_hand, make(window, global_tokens), jnp.arange(L) < jnp.array([[L], [9]]))


def test_positions_are_turned_in_both_attentions() -> None:
    """Rotary, window over everything and the global projections a copy: nothing but softmax attention is left."""
    mixer = make(L, 3, rotary=True)
    mixer.global_qkv[...] = mixer.qkv[...]
    x, mask = jax.random.normal(jax.random.key(1), (1, L, 8)), jnp.ones((1, L), bool)
    y = mixer(x, mask, key=None)
    mixer.first = 0
    np.testing.assert_allclose(y, mixer(x, mask, key=None), atol=1e-5)


def test_who_sees_whom() -> None:
    """Beyond the kernel's blocks of 64; asked of the gradient."""
    length, w, g = 150, 5, 2
    mixer = make(w, g, length)
    mask = (jnp.arange(length) < 140)[None]
    x = jax.random.normal(jax.random.key(0), (length, 8))
    depends = jax.jit(jax.jacrev(lambda x: mixer(x[None], mask, key=None)[0].sum(-1)))(x)
    i, j = np.indices((length, length))
    expected = ((abs(i - j) <= w) | (i < g) | (j < g)) & (j < 140)
    np.testing.assert_array_equal(np.asarray(abs(depends).max(-1) > 0)[:140], expected[:140])


def test_global_projections_begin_as_a_copy() -> None:
    mixer = Mixer(Config(), Dims(8, 2, 4, L), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(mixer.global_qkv[...], mixer.qkv[...])
    assert mixer.global_qkv[...] is not mixer.qkv[...]


@pytest.mark.parametrize(("knobs", "named"), [({"window": 0}, "window"), ({"global_tokens": -1}, "global_tokens")])
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
