"""Local convolution: the sum over neighbors, and nothing beyond them."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Values, compare, draw, seen, sigmoid, texts, unmoved_by_padding

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.conv_local import Config, Mixer


def plain(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    a, b = np.split(x @ p["into.kernel"] + p["into.bias"], 2, axis=1)
    u, taps = a * sigmoid(b) * mask[:, None], p["filters"]
    y, reach = np.zeros(u.shape), taps.shape[1] // 2
    for t in range(len(x)):
        for s in range(max(0, t - reach), min(len(x), t + reach + 1)):
            y[t] += taps[:, s - t + reach] * u[s]
    return y @ p["out.kernel"] + p["out.bias"]


@pytest.mark.parametrize("kernel", [1, 5, 31])
def test_the_equation(kernel: int) -> None:
    compare(draw(Mixer, Config(kernel=kernel), Dims(6, 2, 3, 41)), plain, *texts(41, 6))


def test_the_causal_equation_looks_back() -> None:
    """Every filter is as many places later as it has taps to one side."""

    def behind(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        a, b = np.split(x @ p["into.kernel"] + p["into.bias"], 2, axis=1)
        u, taps = a * sigmoid(b) * mask[:, None], p["filters"]
        T = taps.shape[1]
        y = np.array([sum(taps[:, T - 1 - d] * u[t - d] for d in range(min(T, t + 1))) for t in range(len(x))])
        return y @ p["out.kernel"] + p["out.bias"]

    compare(draw(Mixer, Config(kernel=5), Dims(6, 2, 3, 41, causal=True)), behind, *texts(41, 6))


def test_a_token_sees_exactly_its_neighbors() -> None:
    mixer = draw(Mixer, Config(kernel=5), Dims(6, 2, 3, 41))
    i, j = np.indices((41, 41))
    np.testing.assert_array_equal(seen(mixer, np.ones(41, bool), 6), abs(i - j) <= 2)


def test_appending_padding_changes_nothing() -> None:
    unmoved_by_padding(draw(Mixer, Config(), Dims(6, 2, 3, 60)), texts(41, 6)[0], before=5)


@pytest.mark.parametrize("kernel", [0, 4])
def test_wrong_options(kernel: int) -> None:
    with pytest.raises(ConfigError, match="kernel"):
        Config(kernel=kernel)
