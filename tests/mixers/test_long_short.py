"""Long-short attention: segments, projections over true tokens, two norms, one softmax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import attention, compare, heads, norm
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.long_short import Config, Mixer, Segments


def near(length: int, width: int) -> np.ndarray:
    """[i, j]: j is in i's segment, or among the width / 2 on either side of it."""
    segment, side = np.arange(length)[:, None] // width, width // 2
    j = np.arange(length)
    return (j >= segment * width - side) & (j < (segment + 1) * width + side)


@pytest.mark.parametrize(("window", "rank"), [(4, 3), (5, 0)])
def test_the_equation(window: int, rank: int) -> None:
    def equation(mixer: Mixer, x: jax.Array, mask: jax.Array) -> jax.Array:
        Q, K, V = jnp.split(x @ mixer.qkv[...], 3, axis=1)
        seen = near(len(x), window) & mask
        if rank:
            P = jnp.where(mask[:, None], jnp.exp(x @ mixer.gather[...]), 0)
            P = heads(P / jnp.maximum(P.sum(0), 1e-30), jnp.eye(P.shape[1]))
            far = [
                jnp.concatenate([p.T @ part for p, part in zip(P, jnp.split(X, 2, axis=1), strict=True)], 1)
                for X in (K, V)
            ]
            K, V = (
                jnp.concatenate([norm(X, mixer.near), norm(F, mixer.far)]) for X, F in zip((K, V), far, strict=True)
            )
            seen = jnp.concatenate([seen, jnp.broadcast_to(mask.any(), (len(x), rank))], axis=1)
        parts = zip(*(jnp.split(X, 2, axis=1) for X in (Q, K, V)), strict=True)
        return jnp.concatenate([attention(*qkv, seen) for qkv in parts], axis=1) @ mixer.out[...]

    mixer = Mixer(Config(window, rank), Dims(8, 2, 4, 14), rngs=nnx.Rngs(0))
    if rank:
        mixer.near.scale[...], mixer.far.bias[...] = 1.5 * mixer.near.scale[...], mixer.far.bias[...] + 0.5
    compare(mixer, equation, 13)


@pytest.mark.parametrize("width", [1, 8, 50, 64, 100, 128, 300])
def test_no_pair_is_left_out_of_the_table(width: int) -> None:
    pattern, i = Segments(width), np.arange(330)
    table = pattern.table(6, 6)
    met = (table[:, :, None] == np.arange(6)).any(1)[i[:, None] // 64, i // 64]
    seen = np.asarray(pattern.bias(jnp.asarray(i)[:, None], jnp.asarray(i))) == 0
    np.testing.assert_array_equal(seen, near(330, width))
    assert not (seen & ~met).any()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in table)


@pytest.mark.parametrize(("knobs", "named"), [({"window": 0}, "window"), ({"rank": -1}, "rank")])
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
