"""BigBird: its graph, which is fixed, over the whole length, and of blocks that are not met otherwise."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, attention, compare, cut, draw, join, layer_norm, seen, unmoved_by_padding

from lra_bench.errors import ConfigError
from lra_bench.kernels.patterns import RandomBlocks
from lra_bench.mixers.base import Dims
from lra_bench.mixers.bigbird import Config, Mixer

L, SIZE = 22, 3  # 8 blocks, of which the last holds one token


def make(length: int = L, **options: int) -> Mixer:
    return draw(Mixer, Config(**{"block": SIZE, "random": 1} | options), Dims(8, 2, 4, length))


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


def written_out(mixer: Mixer) -> Equation:
    """Tokens of the mixer's own look first."""

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        seen = graph_of(mixer.pattern, mask, ends=not mixer.extended)
        q, k, v = by_heads(p, x)
        if mixer.extended:
            z = p["tokens"]
            both, (own, *pairs) = np.concatenate([np.ones(len(z), bool), mask]), by_heads(p, z)
            k_all, v_all = (np.concatenate(pair, axis=1) for pair in zip(pairs, (k, v), strict=True))
            read = join(attention(own, k_all, v_all, both)) @ p["out"]
            _, *pairs = by_heads(p, layer_norm(z + read, p["norm.scale"], p["norm.bias"]))
            k, v = (np.concatenate(pair, axis=1) for pair in zip(pairs, (k, v), strict=True))
            seen = np.concatenate([np.ones((len(x), len(z)), bool), seen], axis=1)
        return join(attention(q, k, v, seen)) @ p["out"]

    return equation


def by_heads(p: Values, x: np.ndarray) -> list[np.ndarray]:
    return [cut(part) for part in np.split(x @ p["qkv"], 3, axis=-1)]


@pytest.mark.parametrize("options", [{}, {"window": 1, "random": 2}, {"tokens": 2}], ids=str)
def test_the_equation(options: dict) -> None:
    """Of the second text the last block is not the array's; the third has one block."""
    mixer = make(**options)
    compare(mixer, written_out(mixer), normal(3, L, 8), jnp.asarray(np.arange(L) < np.array([[L], [11], [2]])))


def test_who_sees_whom() -> None:
    """Asked of the gradient; a text that ends before the array does has a last block of its own."""
    mixer = make()
    mask = np.arange(L) < 17
    expected = graph_of(mixer.pattern, mask, ends=True)
    np.testing.assert_array_equal(seen(mixer, mask)[:17], expected[:17])
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
    unmoved_by_padding(make(tokens=tokens), normal(1, 13, 8))


@pytest.mark.parametrize(
    "options", [{"block": 0}, {"window": 2}, {"random": -1}, {"tokens": -1}, {"seed": -1}], ids=str
)
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Config(**options)
