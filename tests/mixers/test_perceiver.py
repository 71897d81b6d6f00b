"""Perceiver: read, think, answer, as they are written; and that tokens meet through the latents only."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Values, attention, compare, cut, draw, gelu, join, layer_norm, seen, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.perceiver import Config, Mixer

H = 2
X, MASK = texts(11, 6)


def multihead(p: Values, name: str, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    k, v = (cut(y @ W, H) for W in p[f"{name}.kv"])
    return join(attention(cut(x @ p[f"{name}.q"], H), k, v, mask)) @ p[f"{name}.out"]


def block(p: Values, name: str, z: np.ndarray, x: np.ndarray | None, mask: np.ndarray) -> np.ndarray:
    normal = layer_norm(z, p[f"{name}.before_attention.scale"], p[f"{name}.before_attention.bias"])
    z = z + multihead(p, f"{name}.attention", normal, normal if x is None else x, mask)
    normal = layer_norm(z, p[f"{name}.before_mlp.scale"], p[f"{name}.before_mlp.bias"])
    hidden = gelu(normal @ p[f"{name}.up.kernel"] + p[f"{name}.up.bias"])
    return z + hidden @ p[f"{name}.down.kernel"] + p[f"{name}.down.bias"]


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    z = p["latents"]
    every = np.ones(len(z), bool)
    z = block(p, "read", z, x, mask)
    for i in range(sum(name.startswith("blocks.") and name.endswith(".attention.q") for name in p)):
        z = block(p, f"blocks.{i}", z, None, every)
    return multihead(p, "answer", x, layer_norm(z, p["norm.scale"], p["norm.bias"]), every)


@pytest.mark.parametrize("blocks", [0, 2])
def test_the_equations(blocks: int) -> None:
    mixer = draw(Mixer, Config(latents=4, blocks=blocks), Dims(6, H, 4, 12))
    compare(mixer, by_hand, X, MASK)


def test_who_did_not_read_cannot_answer() -> None:
    """Without a token to read, all texts' latents are alike: y is a function of each token alone."""
    mixer = draw(Mixer, Config(latents=4), Dims(6, H, 4, 11))
    mask = np.asarray(MASK)[2]
    np.testing.assert_array_equal(seen(mixer, np.zeros(11, bool), 6), np.eye(11, dtype=bool))
    assert seen(mixer, mask, 6)[:, mask].all()


@pytest.mark.parametrize(("options", "named"), [({"latents": 0}, "latents"), ({"blocks": -1}, "blocks")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
