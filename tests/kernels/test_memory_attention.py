"""Attention to segments and to what is kept of earlier ones: the kernel's turned queries and keys against a row of
positions for each distance."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal

from lra_bench.kernels.impl import BATCHED, FORMS
from lra_bench.kernels.memory_attention import Memory, cached, form, memory_attention

B, H, N, S, K, D = 2, 2, 5, 4, 3, 5
KERNEL = FORMS["cpu"]


def kept(rows: int, rng: np.random.Generator, **seen: int) -> Memory:
    there = jnp.asarray(rng.random((B, 1, N, rows, 1)) < 0.7)
    k, v = (normal(B, H, N, rows, K, seed=rng) for _ in range(2))
    return Memory(k, v, there, **seen)


@partial(jax.jit, static_argnums=(0, 1))
def pulled(impl: str, causal: bool, past: Memory, cells: Memory | None, *rest: jax.Array) -> list[jax.Array]:
    *given, g = rest

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, past: Memory, cells: Memory | None, *learned: jax.Array):
        return memory_attention(q, k, v, past, *learned, cells=cells, causal=causal, impl=impl)

    out, pull = jax.vjp(attend, *given[:3], past, cells, *given[3:])
    return [x for x in (out, *jax.tree.leaves(pull(g))) if x.dtype == jnp.float32]


@pytest.mark.parametrize(
    ("count", "older", "causal"), [(2, None, True), (0, None, False), (1, 3, False), (2, 1, False)]
)
def test_values_and_gradients(count: int, older: int | None, causal: bool) -> None:
    """Of memories of tokens, and of cells of two tokens before them."""
    rng = np.random.default_rng(0)
    past = kept(S, rng, count=count)
    cells = None if older is None else kept(S // 2, rng, count=older, skip=count)
    shapes = [(B, H, N, S, K)] * 3 + [(D, H * K), (H, K), (H, K), (B, H, N, S, K)]
    given = [normal(*shape, seed=rng) for shape in shapes]
    for a, b in zip(*(pulled(impl, causal, past, cells, *given) for impl in (KERNEL, "xla")), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)


def test_cached_keys_pull_the_weights_alone() -> None:
    """As keys that are made again of a stopped x do."""
    x, W, g = normal(B, 7, D), normal(D, H * K, seed=1), normal(B, H, 7, K, seed=2)

    def made(x: jax.Array, W: jax.Array) -> jax.Array:
        return (x @ W).reshape(B, 7, H, K).swapaxes(1, 2)

    k, pull = jax.vjp(lambda x, W: cached(jax.lax.stop_gradient(made(x, W)), x, W), x, W)
    again, pull_again = jax.vjp(lambda x, W: made(jax.lax.stop_gradient(x), W), x, W)
    for a, b in zip((k, *pull(g)), (again, *pull_again(g)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_long_text_has_exact_places() -> None:
    """Of the last of 300 segments of 100 tokens, whose angles float32 would be off by 0.002."""
    shape = (1, 1, 300, 100, 4)
    q, k, v = (normal(*shape, seed=seed) for seed in range(3))
    past = Memory(k, v, jnp.ones((*shape[:4], 1), bool), count=0)
    learned = normal(6, 4, seed=3), jnp.zeros((1, 4)), jnp.zeros((1, 4))
    last = [
        jax.jit(memory_attention, static_argnames=("impl",))(q, k, v, past, *learned, impl=impl)[:, :, -1]
        for impl in (KERNEL, "xla")
    ]
    np.testing.assert_allclose(*last, atol=2e-5)


def test_where_there_is_no_kernel() -> None:
    assert form(KERNEL, 64, 32) == KERNEL
    assert form(KERNEL, 512, 64) == BATCHED
    assert form("xla", 512, 64) == "xla"
    assert form(FORMS["tpu"], 64, 32) == BATCHED
