"""Hyena: gates and convolutions by turns, two-sided or causal, with filters written out lag by lag."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Values, apply, compare, draw, texts
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.hyena import Config, Mixer

D, MOST = 4, 20


def filters(p: Values, lags: Iterable[int], whole: Iterable[int]) -> dict[int, np.ndarray]:
    """By lag: [N - 1, D]; divided by the strength of the lags in `whole`."""
    rate = np.linspace(1 / 1.5, 1 / 0.3, D) * np.log(100)
    size = np.sqrt(sum(np.exp(-2 * abs(lag) / MOST * rate) for lag in whole))
    found = {}
    for lag in lags:
        t = lag / MOST
        angle = 2 * np.pi * t * np.linspace(1e-4, 15, 16)
        f = np.concatenate([[t], np.cos(angle), np.sin(angle)])
        for i in range(3):
            f = np.sin(p["sines"] * (f @ p[f"layers.{i}"] + p["biases"][i]))
        found[lag] = np.exp(-abs(t) * rate) * (p["last"] @ f) / size
    found[0] = found[0] + p["now"]
    return found


def plain(causal: bool, p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    L, N = len(x), len(p["last"]) + 1
    z = (x @ p["projections.kernel"] + p["projections.bias"]) * mask[:, None]
    near = lambda t: z[t] if 0 <= t < L else 0 * z[0]  # noqa: E731
    parts = [sum(p["taps"][s] * near(t + s - (2 if causal else 1)) for s in range(3)) + p["shift"] for t in range(L)]
    first, *gates, y = np.split(np.array(parts), N + 1, axis=1)
    both = range(1 - L, L)
    y, h = first * y, filters(p, range(L), range(MOST)) if causal else filters(p, both, both)
    for n, gate in enumerate(gates):
        y = gate * np.array(
            [sum(h[t - s][n] * y[s] * mask[s] for s in range(t + 1 if causal else L)) for t in range(L)]
        )
    return y @ p["out.kernel"] + p["out.bias"]


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize(("length", "causal"), [(11, False), (MOST, False), (11, True)])
def test_the_equations(order: int, length: int, causal: bool) -> None:
    mixer = draw(Mixer, Config(order=order, hidden=5, sine=2.0), Dims(D, 2, 2, MOST, causal=causal))
    compare(mixer, partial(plain, causal), *texts(length, D))


def test_padding_before_and_after_is_not_read() -> None:
    """The short convolution reaches into it, and the long one must not see what it made there."""
    mask = (np.arange(30) >= 5) & (np.arange(30) < 20)
    x = normal(1, 30, D) + jnp.asarray([[0.0], [7.0]])[..., None] * ~mask[:, None]
    y = apply(draw(Mixer, Config(), Dims(D, 2, 2, 40)), x, mask[None].repeat(2, axis=0))
    np.testing.assert_allclose(y[1, mask], y[0, mask], atol=1e-6)


def test_a_filter_is_as_strong_at_every_length() -> None:
    for length in (50, 2000):
        mixer = Mixer(Config(), Dims(64, 2, 2, length), rngs=nnx.Rngs(0))
        mixer.now[...] = jnp.zeros(mixer.now.shape)
        strength = np.square(mixer.filters(length)).sum(-1) ** 0.5
        assert 0.2 < strength.mean() < 0.8


@pytest.mark.parametrize(
    ("options", "named"), [({"order": 1}, "order"), ({"hidden": 0}, "hidden"), ({"sine": 0.0}, "sine")]
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
