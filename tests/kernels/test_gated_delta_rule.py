"""The gated delta rule in chunks against one token after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, widened

from lra_bench.kernels.gated_delta_rule import (
    causal_gated_delta_rule,
    gated_delta_rule,
    gated_delta_rule_reference,
    two_readings,
)


def arrays(length: int, dtype: type = jnp.float32) -> tuple[jax.Array, ...]:
    """q, k of length 1, v, the gates' logarithms, beta and dL/dy."""
    rng = np.random.default_rng(length)
    q, v, pulled = (normal(2, 2, length, width, seed=rng, dtype=dtype) for width in (4, 6, 6))
    k, (g, beta) = rng.normal(size=q.shape), rng.normal(size=(2, 2, 2, length))
    k = jnp.asarray(k / np.linalg.norm(k, axis=-1, keepdims=True), dtype)
    log_gates, beta = -np.log1p(np.exp(3 * g)), 1 / (1 + np.exp(beta))
    return q, k, v, jnp.asarray(log_gates, jnp.float32), jnp.asarray(beta, jnp.float32), pulled


@partial(jax.jit, static_argnums=0)
def run(rule: Callable[..., jax.Array], *arrays: jax.Array) -> tuple[jax.Array, ...]:
    y, pull = jax.vjp(rule, *arrays[:-1])
    return y, *pull(arrays[-1])


@pytest.mark.parametrize(
    ("length", "impl"), [(1, "xla"), (32, "xla"), (37, "xla"), (100, "xla"), (1, "batched"), (100, "batched")]
)
def test_values_and_gradients(length: int, impl: str) -> None:
    rule = partial(causal_gated_delta_rule, impl=impl)
    made = [run(f, *arrays(length)) for f in (rule, gated_delta_rule_reference)]
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3)


def read_twice(*inputs: jax.Array) -> jax.Array:
    ends = [jnp.flip(x, axis=2) for x in inputs[:3]]
    gates = [jnp.split(x.swapaxes(1, 2), 2, axis=1) for x in inputs[3:]]
    there = gated_delta_rule_reference(*inputs[:3], *(first for first, _ in gates))
    return there + jnp.flip(gated_delta_rule_reference(*ends, *(jnp.flip(x, 2) for _, x in gates)), axis=2)


def gated_twice(length: int, dtype: type = jnp.float32) -> tuple[jax.Array, ...]:
    """The arrays, with gates of a second reading."""
    q, k, v, g, beta, pulled = arrays(length, dtype)
    return q, k, v, *(jnp.concatenate([x, 0.5 * x[::-1]], axis=1).swapaxes(1, 2) for x in (g, beta)), pulled


@pytest.mark.parametrize(("length", "impl"), [(37, "xla"), (150, "batched")])
def test_readings_from_both_ends(length: int, impl: str) -> None:
    made = [run(f, *gated_twice(length)) for f in (partial(two_readings, impl=impl), read_twice)]
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3)


def test_gates_that_forget_almost_all_have_an_exact_gradient_in_bfloat16() -> None:
    """It is then a thousandth of the terms that it could be the difference of."""
    q, k, v, g, *rest = gated_twice(150, jnp.bfloat16)
    half = q, k, v, 3 * g - 5, *rest
    made, exact = run(partial(two_readings, impl="batched"), *half), run(read_twice, *widened(half))
    for a, b in zip(made, exact, strict=True):
        assert np.linalg.norm(np.float32(a) - b) <= 0.01 * np.linalg.norm(b)


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_the_chunk_changes_nothing(chunk: int) -> None:
    *inputs, _ = arrays(37)
    run = jax.jit(gated_delta_rule, static_argnums=5)
    np.testing.assert_allclose(run(*inputs, chunk), run(*inputs), atol=1e-5)


def test_a_value_replaces_what_its_key_held() -> None:
    """Linear attention would add the two."""
    k, v = jnp.asarray(np.eye(4, dtype=np.float32)[[0, 1, 0]][None, None]), normal(1, 1, 3, 6)
    y = jax.jit(gated_delta_rule)(k, k, v, jnp.zeros((1, 1, 3)), jnp.ones((1, 1, 3)))
    np.testing.assert_allclose(y[0, 0, 2], v[0, 0, 2], atol=1e-6)


def test_the_same_key_again_and_again() -> None:
    """The system is then as far from the identity as it can be."""
    q, k, v, g, _, pulled = arrays(100)
    k = jnp.broadcast_to(k[:, :, :1], k.shape)
    inputs = (q, k, v, 0 * g, jnp.ones_like(g), pulled)
    for a, b in zip(*(run(f, *inputs) for f in (gated_delta_rule, gated_delta_rule_reference)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-3)


def test_bfloat16() -> None:
    half = arrays(37, jnp.bfloat16)
    y = run(gated_delta_rule, *half)[0]
    exact = run(gated_delta_rule_reference, *widened(half))[0]
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y), exact, atol=0.03 * float(abs(exact).max()))
