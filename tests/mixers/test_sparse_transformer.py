"""Sparse Transformer: both patterns, apart and in one softmax in which no key counts twice."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import match
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.sparse_transformer import Config, Mixer

L = 23

QUICK = {"xla_backend_optimization_level": "1"}  # half the time to compile


def make(length: int = L, heads: int = 2, **knobs: object) -> Mixer:
    return Mixer(Config(**knobs), Dims(8, heads, 8 // heads, length), rngs=nnx.Rngs(0))  # type: ignore[arg-type]


def patterns(mixer: Mixer, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A1 and A2 as in section 4.3, without their triangle."""
    i, j = np.indices((length, length))
    stride, c = mixer.stride, mixer.summary
    if c is None:
        return abs(i - j) <= stride, (i - j) % stride == 0
    return i // stride == j // stride, j % stride >= stride - c


def by_hand(mixer: Mixer, x: jax.Array, mask: np.ndarray) -> jax.Array:
    """One text, with all weights in memory."""
    near, far = (pattern & mask for pattern in patterns(mixer, len(x)))
    q, k, v = (part.reshape(len(x), 2, 4) for part in jnp.split(x @ mixer.qkv[...], 3, axis=-1))
    seen = (near | far,) * 2 if mixer.near_heads is None else (near, far)
    heads = [attention(q[:, h], k[:, h], v[:, h], seen[h]) for h in (0, 1)]
    return jnp.concatenate(heads, axis=1) @ mixer.out[...]


def attention(q: jax.Array, k: jax.Array, v: jax.Array, seen: np.ndarray) -> jax.Array:
    """Of each query of one head over the keys that it sees."""
    weights = jnp.where(seen, jnp.exp(q @ k.T / q.shape[1] ** 0.5), 0)
    return weights @ v / jnp.maximum(weights.sum(1, keepdims=True), 1e-30)


@pytest.mark.parametrize("merge", ["union", "heads"])
@pytest.mark.parametrize(
    "knobs", [{"pattern": "stride", "stride": 4}, {"pattern": "fixed", "stride": 5, "summary": 2}], ids=str
)
def test_the_equation(knobs: dict, merge: str) -> None:
    match(by_hand, make(merge=merge, **knobs), jnp.arange(L) < jnp.array([[L], [13]]))


@pytest.mark.parametrize("pattern", ["stride", "fixed"])
def test_who_sees_whom(pattern: str) -> None:
    """With the stride of its own, and a text shorter than the mixer was made for; asked of the gradient."""
    mixer, length, tokens = make(70, pattern=pattern, summary=3), 61, 57
    mask = jnp.arange(length) < tokens
    assert mixer.stride == 8
    x = jax.random.normal(jax.random.key(0), (length, 8))
    depends = jax.jit(jax.jacrev(lambda x: mixer(x[None], mask[None], key=None)[0].sum(-1)), compiler_options=QUICK)(x)
    near, far = patterns(mixer, length)
    expected = (near | far) & np.asarray(mask)
    np.testing.assert_array_equal(np.asarray(abs(depends).max(-1) > 0)[:tokens], expected[:tokens])


def test_two_steps_join_all() -> None:
    """What the factorisation is for: any two tokens are at most two steps apart."""
    for knobs in ({"pattern": "stride", "stride": 5}, {"pattern": "fixed", "stride": 5, "summary": 1}):
        near, far = patterns(make(25, **knobs), 25)
        once = (near | far).astype(int)
        assert (once @ once).all()


@pytest.mark.parametrize(
    "knobs", [{"pattern": "stride", "stride": L}, {"pattern": "fixed", "stride": 6, "summary": 6}], ids=str
)
def test_limits(knobs: dict) -> None:
    """A stride over everything, or all cells of a block in its summary: the same as one block of everything."""
    x, mask = jax.random.normal(jax.random.key(1), (1, 18, 8)), jnp.ones((1, 18), bool)
    everything = make(stride=L)
    np.testing.assert_allclose(make(**knobs)(x, mask, key=None), everything(x, mask, key=None), atol=1e-5)


@pytest.mark.parametrize(
    "knobs",
    [{"pattern": "both"}, {"stride": 0}, {"summary": 0}, {"merge": "sum"}, {"summary": 9, "stride": 8}],
    ids=str,
)
def test_wrong_knobs(knobs: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(knobs))):
        Config(**knobs)


def test_patterns_by_heads_need_two() -> None:
    with pytest.raises(ConfigError, match="merge"):
        make(heads=1, merge="heads")
