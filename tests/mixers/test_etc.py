"""ETC: a memory that looks first, labels for the pairs of all four pieces, one softmax for each side."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import match
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.etc import Config, Mixer

L = 14

QUICK = {"xla_backend_optimization_level": "1"}  # half the time to compile


def make(radius: int, tokens: int, distance: int, length: int = L) -> Mixer:
    """With vectors large enough to matter."""
    mixer = Mixer(Config(radius=radius, tokens=tokens, distance=distance), Dims(8, 2, 4, length), rngs=nnx.Rngs(0))
    for n, vectors in enumerate([mixer.near, mixer.among, mixer.across] if tokens else [mixer.near]):
        vectors[...] = jax.random.normal(jax.random.key(n), vectors.shape)
    return mixer


def by_hand(mixer: Mixer, x: jax.Array, mask: np.ndarray) -> jax.Array:
    """One text, with all weights in memory: every key with the vector of its label."""
    text = by_heads(mixer, x)
    if mixer.tokens == 0:
        return look(mixer, text[0], [(text[1], text[2], mask)], mixer.near, mixer.radius, None)
    z = mixer.memory[...]
    memory, there = by_heads(mixer, z), np.ones(len(z), bool)
    pieces = [(memory[1], memory[2], there), (text[1], text[2], mask)]
    z = mixer.norm(z + look(mixer, memory[0], pieces, mixer.among, len(z), mixer.across[0]))
    _, k, v = by_heads(mixer, z)
    pieces = [(text[1], text[2], mask), (k, v, there)]
    return look(mixer, text[0], pieces, mixer.near, mixer.radius, mixer.across[1])


def by_heads(mixer: Mixer, x: jax.Array) -> list[jax.Array]:
    return [part.reshape(len(x), 2, 4) for part in jnp.split(x @ mixer.qkv[...], 3, axis=-1)]


def look(mixer, q, pieces, vectors, radius, across):  # type: ignore[no-untyped-def]
    """One side: its own piece by distance, the other by one vector, in one softmax."""
    (k, v, there), *other = pieces
    i, j = np.indices((len(q), len(k)))
    far = vectors.shape[1] // 2
    heads = []
    for h in (0, 1):
        keys, values = k[:, h] + vectors[h, np.clip(j - i, -far, far) + far], v[:, h]
        seen = there & (abs(i - j) <= radius)
        for k_other, v_other, there_other in other:
            more = jnp.broadcast_to(k_other[:, h] + across[h], (len(q), *k_other[:, h].shape))
            keys, values = jnp.concatenate([keys, more], axis=1), jnp.concatenate([values, v_other[:, h]])
            seen = np.concatenate([seen, np.broadcast_to(there_other, more.shape[:2])], axis=1)
        weights = jnp.where(seen, jnp.exp(jnp.einsum("mk,mlk->ml", q[:, h], keys) / 2), 0)
        heads.append(weights @ values / jnp.maximum(weights.sum(1, keepdims=True), 1e-30))
    return jnp.concatenate(heads, axis=1) @ mixer.out[...]


@pytest.mark.parametrize(("radius", "tokens", "distance"), [(3, 2, 2), (5, 0, 5), (2, 4, 0), (30, 1, 3)])
def test_the_equation(radius: int, tokens: int, distance: int) -> None:
    match(by_hand, make(radius, tokens, distance), jnp.arange(L) < jnp.array([[L], [8]]))


def test_who_sees_whom() -> None:
    """Without memory a token sees to its radius; with it everything that is there, in one layer."""
    mask, x = (jnp.arange(150) < 140)[None], jax.random.normal(jax.random.key(0), (150, 8))
    i, j = np.indices((140, 150))
    for tokens, expected in ((0, (abs(i - j) <= 5) & (j < 140)), (1, j < 140)):
        mixer = make(5, tokens, 2, 150)
        depends = jax.jit(jax.jacrev(lambda x, mixer=mixer: mixer(x[None], mask, key=None)[0].sum(-1)))(x)
        np.testing.assert_array_equal(np.asarray(abs(depends).max(-1) > 0)[:140], expected)


def test_order_is_seen() -> None:
    """Without positions in x: turned round, a text gives other vectors, turned round, only because of the labels."""
    mixer, mask = make(5, 2, 2), jnp.ones((1, L), bool)
    x = jax.random.normal(jax.random.key(1), (1, L, 8))
    y, turned = mixer(x, mask, key=None), mixer(x[:, ::-1], mask, key=None)[:, ::-1]
    assert float(abs(y - turned).max()) > 0.01
    mixer.near[...] = jnp.zeros(mixer.near.shape)
    y, turned = mixer(x, mask, key=None), mixer(x[:, ::-1], mask, key=None)[:, ::-1]
    np.testing.assert_allclose(y, turned, atol=1e-5)


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        ({"radius": 0}, "radius"),
        ({"tokens": -1}, "tokens"),
        ({"distance": -1}, "distance"),
        ({"radius": 9}, "distance"),
    ],
)
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
