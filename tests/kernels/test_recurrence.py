"""The recurrence in pieces against one token after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.recurrence import recurrence, recurrence_reference

FORMS = {impl: partial(recurrence, impl=impl) for impl in ("xla", "batched")}


@partial(jax.jit, static_argnums=(0, 1))
def run(f: Callable[..., jax.Array], reverse: bool, a: jax.Array, x: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
    h, pull = jax.vjp(lambda a, x: f(a, x, reverse), a, x)
    return h, *pull(g)


@pytest.mark.parametrize("impl", ["xla", "batched"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("turning", [True, False])
@pytest.mark.parametrize("length", [1, 2, 37, 100])
def test_values_and_gradients(turning: bool, reverse: bool, length: int, impl: str) -> None:
    parts = np.random.default_rng(0).normal(size=(4, 2, length, 3))
    a, x, g = np.array([0.0, 0.5, 0.99]), parts[0], parts[1]
    if turning:
        a, x, g = a * np.exp(1j * np.arange(3)), x + 1j * parts[2], g + 1j * parts[3]
    given = [jnp.asarray(part, jnp.complex64 if turning else jnp.float32) for part in (a, x, g)]
    for b, c in zip(*(run(f, reverse, *given) for f in (FORMS[impl], recurrence_reference)), strict=True):
        assert b.dtype == c.dtype
        np.testing.assert_allclose(b, c, atol=1e-3, rtol=1e-4)


def test_few_steps_one_after_another() -> None:
    jaxpr = jax.make_jaxpr(recurrence)(jnp.ones(3), jnp.ones((1, 4096, 3)))
    assert "length=64" in str(jaxpr)
    assert "length=4096" not in str(jaxpr)
    assert "scan" not in str(jax.make_jaxpr(FORMS["batched"])(jnp.ones(3), jnp.ones((1, 4096, 3))))
