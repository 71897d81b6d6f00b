"""Rotary positions: the pairs are complex numbers turned, and only the distance is seen."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.rotary import rotary, rotary_reference


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients(dtype: type) -> None:
    x, g = jax.random.normal(jax.random.key(0), (2, 2, 3, 33, 6)).astype(dtype)
    for a, b in zip(*((y, *pull(g)) for y, pull in (jax.vjp(f, x) for f in (rotary, rotary_reference))), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(np.float32(a), np.float32(b), atol=1e-5 if dtype == jnp.float32 else 2e-2)


def test_only_the_distance_is_seen() -> None:
    q, k = (jnp.broadcast_to(v, (1, 1, 40, 8)) for v in jax.random.normal(jax.random.key(1), (2, 8)))
    scores = np.asarray(rotary(q)[0, 0] @ rotary(k)[0, 0].T)
    for distance in (-7, 0, 12):
        np.testing.assert_allclose(np.diag(scores, distance), scores[max(0, -distance), max(0, distance)], rtol=1e-4)
    assert abs(scores[0, 0] - scores[0, 12]) > 0.1


def test_the_angle_of_the_paper() -> None:
    x = jnp.zeros((1, 1, 6, 4)).at[..., 1].set(1.0)  # the second pair: entries 1 and 3
    angle = 5 * 10000 ** (-2 / 4)
    np.testing.assert_allclose(rotary(x)[0, 0, 5], [0, np.cos(angle), 0, np.sin(angle)], atol=1e-6)
