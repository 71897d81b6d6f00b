"""Sliding window and blocks: who sees whom, asked of the gradient. LRA's "local" saw every n-th token instead."""

from __future__ import annotations

import numpy as np
import pytest
from equations import draw, seen
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.local import Config, Mixer

IMPLS = ("xla", "pallas")


def sight(config: Config, length: int, tokens: int) -> np.ndarray:
    """[i, j]: whether y_i depends on x_j; only the first `tokens` are there."""
    return seen(draw(Mixer, config, Dims(8, 2, 4, length)), np.arange(length) < tokens)


@pytest.mark.parametrize(("length", "window"), [(150, 1), (150, 7), (20, 7), (64, 70), (128, 64)])
def test_a_token_sees_exactly_its_neighbors(length: int, window: int) -> None:
    i, j = np.indices((length, length))
    np.testing.assert_array_equal(sight(Config(window=window), length, length), abs(i - j) <= window)


@pytest.mark.parametrize(("length", "window"), [(24, 8), (21, 8), (5, 8)])
def test_a_block_sees_itself(length: int, window: int) -> None:
    i, j = np.indices((length, length))
    np.testing.assert_array_equal(
        sight(Config(window=window, form="block"), length, length), i // window == j // window
    )


@pytest.mark.parametrize("impl", IMPLS)
def test_the_causal_equation_has_what_comes_before(impl: str) -> None:
    i, j = np.indices((150, 150))
    for config, there in (
        (Config(window=7, impl=impl), i - j <= 7),
        (Config(window=8, form="block", impl=impl), i // 8 == j // 8),
    ):
        mixer = draw(Mixer, config, Dims(8, 2, 4, 150, causal=True))
        np.testing.assert_array_equal(seen(mixer, np.ones(150, bool)), there & (j <= i))


@pytest.mark.parametrize("form", ["sliding", "block"])
def test_padding_is_seen_by_nobody(form: str) -> None:
    """LRA filled a boolean mask with -1e9, which is True."""
    assert not sight(Config(window=4, form=form), 21, 10)[:10, 10:].any()


def test_a_head_is_left_to_the_dilation() -> None:
    with pytest.raises(ConfigError, match=r"near_heads: 2; the model has backbone\.heads=2, and one"):
        Mixer(Config(dilation=2, near_heads=2), Dims(8, 2, 4, 31), rngs=nnx.Rngs(0))


WRONG = [
    ({"window": 0}, "window"),
    ({"form": "strided"}, "form"),
    ({"impl": "triton"}, "impl.*auto, xla, batched, pallas"),
]


@pytest.mark.parametrize(("options", "named"), WRONG)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
