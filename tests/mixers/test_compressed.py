"""Memory-compressed attention: the convolution token by token, with padding as zeros and cells of padding unseen."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Equation, Values, attention, compare, cut, draw, join, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.compressed import Config, Mixer


def written_out(kernel: int, stride: int, *, causal: bool = False) -> Equation:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        Q, K, V = np.split(x @ p["qkv"], 3, axis=1)
        starts = range(0, len(x), stride)

        def compressed(X: np.ndarray, C: np.ndarray) -> np.ndarray:
            taps = np.split(C, kernel)
            cells = [[X[n + t] * mask[n + t] @ taps[t] for t in range(kernel) if n + t < len(x)] for n in starts]
            return np.stack([sum(cell) for cell in cells])

        seen = np.array([mask[n : n + kernel].any() for n in starts])
        ended = np.array([[n + kernel <= i + 1 for n in starts] for i in range(len(x))])
        seen = seen & (ended | (not causal))
        K, V = compressed(K, p["compress_k"]), compressed(V, p["compress_v"])
        return join(attention(cut(Q), cut(K), cut(V), seen)) @ p["out"]

    return equation


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 3), (4, 2)])
def test_the_equation(kernel: int, stride: int, causal: bool) -> None:
    mixer = draw(Mixer, Config(kernel, stride), Dims(8, 2, 4, 14, causal=causal))
    compare(mixer, written_out(kernel, stride, causal=causal), *texts(13, 8))


@pytest.mark.parametrize(("options", "named"), [({"stride": 0}, "stride"), ({"kernel": 2}, "kernel")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
