"""Funnel: queries are means of true neighbors, keys are not pooled."""

from __future__ import annotations

import numpy as np
import pytest
from draws import normal
from equations import Values, apply, attention, compare, cut, draw, join, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.funnel import Config, Mixer


@pytest.mark.parametrize("pool", [2, 3])
def test_the_equation(pool: int) -> None:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        q, k, v = map(cut, np.split(x @ p["qkv"], 3, axis=1))
        group = np.arange(len(x)) // pool
        share = (group[:, None] == group) & mask
        share = share / np.maximum(share.sum(1, keepdims=True), 1)
        return join(attention(share @ q, k, v, mask)) @ p["out"]

    compare(draw(Mixer, Config(pool), Dims(8, 2, 4, 14)), equation, *texts(13, 8))


def test_a_group_shares_what_it_finds() -> None:
    y = np.asarray(apply(draw(Mixer, Config(), Dims(8, 2, 4, 8)), normal(1, 8, 8), np.ones((1, 8), bool)))[0]
    assert (y[0::2] == y[1::2]).all()
    assert (y[0] != y[2]).all()


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="pool"):
        Config(pool=0)
