"""Linear recurrent unit: both readings as one token after another, and the ring it starts on."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Values, compare, draw, gelu, sigmoid, texts, unmoved_by_padding
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, Dynamics
from lra_bench.mixers.lru import Config, Mixer


def plain(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Token by token, from either end, or from the first alone."""
    u = x * mask[:, None]
    a, B = np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"])), p["b"][0] + 1j * p["b"][1]
    y = p["d"] * u
    for direction, order in zip(range(len(p["c"])), (range(len(x)), reversed(range(len(x)))), strict=False):
        C = (p["c"][direction, 0] + 1j * p["c"][direction, 1]).T
        h = np.zeros(len(a), complex)
        for t in order:
            h = a * h + np.exp(p["gamma"]) * (B @ u[t])
            y[t] += (C @ h).real
    first, second = np.split(gelu(y) @ p["out.kernel"] + p["out.bias"], 2, axis=1)
    return first * sigmoid(second)


@pytest.mark.parametrize("causal", [False, True])
def test_the_equations(causal: bool) -> None:
    mixer = draw(Mixer, Config(states=5), Dims(6, 2, 3, 13, causal=causal))
    mixer.nu[...] -= 2  # it remembers for all of the text
    compare(mixer, plain, *texts(13, 6))


def test_padding_is_read_by_neither_reading() -> None:
    unmoved_by_padding(draw(Mixer, Config(states=5), Dims(6, 2, 3, 40)), texts(13, 6)[0], before=5)


def test_where_it_starts() -> None:
    """Evenly on the ring: half of it is where |lambda|^2 is below the middle; gamma makes the state's size 1."""
    mixer = Mixer(Config(states=2000, radius_min=0.5, radius_max=0.9, phase=1.0), Dims(6, 2, 3, 13), rngs=nnx.Rngs(0))
    size, angle = np.exp(-np.exp(mixer.nu[...])), np.exp(mixer.theta[...])
    assert 0.5 <= size.min() < size.max() <= 0.9
    assert 0.45 < (size**2 < (0.25 + 0.81) / 2).mean() < 0.55
    assert angle.max() <= 1
    np.testing.assert_allclose(np.exp(mixer.gamma[...]), np.sqrt(1 - size**2), rtol=1e-4)
    assert all(isinstance(part, Dynamics) for part in (mixer.nu, mixer.theta, mixer.gamma, mixer.b))


@pytest.mark.parametrize(
    ("options", "named"), [({"states": 0}, "states"), ({"radius_max": 1.0}, "radius_max"), ({"phase": 7.0}, "phase")]
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
