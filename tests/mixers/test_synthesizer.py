"""Synthesizer: every form and mixtures of them as they are written; padded columns are hidden, which LRA forgot."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from equations import Values, apply, compare, cut, draw, join, softmax, texts
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.synthesizer import Config, Mixer

H = 2
X, MASK = texts(11, 6)
FORMS = ("dense", "random", "factorised", "random+dot", "dense+factorised+dot", "dot")


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The parts stand in the order in which a mixture in `FORMS` names them."""
    L = len(x)
    *q_k, v = (cut(part, H) for part in np.split(x @ p["qkv"], p["qkv"].shape[1] // 8, axis=1))
    heads = []
    for h in range(H):
        parts = []
        if "hidden" in p:
            hidden = np.maximum(x @ p["hidden"] + p["bias"], 0)[:, 4 * h : 4 * h + 4]
            parts.append(hidden @ p["columns"][h, :L].T + p["offsets"][h, :L, 0])
        if "table" in p:
            parts.append(p["table"][:L, h, :L])
        if "rows" in p:
            parts.append(p["rows"][0, h, :L] @ p["rows"][1, h, :L].T)
        if q_k:
            parts.append(q_k[0][h] @ q_k[1][h].T / 2)
        share = np.exp(p["weights"]) / np.exp(p["weights"]).sum() if "weights" in p else [1.0]
        scores = sum(a * part for a, part in zip(share, parts, strict=True))
        heads.append(softmax(np.asarray(scores), mask) @ v[h])
    return join(heads) @ p["out"]


@pytest.mark.parametrize("form", FORMS)
def test_equations_3_5_7_and_8(form: str) -> None:
    mixer = draw(Mixer, Config(form=form, rank=3), Dims(6, H, 4, 12))
    compare(mixer, by_hand, X, MASK)


@pytest.mark.parametrize("form", ["random", "random+dot", "dense+factorised+dot"])
def test_the_causal_equation(form: str) -> None:
    mixer = draw(Mixer, Config(form=form, rank=3), Dims(6, H, 4, 12, causal=True))
    compare(mixer, lambda p, x, mask: by_hand(p, x, mask & np.tri(len(x), dtype=bool)), X, MASK)


def test_random_weights_are_every_texts() -> None:
    """Where x is: nowhere in the weights."""
    mixer = draw(Mixer, Config(form="random"), Dims(6, H, 4, 11))
    a, b = X[:1], X[1:2]
    y = apply(mixer, jnp.concatenate([a, b, a + b]), MASK[:1].repeat(3, axis=0))
    np.testing.assert_allclose(y[2], y[0] + y[1], atol=1e-5)


def test_wrong_options() -> None:
    for form in ("plain", "dense+dense", "dense+", ""):
        with pytest.raises(ConfigError, match="form"):
            Config(form=form)
    with pytest.raises(ConfigError, match="rank"):
        Config(rank=0)
    with pytest.raises(ConfigError, match="form"):
        Mixer(Config(), Dims(6, H, 4, 12, rotary=True), rngs=nnx.Rngs(0))
