"""Convolution by Fourier transforms against the sum: values and gradients, both sides."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.long_convolution import (
    at_latest,
    causal_convolution,
    long_convolution,
    long_convolution_reference,
    two_sided,
)


def arrays(length: int, dtype: type = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array]:
    a, b, c = jax.random.split(jax.random.key(length), 3)
    x, g = (jax.random.normal(key, (2, length, 3)).astype(dtype) for key in (a, b))
    return x, jax.random.normal(c, (3, 2 * length - 1)), g


def run(convolve: Callable[..., jax.Array], x: jax.Array, k: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
    y, pull = jax.vjp(convolve, x, k)
    return y, *pull(g)


@pytest.mark.parametrize("length", [1, 2, 37, 64])
def test_values_and_gradients(length: int) -> None:
    for a, b in zip(*(run(f, *arrays(length)) for f in (long_convolution, long_convolution_reference)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_nothing_comes_round_from_the_other_end() -> None:
    x = jnp.zeros((1, 40, 3)).at[:, -1].set(1.0)
    past = two_sided(jnp.ones((3, 40)), jnp.zeros((3, 40)))
    np.testing.assert_allclose(long_convolution(x, past)[0, :-1], 0, atol=1e-6)


def test_both_sides_are_two_readings() -> None:
    x, k, _ = arrays(9)
    forward, backward = k[:, :9], k[:, 8:]
    y = np.zeros((2, 9, 3))
    for t in range(9):
        for s in range(t + 1):
            y[:, t] += np.asarray(forward[:, t - s] * x[:, s])
            y[:, 8 - t] += np.asarray(backward[:, t - s] * x[:, 8 - s])
    np.testing.assert_allclose(long_convolution(x, two_sided(forward, backward)), y, atol=1e-5)


def test_bfloat16() -> None:
    x, k, g = arrays(37, jnp.bfloat16)
    full = run(long_convolution_reference, x.astype(jnp.float32), k, g.astype(jnp.float32))
    half = run(long_convolution, x, k, g)
    assert [a.dtype for a in half] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    for a, b in zip(half, full, strict=True):
        np.testing.assert_allclose(np.float32(a), b, atol=0.02 * float(abs(b).max()))


@pytest.mark.parametrize("length", [1, 2, 37, 64, 100])
def test_halves_are_the_sum_over_earlier_tokens(length: int) -> None:
    """With leaves of up to 8 tokens there are as many as four halvings; the reference has no later lag."""
    x, k, g = arrays(length)
    past = jnp.where(jnp.arange(2 * length - 1) >= length - 1, k, 0)
    y, dx, dk = run(lambda x, k: causal_convolution(x, k, 8), x, k[:, length - 1 :], g)
    exact = run(long_convolution_reference, x, past, g)
    for a, b in zip((y, dx, dk), (*exact[:2], exact[2][:, length - 1 :]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_no_later_token_is_in_a_rounding() -> None:
    x, k, g = arrays(100)
    late = jnp.arange(100)[:, None] >= 50
    convolve = jax.jit(lambda x: causal_convolution(x, k[:, 99:], 8))
    np.testing.assert_array_equal(convolve(jnp.where(late, 1e4 * g, x))[:, :50], convolve(x)[:, :50])


@pytest.mark.parametrize("slots", [20, 32])
def test_values_of_a_token_are_those_of_its_place_in_the_text(slots: int) -> None:
    """From a ring that is full at the end, and one with room to spare."""
    x, k, _ = arrays(20)
    ring, past = jnp.zeros((2, slots, 3)), jnp.pad(k[:, 19:], ((0, 0), (0, slots - 20))).T
    made = []
    for place in range(20):
        made.append(at_latest(ring, x[:, place], past, jnp.int32(place)))
        ring = ring.at[:, place].set(x[:, place])
    np.testing.assert_allclose(jnp.stack(made, axis=1), causal_convolution(x, k[:, 19:]), atol=1e-5)


def test_values_of_a_token_beyond_a_ring_are_of_the_latest_ones() -> None:
    x, k, _ = arrays(20)
    ring = jnp.zeros((2, 8, 3))
    for place in range(19):
        ring = ring.at[:, place % 8].set(x[:, place])
    whole = causal_convolution(x, jnp.where(jnp.arange(20) < 8, k[:, 19:], 0))
    np.testing.assert_allclose(at_latest(ring, x[:, 19], k[:, 19:27].T, jnp.int32(19)), whole[:, 19], atol=1e-5)
