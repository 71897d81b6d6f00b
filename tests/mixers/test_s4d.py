"""S4D: the convolution is the recurrence of both readings, and where A and dt start."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from equations import Values, compare, draw, gelu, sigmoid, texts, unmoved_by_padding
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, Dynamics
from lra_bench.mixers.s4d import Config, Mixer

DIMS = Dims(6, 2, 3, 13)


def plain(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Token by token, channel by channel, from either end, or from the first alone."""
    u = x * mask[:, None]
    A = -np.exp(p["log_decay"]) + 1j * p.get("frequency", 0)
    Abar = np.exp(A * np.exp(p["log_dt"])[:, None])
    pairs = "frequency" in p
    y = p["d"] * u
    for direction, order in zip(range(len(p["c"])), (range(len(x)), reversed(range(len(x)))), strict=False):
        C = p["c"][direction, 0] + (1j * p["c"][direction, 1] if pairs else 0)
        h = np.zeros(A.shape, complex)
        for t in order:
            h = Abar * h + (Abar - 1) / A * u[t][:, None]
            y[t] += (2 if pairs else 1) * (C * h).sum(1).real
    a, b = np.split(gelu(y) @ p["out.kernel"] + p["out.bias"], 2, axis=1)
    return a * sigmoid(b)


@pytest.mark.parametrize(
    ("start", "causal"), [("lin", False), ("inv", False), ("real", False), ("lin", True), ("real", True)]
)
def test_the_equations(start: str, causal: bool) -> None:
    mixer = draw(Mixer, Config(states=4, start=start), replace(DIMS, causal=causal))
    mixer.log_dt[...] -= 2  # it remembers for all of the text
    compare(mixer, plain, *texts(13, 6))


def test_appending_padding_changes_nothing() -> None:
    unmoved_by_padding(draw(Mixer, Config(states=8), Dims(6, 2, 3, 40)), texts(13, 6)[0], before=5)


def test_where_it_starts() -> None:
    """The eigenvalues of the paper's section 4, for N = 4; steps between 0.001 and 0.1."""
    starts = {
        "lin": [-0.5, -0.5 + 1j * np.pi],
        "inv": [-0.5 + 12j / np.pi, -0.5 + 4j / np.pi / 3],
        "real": [-1, -2, -3, -4],
    }
    for start, A in starts.items():
        mixer = Mixer(Config(states=4, start=start), Dims(200, 2, 3, 13), rngs=nnx.Rngs(0))
        frequency = mixer.frequency[0] if mixer.complex else 0
        assert np.square(mixer.c[...]).sum(1).mean() == pytest.approx(1, abs=0.1)
        np.testing.assert_allclose(-jnp.exp(mixer.log_decay[0]) + 1j * frequency, A, rtol=1e-5)
        dt = np.exp(mixer.log_dt[...])
        assert 1e-3 <= dt.min() < 2e-3 < 5e-2 < dt.max() <= 0.1
        assert all(isinstance(p, Dynamics) for p in (mixer.log_dt, mixer.log_decay))


@pytest.mark.parametrize(
    ("options", "named"), [({"states": 5}, "states"), ({"start": "legs"}, "start"), ({"dt_min": 1.0}, "dt_min")]
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
