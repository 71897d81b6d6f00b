"""Nystromformer: the equation with means over true tokens; rows of a batch do not see each other."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, apply, compare, cut, draw, join, softmax
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.nystromformer import Config, Mixer

H = 2
X = normal(3, 11, 6, seed=1)
MASK = jnp.asarray(
    np.array([[1] * 11, [1, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0], [0] * 11], bool)
)  # row 1: its second segment is empty


def inverse(a: np.ndarray, steps: int) -> np.ndarray:
    one = np.eye(len(a))
    z = a.T / (abs(a).sum(0).max() * abs(a).sum(1).max())
    for _ in range(steps):
        z = z @ (13 * one - a @ z @ (15 * one - a @ z @ (7 * one - a @ z))) / 4
    return z


def written_out(size: int, steps: int) -> Equation:
    def by_hand(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        segments = [np.flatnonzero(mask[i : i + size]) + i for i in range(0, len(x), size)]
        q, k, v = (cut(part, H) for part in np.split(x @ p["qkv"], 3, axis=1))
        heads = []
        for h in range(H):
            q_mean, k_mean = (np.stack([a[h][i].mean(0) for i in segments if len(i)]) for a in (q, k))
            root, every = np.sqrt(q.shape[-1]), np.ones(len(q_mean), bool)
            B = softmax(q_mean @ k[h].T / root, mask) @ v[h]
            Z = inverse(softmax(q_mean @ k_mean.T / root, every), steps)
            y = softmax(q[h] @ k_mean.T / root, every) @ Z @ B
            if "filters" in p:
                reach = p["filters"].shape[1] // 2
                for i in range(len(x)):
                    for j in range(max(0, i - reach), min(len(x), i + reach + 1)):
                        y[i] += p["filters"][h, j - i + reach] * v[h, j] * mask[j]
            heads.append(y)
        return join(heads) @ p["out"]

    return by_hand


@pytest.mark.parametrize(("landmarks", "kernel", "steps"), [(4, 5, 6), (3, 0, 2)])
def test_equations_13_and_14(landmarks: int, kernel: int, steps: int) -> None:
    mixer = draw(Mixer, Config(landmarks, kernel, steps), Dims(6, H, 4, 12))
    compare(mixer, written_out(12 // landmarks, steps), X, MASK)


def test_padding_moves_no_segment() -> None:
    mixer = draw(Mixer, Config(landmarks=4, kernel=3), Dims(6, H, 4, 12))
    mask = np.arange(11) < np.array([[7], [5]])
    long, short = apply(mixer, X[:2], mask), apply(mixer, X[:2, :7], mask[:, :7])
    np.testing.assert_allclose(long[0, :7], short[0], atol=1e-5)
    np.testing.assert_allclose(long[1, :5], short[1, :5], atol=1e-5)


def test_the_convolution_begins_as_the_released_codes() -> None:
    """PyTorch's default for one input channel: uniform, at most one over the root of the kernel."""
    filters = np.asarray(Mixer(Config(), Dims(64, 8, 8, 64), rngs=nnx.Rngs(0)).filters[...])
    assert 0.95 * 33**-0.5 < abs(filters).max() <= 33**-0.5
    assert filters.std() == pytest.approx((3 * 33) ** -0.5, rel=0.1)


@pytest.mark.parametrize(
    ("options", "named"), [({"landmarks": 0}, "landmarks"), ({"kernel": 4}, "kernel"), ({"steps": 0}, "steps")]
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
