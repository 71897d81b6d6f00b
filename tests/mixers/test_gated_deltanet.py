"""Gated DeltaNet: both readings as one token after another, each with its own gates."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from equations import Values, compare, draw, sigmoid, silu, texts, unmoved_by_padding
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.kernels import gated_delta_rule
from lra_bench.mixers.base import Dims, Dynamics
from lra_bench.mixers.gated_deltanet import Config, Mixer

H, K = 2, 3


def plain(p: Values, x: np.ndarray, mask: np.ndarray, readings: int = 2) -> np.ndarray:
    """The first of as many readings; of one, the last tap of the short convolution is the token's own."""
    L, J = len(x), H * K
    T, R = len(p["taps"]), readings * H
    ahead = T // 2 if readings == 2 else 0
    z = x @ p["qkvr"]
    near = lambda t: z[t, : 3 * J] * mask[t] if 0 <= t < L else np.zeros(3 * J)  # noqa: E731
    mixed = silu(np.array([sum(p["taps"][s] * near(t + s - T + 1 + ahead) for s in range(T)) for t in range(L)]))
    gates = x @ p["gates.kernel"] + p["gates.bias"]
    a, beta = np.exp(-np.exp(p["log_a"]) * np.log1p(np.exp(gates[:, :R] + p["dt"]))), sigmoid(gates[:, R:])
    rows = []
    for h in range(H):
        q, k, v = (mixed[:, i * J + h * K : i * J + h * K + K] for i in range(3))
        q, k = (part / np.sqrt((part**2).sum(1, keepdims=True) + 1e-6) for part in (q, k))
        o = np.zeros((L, K))
        for direction, order in enumerate((range(L), reversed(range(L)))[:readings]):
            S, head = np.zeros((K, K)), direction * H + h
            for t in order:
                if mask[t]:
                    erased = np.eye(K) - beta[t, head] * np.outer(k[t], k[t])
                    S = a[t, head] * erased @ S + beta[t, head] * np.outer(k[t], v[t])
                o[t] += S.T @ q[t] * K**-0.5
        rows.append(o / np.sqrt((o**2).mean(1, keepdims=True) + 1e-6) * p["scale"])
    return (silu(z[:, 3 * J :]) * np.concatenate(rows, axis=1)) @ p["out"]


def test_the_equations() -> None:
    compare(draw(Mixer, Config(), Dims(6, H, K, 13)), plain, *texts(13, 6))


@pytest.mark.parametrize("impl", ["xla", "batched"])
def test_the_causal_equation_is_one_reading(impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """19 tokens are several chunks."""
    monkeypatch.setattr(gated_delta_rule, "WIDE", 8)
    monkeypatch.setattr(gated_delta_rule.gated_delta_rule, "__defaults__", (8,))
    mixer = draw(Mixer, Config(impl=impl), Dims(6, H, K, 19, causal=True))
    assert mixer.taps.shape == (4, 3 * H * K)
    compare(mixer, partial(plain, readings=1), *texts(19, 6))


def test_padding_is_read_by_neither_reading() -> None:
    unmoved_by_padding(draw(Mixer, Config(), Dims(6, H, K, 40)), texts(13, 6)[0], before=5)


def test_where_it_starts() -> None:
    mixer = Mixer(Config(), Dims(200, 100, 2, 40), rngs=nnx.Rngs(0))
    dt, a = np.log1p(np.exp(mixer.dt[...])), np.exp(mixer.log_a[...])
    assert 1e-3 <= dt.min() * 1.001 < 2e-3 < 5e-2 < dt.max() <= 0.1001
    assert 1 <= a.min() < a.max() <= 16
    assert all(isinstance(part, Dynamics) for part in (mixer.dt, mixer.log_a))


@pytest.mark.parametrize(("options", "named"), [({"dt_min": 0.0}, "dt_min"), ({"dt_max": 1e-4}, "dt_max")])
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
