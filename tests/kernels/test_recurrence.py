"""The recurrence in pieces against one token after another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.recurrence import recurrence, recurrence_reference

pytestmark = pytest.mark.sweep  # its mixers are held to their equations, with gradients, by a faster test


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("turning", [True, False])
@pytest.mark.parametrize("length", [1, 2, 37, 100])
def test_values_and_gradients(turning: bool, reverse: bool, length: int) -> None:
    parts = [jax.random.normal(key, (2, length, 3)) for key in jax.random.split(jax.random.key(0), 4)]
    a, x, g = jnp.array([0.0, 0.5, 0.99]), parts[0], parts[1]
    if turning:
        a, x, g = a * jnp.exp(1j * jnp.arange(3)), x + 1j * parts[2], g + 1j * parts[3]
    made = []
    for f in (recurrence, recurrence_reference):
        h, pull = jax.vjp(lambda a, x, f=f: f(a, x, reverse), a, x)
        made.append((h, *pull(g)))
    for b, c in zip(*made, strict=True):
        assert b.dtype == c.dtype
        np.testing.assert_allclose(b, c, atol=1e-3, rtol=1e-4)


def test_few_steps_one_after_another() -> None:
    jaxpr = jax.make_jaxpr(recurrence)(jnp.ones(3), jnp.ones((1, 4096, 3)))
    assert "length=64" in str(jaxpr)
    assert "length=4096" not in str(jaxpr)
