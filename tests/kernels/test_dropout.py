"""Dropout's noise: its rate, its independence between positions, keys, steps and examples, and its determinism."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.dropout import bits, dropout, dropout_reference

KEY = jax.random.key(0)
SHAPE = (64, 128, 64)


def kept(key: jax.Array, rate: float = 0.5) -> np.ndarray:
    return np.asarray(dropout(jnp.ones(SHAPE), key, rate) > 0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_overall_and_on_every_axis(rate: float) -> None:
    mask = kept(KEY, rate)
    for axes in [(0, 1, 2), (0, 1), (0, 2), (1, 2)]:
        n = np.prod([SHAPE[a] for a in axes])
        z = (mask.mean(axes) - (1 - rate)) / np.sqrt(rate * (1 - rate) / n)
        assert abs(z).max() < 5, f"axes {axes}"
    if rate == 0.5:
        assert 0.8 < np.std((mask.mean((0, 1)) - 0.5) * 2 * np.sqrt(64 * 128)) < 1.2  # not too even either


def test_no_correlation() -> None:
    mask = 2.0 * kept(KEY) - 1
    n = mask.size
    others = {f"position +{d}": np.roll(mask.ravel(), d).reshape(SHAPE) for d in (1, 2, 3, 64, 127, 128, 8192)}
    others["another key"] = 2.0 * kept(jax.random.key(1)) - 1
    for i, key in enumerate(jax.random.split(KEY, 3)):
        others[f"split {i}"] = 2.0 * kept(key) - 1
    others["next step"] = 2.0 * kept(jax.random.fold_in(KEY, 1)) - 1
    for what, other in others.items():
        assert abs((mask * other).mean()) * np.sqrt(n) < 5, what


def test_each_bit_is_a_fair_coin_and_words_hardly_repeat() -> None:
    words = np.asarray(bits(KEY, (1 << 18,)))
    for i in range(32):
        assert abs(((words >> i) & 1).mean() - 0.5) * 2 * np.sqrt(len(words)) < 5, f"bit {i}"
    assert len(np.unique(words)) == len(words)  # a bijection of the index


def test_gradient_meets_the_same_noise() -> None:
    x = jax.random.normal(KEY, (50, 30))
    y, pull = jax.vjp(lambda x: dropout(x, KEY, 0.3), x)
    np.testing.assert_allclose(pull(jnp.ones_like(x))[0] * x, y, rtol=1e-6)
    np.testing.assert_array_equal(y, dropout_reference(x, KEY, 0.3))
    plain = jax.grad(lambda x: dropout_reference(x, KEY, 0.3).sum())(x)
    np.testing.assert_array_equal(plain, pull(jnp.ones_like(x))[0])


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from lra_bench.kernels.dropout import dropout
assert jax.device_count() == 4
x = jnp.ones((8, 16, 4))
whole = jax.jit(lambda x: dropout(x, jax.random.key(0), 0.5))(x)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
cut = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
parts = jax.jit(lambda x: dropout(x, jax.random.key(0), 0.5))(cut)
assert len(parts.sharding.device_set) == 4
np.testing.assert_array_equal(whole, parts)
"""


def test_any_number_of_devices_draws_the_same() -> None:
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", SHARDED], env=env, check=True)
