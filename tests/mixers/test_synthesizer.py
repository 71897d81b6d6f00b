"""Synthesizer: every form and mixtures of them as they are written; padded columns are hidden, which LRA forgot."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compared import Values, apply, compare, cut, join, softmax
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.synthesizer import Config, Mixer

H = 2
X = jax.random.normal(jax.random.key(1), (3, 11, 6))
MASK = jnp.array([[1] * 11, [1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0], [0] * 11], bool)
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
    mixer = Mixer(Config(form=form, rank=3), Dims(6, H, 4, 12), rngs=nnx.Rngs(0))
    if "+" in form:
        mixer.weights[...] = jnp.linspace(-0.5, 0.5, len(mixer.parts))
    if "dense" in form:
        mixer.offsets[...] = jnp.linspace(-1, 1, H * 12).reshape(H, 12, 1)
    compare(mixer, by_hand, X, MASK)


def test_random_weights_are_every_texts() -> None:
    """Where x is: nowhere in the weights."""
    mixer = Mixer(Config(form="random"), Dims(6, H, 4, 11), rngs=nnx.Rngs(0))
    a, b = X[:1], X[1:2]
    together, apart = apply(mixer, a + b, MASK[:1]), apply(mixer, a, MASK[:1]) + apply(mixer, b, MASK[:1])
    np.testing.assert_allclose(together, apart, atol=1e-5)


def test_wrong_knobs() -> None:
    for form in ("plain", "dense+dense", "dense+", ""):
        with pytest.raises(ConfigError, match="form"):
            Config(form=form)
    with pytest.raises(ConfigError, match="rank"):
        Config(rank=0)
    with pytest.raises(ConfigError, match="form"):
        Mixer(Config(), Dims(6, H, 4, 12, rotary=True), rngs=nnx.Rngs(0))
