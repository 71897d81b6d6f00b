"""FNet: its transform, and padding, which is zero and still counts."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Values, apply, compare, draw, texts

from lra_bench.mixers.base import Dims
from lra_bench.mixers.fnet import Config, Mixer


@pytest.mark.parametrize("unitary", [True, False])
def test_the_equation(unitary: bool) -> None:
    def plain(_: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        (L, D), x = x.shape, x * mask[:, None]
        m, e = np.indices((L, D))
        waves = [[np.cos(2 * np.pi * (m * i / L + e * d / D)) for d in range(D)] for i in range(L)]
        y = sum(x[i, d] * waves[i][d] for i in range(L) for d in range(D))
        return y / (L * D) ** 0.5 if unitary else y

    compare(draw(Mixer, Config(unitary=unitary), Dims(6, 2, 3, 11)), plain, *texts(11, 6))


def test_the_output_is_as_large_as_the_input() -> None:
    x = normal(2, 300, 8)
    y = apply(draw(Mixer, Config(), Dims(8, 2, 4, 300)), x, jnp.ones((2, 300), bool))
    assert 0.9 < float(y.std() / x.std()) * 2**0.5 < 1.1  # half of the energy is in the imaginary part
