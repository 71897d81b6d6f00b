"""Mega: the moving average from both ends or from the first token, and gated attention in chunks or over everything."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from equations import Values, compare, draw, sigmoid, silu, texts, unmoved_by_padding, values
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, Dynamics
from lra_bench.mixers.mega import Config, Mixer

D, Z = 4, 3
DIMS = Dims(D, 2, 2, 13)


def averages(p: Values, x: np.ndarray) -> np.ndarray:
    """Equations 5 and 6 from either end, or from the first token alone."""
    alpha, delta = sigmoid(p["alpha"]), sigmoid(p["delta"])
    y = np.zeros(x.shape)
    for i, order in zip(range(len(alpha)), (range(len(x)), reversed(range(len(x)))), strict=False):
        u = np.zeros(alpha[i].shape)
        for t in order:
            u = alpha[i] * p["beta"][i] * x[t][:, None] + (1 - alpha[i] * delta[i]) * u
            y[t] += (p["eta"][i] * u).sum(1) / math.sqrt(u.shape[1])
    return y


def plain(c: int, laplace: bool, causal: bool, p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    average = silu(averages(p, x * mask[:, None]) + p["omega"] * x)
    z, r, g, h = np.split(average @ p["averaged.kernel"] + p["averaged.bias"], [Z, Z + 2 * D, Z + 3 * D], axis=1)
    q, k = (p["kappa"][i] * silu(z) + p["mu"][i] for i in range(2))
    v = silu(x @ p["values.kernel"] + p["values.bias"])
    o = np.zeros(v.shape)
    for i in range(len(x)):
        keys = [j for j in range(i // c * c, i + 1 if causal else min(len(x), i // c * c + c)) if mask[j]]
        bias = np.array([p["distances"][i - j + (0 if causal else c - 1)] for j in keys])
        if laplace:
            logits = np.array([q[i] @ k[j] for j in keys]) / max(len(keys), 1) + bias
            spread = math.sqrt(1 / (4 * math.pi))
            weights = np.array([(1 + math.erf((s - math.sqrt(0.5)) / spread / math.sqrt(2))) / 2 for s in logits])
        else:
            weights = np.exp(np.array([q[i] @ k[j] for j in keys]) / math.sqrt(Z) + bias)
            weights = weights / weights.sum() if keys else weights
        o[i] = sum((w * v[j] for w, j in zip(weights, keys, strict=True)), np.zeros(2 * D))
    return sigmoid(g) * silu(h + (silu(r) * o) @ p["attended"])


@pytest.mark.parametrize("laplace", [False, True])
@pytest.mark.parametrize(("chunk", "causal"), [(5, False), (0, False), (5, True)])
def test_the_equations(chunk: int, laplace: bool, causal: bool) -> None:
    mixer = draw(Mixer, Config(chunk=chunk, ema=3, shared=Z, laplace=laplace), replace(DIMS, causal=causal))
    compare(mixer, partial(plain, chunk or 13, laplace, causal), *texts(13, D))


@pytest.mark.parametrize("laplace", [False, True])
def test_appending_padding_changes_nothing(laplace: bool) -> None:
    """The Laplace function's divisor is the number of tokens that are there."""
    mixer = draw(Mixer, Config(chunk=5, ema=3, shared=Z, laplace=laplace), Dims(D, 2, 2, 40))
    unmoved_by_padding(mixer, texts(13, D)[0])


def test_a_moving_average_that_keeps_nothing() -> None:
    """alpha = delta = 1: its logarithm would be infinite."""
    mixer = draw(Mixer, Config(ema=3, shared=Z), DIMS)
    mixer.alpha[...] = mixer.delta[...] = jnp.full(mixer.alpha.shape, 50.0)
    kept = mixer.filters(13)
    np.testing.assert_allclose(kept[..., 0], (mixer.beta[...] * mixer.eta[...]).sum(-1) / math.sqrt(3), rtol=1e-5)
    np.testing.assert_allclose(kept[..., 1:], 0, atol=1e-5)
    assert all(isinstance(part, Dynamics) for part in (mixer.alpha, mixer.delta, mixer.beta))


def test_it_begins_as_the_authors_code() -> None:
    mixer = Mixer(Config(), Dims(64, 2, 32, 256), rngs=nnx.Rngs(0))
    small = {"averaged.kernel", "values.kernel", "attended", "kappa", "distances"}
    spread = {name: array.std() for name, array in values(mixer).items()}
    assert all(0.9 * 0.02 < spread[name] < 1.1 * 0.02 for name in small)
    assert all(0.8 < spread[name] < 1.2 for name in ("eta", "omega"))
    assert not any(values(mixer)[name].any() for name in ("mu", "averaged.bias", "values.bias"))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"chunk": -1}, "chunk"), ({"ema": 0}, "ema"), ({"shared": 0}, "shared"), ({"expand": 0}, "expand")],
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
