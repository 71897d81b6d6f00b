"""Perceiver: read, think, answer, as they are written; and that tokens meet through the latents only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compared import Values, compare, cut, join, layer_norm, softmax
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.perceiver import Config, Mixer

H = 2
X = jax.random.normal(jax.random.key(1), (3, 11, 6))
MASK = jnp.array([[1] * 11, [1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0], [0] * 11], bool)


def attention(p: Values, name: str, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    k, v = (cut(y @ W, H) for W in p[f"{name}.kv"])
    q = cut(x @ p[f"{name}.q"], H)
    heads = [softmax(q[h] @ k[h].T / np.sqrt(q.shape[-1]), mask) @ v[h] for h in range(H)]
    return join(heads) @ p[f"{name}.out"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def block(p: Values, name: str, z: np.ndarray, x: np.ndarray | None, mask: np.ndarray) -> np.ndarray:
    normal = layer_norm(z, p[f"{name}.before_attention.scale"], p[f"{name}.before_attention.bias"])
    z = z + attention(p, f"{name}.attention", normal, normal if x is None else x, mask)
    normal = layer_norm(z, p[f"{name}.before_mlp.scale"], p[f"{name}.before_mlp.bias"])
    hidden = gelu(normal @ p[f"{name}.up.kernel"] + p[f"{name}.up.bias"])
    return z + hidden @ p[f"{name}.down.kernel"] + p[f"{name}.down.bias"]


def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    z = p["latents"]
    every = np.ones(len(z), bool)
    z = block(p, "read", z, x, mask)
    for i in range(sum(name.startswith("blocks.") and name.endswith(".attention.q") for name in p)):
        z = block(p, f"blocks.{i}", z, None, every)
    return attention(p, "answer", x, layer_norm(z, p["norm.scale"], p["norm.bias"]), every)


@pytest.mark.parametrize("blocks", [0, 2])
def test_the_equations(blocks: int) -> None:
    mixer = Mixer(Config(latents=4, blocks=blocks), Dims(6, H, 4, 12), rngs=nnx.Rngs(0))
    mixer.latents[...] *= 50  # as drawn they are so small that LN makes a ripple of a rounding
    compare(mixer, by_hand, X, MASK)


def test_who_did_not_read_cannot_answer() -> None:
    """Without a token to read, all texts' latents are alike: y is a function of each token alone."""
    mixer = Mixer(Config(latents=4), Dims(6, H, 4, 11), rngs=nnx.Rngs(0))
    depends = jax.jit(jax.jacrev(lambda x, mask: mixer(x[None], mask[None], key=None)[0].sum(-1)))
    seen = abs(depends(X[0], jnp.zeros(11, bool))).max(-1)
    np.testing.assert_array_equal(seen > 0, np.eye(11, dtype=bool))
    assert (abs(depends(X[0], MASK[1])).max(-1)[:, MASK[1]] > 0).all()


@pytest.mark.parametrize(("knobs", "named"), [({"latents": 0}, "latents"), ({"blocks": -1}, "blocks")])
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
