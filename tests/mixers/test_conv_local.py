"""Local convolution: the sum over neighbours, and nothing beyond them."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from written_out import agree, sigmoid, texts, unmoved_by_padding

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.conv_local import Config, Mixer


def plain(p: Mapping[str, np.ndarray], x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    a, b = np.split(x @ p["into.kernel"] + p["into.bias"], 2, axis=1)
    u, taps = a * sigmoid(b) * mask[:, None], p["filters"]
    y, reach = np.zeros(u.shape), taps.shape[1] // 2
    for t in range(len(x)):
        for s in range(max(0, t - reach), min(len(x), t + reach + 1)):
            y[t] += taps[:, s - t + reach] * u[s]
    return y @ p["out.kernel"] + p["out.bias"]


@pytest.mark.parametrize("kernel", [1, 5, 31])
def test_the_equation(kernel: int) -> None:
    agree(Mixer(Config(kernel=kernel), Dims(6, 2, 3, 41), rngs=nnx.Rngs(0)), plain, *texts(41, 6))


def test_a_token_sees_exactly_its_neighbours() -> None:
    mixer = Mixer(Config(kernel=5), Dims(6, 2, 3, 41), rngs=nnx.Rngs(0))
    x, mask = texts(41, 6)[0][0], jnp.ones((1, 41), bool)
    slopes = jax.jit(jax.jacrev(lambda x: mixer(x[None], mask, key=None)[0].sum(-1)))(x)
    i, j = np.indices((41, 41))
    np.testing.assert_array_equal(abs(slopes).max(-1) > 0, abs(i - j) <= 2)


def test_appending_padding_changes_nothing() -> None:
    unmoved_by_padding(Mixer(Config(), Dims(6, 2, 3, 60), rngs=nnx.Rngs(0)), texts(41, 6)[0], before=5)


@pytest.mark.parametrize("kernel", [0, 4])
def test_wrong_knobs(kernel: int) -> None:
    with pytest.raises(ConfigError, match="kernel"):
        Config(kernel=kernel)
