"""Linformer: its projections, and padding, which LRA's ignored."""

from __future__ import annotations

import numpy as np
import pytest
from draws import normal
from equations import Values, apply, compare, cut, draw, join, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.linformer import Config, Mixer

DIMS = Dims(8, 2, 4, 12)


def make(sharing: str) -> Mixer:
    return draw(Mixer, Config(rank=5, sharing=sharing), DIMS)


def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Head by head, as in equation 7."""
    heads, rows = [], p["rows"]
    for h, (q, k, v) in enumerate(zip(*map(cut, np.split(x @ p["qkv"], 3, axis=-1)), strict=True)):
        E, F = (m if m.ndim == 2 else m[h] for m in (rows[0], rows[-1]))
        k, v = E[:, : len(x)] @ (k * mask[:, None]), F[:, : len(x)] @ (v * mask[:, None])
        weights = np.exp(q @ k.T / 2)
        heads.append(weights / weights.sum(1, keepdims=True) @ v)
    return join(heads) @ p["out"]


@pytest.mark.parametrize("sharing", ["none", "headwise", "key-value"])
@pytest.mark.parametrize("length", [12, 9])
def test_the_equation(sharing: str, length: int) -> None:
    compare(make(sharing), equation, *texts(length, 8))


@pytest.mark.parametrize(
    ("sharing", "shape"), [("none", (2, 2, 5, 12)), ("headwise", (2, 5, 12)), ("key-value", (1, 5, 12))]
)
def test_who_shares(sharing: str, shape: tuple[int, ...]) -> None:
    assert make(sharing).rows.shape == shape


def test_appending_padding_changes_nothing() -> None:
    mixer, x = make("key-value"), normal(1, 12, 8, seed=1)
    short = apply(mixer, x[:, :7], np.ones((1, 7), bool))
    np.testing.assert_allclose(apply(mixer, x, (np.arange(12) < 7)[None])[:, :7], short, atol=1e-6)


@pytest.mark.parametrize(("options", "named"), [({"rank": 0}, "rank"), ({"sharing": "layerwise"}, "sharing")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
