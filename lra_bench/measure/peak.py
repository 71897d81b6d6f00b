"""The rate that a device reaches at best: what a share of its arithmetic is told against."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

FIRST, REPEATS = 512, 3
GAIN = 1.05  # a larger product that is not so much faster is the last
ENOUGH_S = 1.0  # nor is one tried after a product that takes so long


def peak_rate(dtype: str = "float32") -> float:
    """Floating-point operations a second of one device, measured: the best rate of a product of two n x n matrices.

    n is doubled while that helps. Precision is as JAX is set to have it, as it is for a model's own products.
    """
    best, n = 0.0, FIRST
    while True:
        seconds = _product_s(n, dtype)
        rate, before = 2 * n**3 / seconds, best
        best = max(best, rate)
        if rate < GAIN * before or seconds > ENOUGH_S:
            return best
        n *= 2


def _product_s(n: int, dtype: str) -> float:
    """Seconds of one product, the fastest of a few."""
    a = jax.random.normal(jax.random.key(0), (n, n), jnp.dtype(dtype))
    product = jax.jit(jnp.matmul).lower(a, a).compile()
    taken = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(product(a, a))
        taken.append(time.perf_counter() - start)
    return min(taken[1:])
