"""Memory tokens: as so many more tokens in front of the text, whatever else is seen beside them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compared import ByHand, Values, apply, compare, cut, join, softmax
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.memory_tokens import Config, Mixer

H = 2
X = jax.random.normal(jax.random.key(1), (3, 11, 6))
MASK = jnp.array([[1] * 11, [1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0], [0] * 11], bool)


def written_out(window: int) -> ByHand:
    def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        m = len(p["memory"])
        q, k, v = (cut(part, H) for part in np.split(np.concatenate([p["memory"], x]) @ p["qkv"], 3, axis=1))
        heads = []
        for h in range(H):
            rows = []
            for i in range(len(x)):
                seen = np.concatenate([np.ones(m, bool), mask & (abs(np.arange(len(x)) - i) <= window)])
                rows.append(softmax(q[h, m + i : m + i + 1] @ k[h].T / np.sqrt(q.shape[-1]), seen) @ v[h])
            heads.append(np.concatenate(rows))
        return join(heads) @ p["out"]

    return by_hand


@pytest.mark.parametrize("window", [None, 3])
def test_the_equation(window: int | None) -> None:
    mixer = Mixer(Config(tokens=3, window=window), Dims(6, H, 4, 12), rngs=nnx.Rngs(0))
    compare(mixer, written_out(99 if window is None else window), X, MASK)


def test_a_text_without_tokens_reads_the_memory() -> None:
    mixer = Mixer(Config(tokens=1), Dims(6, H, 4, 12), rngs=nnx.Rngs(0))
    y = apply(mixer, X, MASK)[2]
    np.testing.assert_allclose(y, jnp.broadcast_to(mixer.memory @ mixer.qkv[:, 16:] @ mixer.out, y.shape), atol=1e-5)


@pytest.mark.parametrize(("knobs", "named"), [({"tokens": -1}, "tokens"), ({"window": 0}, "window")])
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
