"""Longformer: window and global tokens, whose own projections serve only what they themselves look at."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, apply, attention, compare, cut, draw, join, seen, texts
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.longformer import Config, Mixer

L = 14


def make(window: int, global_tokens: int, length: int = L, *, rotary: bool = False, causal: bool = False) -> Mixer:
    dims = Dims(8, 2, 4, length, rotary=rotary, causal=causal)
    return draw(Mixer, Config(window=window, global_tokens=global_tokens), dims)


def written_out(width: int, first: int) -> Equation:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        i, j = np.indices((len(x), len(x)))
        near = mask & ((abs(i - j) <= width) | (j < first))
        rows = join(attention(*by_heads(x, p["qkv"]), near))
        if first:
            rows[:first] = join(attention(*by_heads(x, p["global_qkv"]), mask))[:first]
        return rows @ p["out"]

    return equation


def by_heads(x: np.ndarray, w: np.ndarray) -> list[np.ndarray]:
    return [cut(part) for part in np.split(x @ w, 3, axis=-1)]


@pytest.mark.parametrize(("window", "global_tokens"), [(2, 1), (3, 4), (1, 0)])
def test_the_equation(window: int, global_tokens: int) -> None:
    mask = jnp.asarray(np.arange(L) < np.array([[L], [9]]))
    compare(make(window, global_tokens), written_out(window, global_tokens), normal(2, L, 8), mask)


def test_the_causal_equation() -> None:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        i, j = np.indices((len(x), len(x)))
        return join(attention(*by_heads(x, p["qkv"]), mask & (j <= i) & (i - j <= 3))) @ p["out"]

    compare(make(3, 2, causal=True), equation, *texts(L, 8))


def test_positions_are_turned_in_both_attentions() -> None:
    """Rotary, window over everything and the global projections a copy: nothing but softmax attention is left."""
    mixer = make(L, 3, rotary=True)
    mixer.global_qkv[...] = mixer.qkv[...]
    x, mask = normal(1, L, 8), jnp.ones((1, L), bool)
    y = apply(mixer, x, mask)
    mixer.first = 0
    np.testing.assert_allclose(y, apply(mixer, x, mask), atol=1e-5)


def test_who_sees_whom() -> None:
    """Beyond the kernel's blocks of 64; asked of the gradient."""
    length, w, g = 150, 5, 2
    i, j = np.indices((length, length))
    expected = ((abs(i - j) <= w) | (i < g) | (j < g)) & (j < 140)
    np.testing.assert_array_equal(seen(make(w, g, length), np.arange(length) < 140)[:140], expected[:140])


def test_global_projections_begin_as_a_copy() -> None:
    mixer = Mixer(Config(), Dims(8, 2, 4, L), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(mixer.global_qkv[...], mixer.qkv[...])
    assert mixer.global_qkv[...] is not mixer.qkv[...]


@pytest.mark.parametrize(("options", "named"), [({"window": 0}, "window"), ({"global_tokens": -1}, "global_tokens")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
