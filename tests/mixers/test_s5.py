"""S5: both readings as one token after another, HiPPO-N's eigenvalues, and padding, which the released code reads."""

from __future__ import annotations

import numpy as np
import pytest
from equations import Values, compare, draw, gelu, sigmoid, texts, unmoved_by_padding
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, Dynamics
from lra_bench.mixers.s5 import Config, Mixer, hippo_normal


def plain(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Token by token, from either end, or from the first alone, with both of each conjugate pair."""
    u = x * mask[:, None]
    A = -np.exp(p["log_decay"]) + 1j * p["frequency"]
    Abar = np.exp(A * np.exp(p["log_dt"]))
    Bbar = ((Abar - 1) / A)[:, None] * (p["b"][0] + 1j * p["b"][1])
    y = p["d"] * u
    for direction, order in zip(range(len(p["c"])), (range(len(x)), reversed(range(len(x)))), strict=False):
        C = p["c"][direction, 0] + 1j * p["c"][direction, 1]
        h = h_other = np.zeros(len(A), complex)
        for t in order:
            h, h_other = Abar * h + Bbar @ u[t], Abar.conj() * h_other + Bbar.conj() @ u[t]
            y[t] += (C @ h + C.conj() @ h_other).real
    g = gelu(y)
    return g * sigmoid(g @ p["gate.kernel"] + p["gate.bias"])


@pytest.mark.parametrize("causal", [False, True])
def test_the_equations(causal: bool) -> None:
    mixer = draw(Mixer, Config(states=8, blocks=2), Dims(6, 2, 3, 13, causal=causal))
    mixer.log_dt[...] -= 2  # it remembers for all of the text
    compare(mixer, plain, *texts(13, 6))


def test_padding_is_read_by_neither_reading() -> None:
    mixer = draw(Mixer, Config(states=8, blocks=2), Dims(6, 2, 3, 40))
    unmoved_by_padding(mixer, texts(13, 6)[0], before=5)


def test_it_starts_at_hippo() -> None:
    """HiPPO-LegS [n, k] is -sqrt((2n + 1) (2k + 1)) below the diagonal and -(n + 1) on it; HiPPO-N adds p p^T."""
    n, k = np.indices((8, 8))
    legs = np.where(n > k, -np.sqrt((2 * n + 1) * (2 * k + 1)), np.where(n == k, -(n + 1), 0))
    p = np.sqrt(np.arange(8) + 0.5)
    A, V = hippo_normal(8)
    np.testing.assert_allclose(2 * ((V * A) @ V.conj().T).real, legs + np.outer(p, p), atol=1e-9)
    mixer = Mixer(Config(states=16, blocks=2), Dims(6, 2, 3, 13), rngs=nnx.Rngs(0))
    np.testing.assert_allclose(mixer.frequency[...], np.tile(A.imag, 2), rtol=1e-5)
    assert all(isinstance(part, Dynamics) for part in (mixer.log_dt, mixer.log_decay, mixer.frequency, mixer.b))


@pytest.mark.parametrize(
    ("start", "size"),
    [("lecun_normal", (2 / 64 / 64) ** 0.5), ("trunc_standard_normal", (2 / 64) ** 0.5), ("complex_normal", 1.0)],
)
def test_where_c_starts(start: str, size: float) -> None:
    """A drawn matrix [D, P] of variance 1 / D P or 1 / P times unit eigenvectors, whose columns keep its size."""
    C = Mixer(Config(start=start), Dims(64, 2, 32, 13), rngs=nnx.Rngs(0)).c[...]
    assert np.sqrt(np.square(C).sum(1).mean()) == pytest.approx(size, rel=0.05)
    for part in np.swapaxes(C, 0, 1):
        assert np.sqrt(np.square(part).mean()) == pytest.approx(size * 0.5**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"states": 12}, "states"), ({"blocks": 0}, "blocks"), ({"dt_min": 0.0}, "dt_min"), ({"start": "big"}, "start")],
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
