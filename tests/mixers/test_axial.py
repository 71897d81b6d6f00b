"""Axial attention: who stands in whose row and column, of texts and of images with a token before their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Values, attention, compare, cut, draw, join, seen, texts

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

    def axis(p: Values, part: str, x: np.ndarray, mask: np.ndarray, line: np.ndarray) -> np.ndarray:
        q, k, v = map(cut, np.split(x @ p[f"{part}qkv"], 3, axis=1))
        return join(attention(q, k, v, (line[:, None] == line) & mask)) @ p[f"{part}out"]

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        along = axis(p, "", x, mask, row)
        return along + axis(p, "columns.", x + along if config.form == "sequence" else x, mask, column)

    compare(draw(Mixer, config, Dims(8, 2, 4, 11, grid)), equation, *texts(11, 8))


@pytest.mark.parametrize("case", PLACES)
def test_the_causal_equation(case: str) -> None:
    """A token's row up to itself, and what the place above it is given: a place without a token asks with zeros."""
    grid, config, places = PLACES[case]
    row, column = np.array(places).T
    order = np.arange(11)

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        x = x * mask[:, None]
        q, k, v = map(cut, np.split(x @ p["qkv"], 3, axis=1))
        mine = (row[:, None] == row) & mask
        seen = x + join(attention(q, k, v, mine)) @ p["out"] if config.form == "sequence" else x
        own = join(attention(q, k, v, mine & (order <= order[:, None]))) @ p["out"]
        q, k, v = map(cut, np.split(seen @ p["columns.qkv"], 3, axis=1))
        above = [places.index((r - 1, c)) if (r - 1, c) in places else -1 for r, c in places]
        q = np.concatenate([q, 0 * q[:, :1]], axis=1)[:, above]
        higher = (column[:, None] == column) & (row < row[:, None]) & mask
        return own + join(attention(q, k, v, higher)) @ p["columns.out"]

    compare(draw(Mixer, config, Dims(8, 2, 4, 11, grid, causal=True)), equation, *texts(11, 8))


def test_a_cls_token_sees_every_pixel() -> None:
    mixer = draw(Mixer, Config(), Dims(8, 2, 4, 13, (3, 4)))
    assert seen(mixer, np.ones(13, bool))[0].all()


@pytest.mark.parametrize(("options", "named"), [({"rows": 0}, "rows"), ({"form": "both"}, "form")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
