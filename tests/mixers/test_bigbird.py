"""BigBird: its graph, which is fixed, over the whole length, and of blocks that are not met otherwise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import match
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.kernels.patterns import RandomBlocks
from lra_bench.mixers.base import Dims
from lra_bench.mixers.bigbird import Config, Mixer

L, SIZE = 22, 3  # 8 blocks, of which the last holds one token

QUICK = {"xla_backend_optimization_level": "1"}  # half the time to compile


def make(length: int = L, **knobs: int) -> Mixer:
    return Mixer(Config(**{"block": SIZE, "random": 1} | knobs), Dims(8, 2, 4, length), rngs=nnx.Rngs(0))


def graph_of(pattern: RandomBlocks, mask: np.ndarray, *, ends: bool) -> np.ndarray:
    """[i, j]: whether i sees j, pair by pair."""
    blocks, last = pattern.blocks, np.flatnonzero(mask)[-1] // SIZE
    table = pattern.table(blocks, blocks + pattern.last)  # those behind the text's are the global ones, as keys
    seen = np.zeros((len(mask), len(mask)), bool)
    for i in range(len(mask)):
        for j in range(len(mask)):
            a, b = i // SIZE, j // SIZE
            seen[i, j] = mask[j] and (b in table[a] or (ends and bool({a, b} & {0, last})))
    return seen


def by_hand(mixer: Mixer, x: jax.Array, mask: np.ndarray) -> jax.Array:
    """One text, with all weights in memory; tokens of the mixer's own look first."""
    seen = graph_of(mixer.pattern, mask, ends=not mixer.extended)
    q, k, v = by_heads(mixer, x)
    if mixer.extended:
        z = mixer.tokens[...]
        both = np.concatenate([np.ones(len(z), bool), mask])
        seen = np.concatenate([np.ones((len(x), len(z)), bool), seen], axis=1)
        own = by_heads(mixer, z)
        read = look(mixer, own[0], *(jnp.concatenate(pair) for pair in zip(own[1:], (k, v), strict=True)), both[None])
        k, v = (jnp.concatenate(pair) for pair in zip(by_heads(mixer, mixer.norm(z + read))[1:], (k, v), strict=True))
    return look(mixer, q, k, v, seen)


def by_heads(mixer: Mixer, x: jax.Array) -> list[jax.Array]:
    return [part.reshape(len(x), 2, 4) for part in jnp.split(x @ mixer.qkv[...], 3, axis=-1)]


def look(mixer: Mixer, q: jax.Array, k: jax.Array, v: jax.Array, seen: np.ndarray) -> jax.Array:
    heads = [attention(q[:, h], k[:, h], v[:, h], seen) for h in (0, 1)]
    return jnp.concatenate(heads, axis=1) @ mixer.out[...]


def attention(q: jax.Array, k: jax.Array, v: jax.Array, seen: np.ndarray) -> jax.Array:
    """Of each query of one head over the keys that it sees."""
    weights = jnp.where(seen, jnp.exp(q @ k.T / q.shape[1] ** 0.5), 0)
    return weights @ v / jnp.maximum(weights.sum(1, keepdims=True), 1e-30)


@pytest.mark.parametrize("knobs", [{}, {"window": 1, "random": 2}, {"tokens": 2}], ids=str)
def test_the_equation(knobs: dict) -> None:
    """Of the second text the last block is not the array's; the third has one block."""
    match(by_hand, make(**knobs), jnp.arange(L) < jnp.array([[L], [11], [2]]))


def test_who_sees_whom() -> None:
    """Asked of the gradient; a text that ends before the array does has a last block of its own."""
    mixer = make()
    mask = jnp.arange(L) < 17
    x = jax.random.normal(jax.random.key(0), (L, 8))
    depends = jax.jit(jax.jacrev(lambda x: mixer(x[None], mask[None], key=None)[0].sum(-1)), compiler_options=QUICK)(x)
    expected = graph_of(mixer.pattern, np.asarray(mask), ends=True)
    np.testing.assert_array_equal(np.asarray(abs(depends).max(-1) > 0)[:17], expected[:17])
    assert expected[16].sum() == expected[0].sum() == 17


def test_random_blocks() -> None:
    """LRA's come from the first 1,024 tokens only, and change with each process."""
    pattern = RandomBlocks(64, near=1, random=3, blocks=64, seed=0, spare_ends=True)
    table = pattern.table(64, 64)
    drawn = [sorted(set(row.tolist()) - {a - 1, a, a + 1, -1}) for a, row in enumerate(table)]
    assert all(len(row) == 3 and not {0, 63} & set(row) for row in drawn)
    assert max(map(max, drawn)) > 56
    assert len(set().union(*drawn)) > 50
    np.testing.assert_array_equal(table, RandomBlocks(64, 1, 3, 64, seed=0, spare_ends=True).table(64, 64))
    assert (table != RandomBlocks(64, 1, 3, 64, seed=1, spare_ends=True).table(64, 64)).any()


def test_a_shorter_text_has_the_same_random_blocks() -> None:
    pattern = RandomBlocks(4, near=1, random=2, blocks=16, seed=3)
    long, short = pattern.table(16, 16), pattern.table(9, 9)
    for a, row in enumerate(short):
        assert set(row.tolist()) - {-1} == {b for b in long[a].tolist() if 0 <= b < 9}


@pytest.mark.parametrize("tokens", [0, 2])
def test_appending_padding_changes_nothing(tokens: int) -> None:
    mixer, x = make(tokens=tokens), jax.random.normal(jax.random.key(1), (1, L, 8))
    mix = jax.jit(lambda x, mask: mixer(x, mask, key=None), compiler_options=QUICK)
    short = mix(x[:, :13], jnp.ones((1, 13), bool))
    np.testing.assert_allclose(mix(x, (jnp.arange(L) < 13)[None])[:, :13], short, atol=1e-6)


@pytest.mark.parametrize("knobs", [{"block": 0}, {"window": 2}, {"random": -1}, {"tokens": -1}, {"seed": -1}], ids=str)
def test_wrong_knobs(knobs: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(knobs))):
        Config(**knobs)
