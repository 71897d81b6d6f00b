"""Sparse Transformer: both patterns, apart and in one softmax in which no key counts twice."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, apply, attention, compare, cut, draw, join, seen

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.sparse_transformer import Config, Mixer

L = 23


def make(length: int = L, heads: int = 2, causal: bool = False, **options: object) -> Mixer:
    return draw(Mixer, Config(**options), Dims(8, heads, 8 // heads, length, causal=causal))  # type: ignore[arg-type]


def patterns(mixer: Mixer, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A1 and A2 as in section 4.3, with their triangle where it is causal."""
    near, far = both_ways(mixer, length)
    seen = np.tri(length, dtype=bool) | (not mixer.causal)
    return near & seen, far & seen


def both_ways(mixer: Mixer, length: int) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.indices((length, length))
    stride, c = mixer.stride, mixer.summary
    if c is None:
        return abs(i - j) <= stride, (i - j) % stride == 0
    return i // stride == j // stride, j % stride >= stride - c


def written_out(mixer: Mixer) -> Equation:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        near, far = (pattern & mask for pattern in patterns(mixer, len(x)))
        q, k, v = map(cut, np.split(x @ p["qkv"], 3, axis=-1))
        seen = near | far if mixer.near_heads is None else np.stack([near, far])
        return join(attention(q, k, v, seen)) @ p["out"]

    return equation


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("merge", ["union", "heads"])
@pytest.mark.parametrize(
    "options", [{"pattern": "stride", "stride": 4}, {"pattern": "fixed", "stride": 5, "summary": 2}], ids=str
)
def test_the_equation(options: dict, merge: str, causal: bool) -> None:
    mixer = make(merge=merge, causal=causal, **options)
    compare(mixer, written_out(mixer), normal(2, L, 8), jnp.asarray(np.arange(L) < np.array([[L], [13]])))


@pytest.mark.parametrize("pattern", ["stride", "fixed"])
def test_who_sees_whom(pattern: str) -> None:
    """With the stride of its own, and a text shorter than the mixer was made for; asked of the gradient."""
    mixer, length, tokens = make(70, pattern=pattern, summary=3), 61, 57
    mask = np.arange(length) < tokens
    assert mixer.stride == 8
    near, far = patterns(mixer, length)
    np.testing.assert_array_equal(seen(mixer, mask)[:tokens], ((near | far) & mask)[:tokens])


def test_two_steps_join_all() -> None:
    """What the factorisation is for: any two tokens are at most two steps apart."""
    for options in ({"pattern": "stride", "stride": 5}, {"pattern": "fixed", "stride": 5, "summary": 1}):
        near, far = patterns(make(25, **options), 25)
        once = (near | far).astype(int)
        assert (once @ once).all()


@pytest.mark.parametrize(
    "options", [{"pattern": "stride", "stride": L}, {"pattern": "fixed", "stride": 6, "summary": 6}], ids=str
)
def test_limits(options: dict) -> None:
    """A stride over everything, or all cells of a block in its summary: the same as one block of everything."""
    x, mask = normal(1, 18, 8), jnp.ones((1, 18), bool)
    np.testing.assert_allclose(apply(make(**options), x, mask), apply(make(stride=L), x, mask), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"pattern": "both"}, {"stride": 0}, {"summary": 0}, {"merge": "sum"}, {"summary": 9, "stride": 8}],
    ids=str,
)
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Config(**options)


def test_patterns_by_heads_need_two() -> None:
    with pytest.raises(ConfigError, match="merge"):
        make(heads=1, merge="heads")
