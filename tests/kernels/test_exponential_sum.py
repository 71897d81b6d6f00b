"""Sums of exponentials as products of small matrices, against the whole Vandermonde matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.exponential_sum import CHUNK, continued, exponential_sum, exponential_sum_reference
from lra_bench.kernels.long_convolution import causal_convolution


@pytest.mark.parametrize("turning", [True, False])
@pytest.mark.parametrize("length", [1, 2, 37, 64])
def test_values_and_gradients(turning: bool, length: int) -> None:
    a, b, c, d, e = jax.random.split(jax.random.key(0), 5)
    weight, rate = jax.random.normal(a, (2, 3, 4)), -jax.random.uniform(b, (3, 4))
    if turning:
        weight, rate = weight + 1j * jax.random.normal(c, (2, 3, 4)), rate + 1j * jax.random.normal(d, (3, 4))
    g = jax.random.normal(e, (2, 3, length))
    made = []
    for f in (exponential_sum, exponential_sum_reference):
        k, pull = jax.vjp(lambda weight, rate, f=f: f(weight, rate, length), weight, rate)
        made.append((k, *pull(g)))
    for x, y in zip(*made, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4, rtol=1e-4)


def test_the_whole_matrix_never_exists() -> None:
    weight, rate = jnp.ones((8, 32), jnp.complex64), -jnp.ones((8, 32), jnp.complex64)
    compiled = jax.jit(lambda w, r: exponential_sum(w, r, 65536)).lower(weight, rate).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * 32 * 65536


@pytest.mark.parametrize("turning", [True, False])
def test_a_convolution_goes_on_from_its_state(turning: bool) -> None:
    """One token, whole chunks, and chunks with a rest."""
    a, b, c, d, e = jax.random.split(jax.random.key(0), 5)
    weight, rate = jax.random.normal(a, (3, 4)), -jax.random.uniform(b, (3, 4))
    if turning:
        weight, rate = weight + 1j * jax.random.normal(c, (3, 4)), rate + 1j * jax.random.normal(d, (3, 4))
    ends = [1, 1 + 2 * CHUNK, 2 + 3 * CHUNK]
    x, h, made = jax.random.normal(e, (2, 20 + 5 * CHUNK, 3)), jnp.zeros((2, 3, 4), weight.dtype), []
    for piece in jnp.split(x, ends, axis=1):
        h, y = continued(h, piece, weight, rate)
        made.append(y)
    y = causal_convolution(x, exponential_sum(weight, rate, x.shape[1]))
    np.testing.assert_allclose(jnp.concatenate(made, axis=1), y, atol=1e-4)
