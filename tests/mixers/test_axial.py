"""Axial attention: who stands in whose row and column, of texts and of images with a token before their pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import attention, compare, heads
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.axial import Config, Mixer
from lra_bench.mixers.base import Dims

PLACES = {  # of 11 tokens: row and column of each
    "text": (None, Config(), [(i // 4, i % 4) for i in range(11)]),
    "sum": (None, Config(form="sum"), [(i // 4, i % 4) for i in range(11)]),
    "rows": (None, Config(rows=2), [(i // 6, i % 6) for i in range(11)]),
    "image": ((2, 5), Config(), [(-1, 0)] + [(i // 5, i % 5) for i in range(10)]),
    "image, tokens before it": ((4, 2), Config(), [(-2, 0), (-2, 1), (-1, 0)] + [(i // 2, i % 2) for i in range(8)]),
}


@pytest.mark.parametrize("case", PLACES)
def test_the_equation(case: str) -> None:
    grid, config, places = PLACES[case]
    row, column = np.array(places).T

    def axis(part: object, x: jax.Array, mask: jax.Array, line: np.ndarray) -> jax.Array:
        q, k, v = (heads(x, w) for w in jnp.split(part.qkv[...], 3, axis=1))  # type: ignore[attr-defined]
        seen = (line[:, None] == line) & mask
        return jnp.concatenate([attention(*qkv, seen) for qkv in zip(q, k, v, strict=True)], 1) @ part.out[...]  # type: ignore[attr-defined]

    def equation(mixer: Mixer, x: jax.Array, mask: jax.Array) -> jax.Array:
        along = axis(mixer, x, mask, row)
        return along + axis(mixer.columns, x + along if config.form == "sequence" else x, mask, column)

    compare(Mixer(config, Dims(8, 2, 4, 11, grid), rngs=nnx.Rngs(0)), equation, 11)


def test_a_cls_token_sees_every_pixel() -> None:
    mixer = Mixer(Config(), Dims(8, 2, 4, 13, (3, 4)), rngs=nnx.Rngs(0))
    run = jax.jit(jax.grad(lambda x: mixer(x, jnp.ones((1, 13), bool), key=None)[0, 0].sum()))
    assert abs(run(jax.random.normal(jax.random.key(0), (1, 13, 8)))).max(-1).all()


@pytest.mark.parametrize(("knobs", "named"), [({"rows": 0}, "rows"), ({"form": "both"}, "form")])
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
