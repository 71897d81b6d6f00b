"""Linear attention: its two equations agree, and padding, which LRA's ignored, is in neither sum."""

from __future__ import annotations

import numpy as np
from draws import normal
from equations import apply, draw

from lra_bench.mixers.base import Dims
from lra_bench.mixers.linear import Config, Mixer


def test_the_equation_over_the_tokens_that_are_there() -> None:
    mixer = draw(Mixer, Config(), Dims(8, 1, 8, 12))
    x = normal(1, 12, 8)
    y = apply(mixer, x, (np.arange(12) < 7)[None])
    q, k, v = np.split(np.float64(x[0, :7]) @ np.float64(mixer.qkv[...]), 3, axis=-1)
    phi = lambda x: np.where(x > 0, x + 1, np.exp(x))  # noqa: E731
    weights = phi(q) @ phi(k).T
    exact = weights / weights.sum(1, keepdims=True) @ v @ np.float64(mixer.out[...])
    np.testing.assert_allclose(y[0, :7], exact, atol=1e-5)
