"""Examples that are drawn, and steps on them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lra_bench.shapes import Batch, Split
from lra_bench.techniques.base import ModelState
from lra_bench.training.program import Program


def split(n: int, length: int = 20) -> Split:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, length, (n, 1)).astype(np.int32)
    tokens = draw.integers(1, 16, (n, 1, length)) * (np.arange(length) < lengths[..., None])
    return Split(tokens.astype(np.uint8), lengths, draw.integers(0, 10, n).astype(np.int32))


def batch(n: int) -> Batch:
    made = split(n)
    mask = np.arange(20) < made.lengths[..., None]
    return Batch(made.tokens.astype(np.int32), mask, made.label, np.ones(n, np.float32))


def learned(program: Program) -> ModelState:
    return ModelState(program.graph, program.init.params, program.init.rest)


def stepped(program: Program, steps: int = 3) -> Any:
    state = jax.tree.map(jnp.copy, program.init)
    for _ in range(steps):
        state, _ = program.training.step(state, *program.feed(batch(8)))
    return state


def same(a: Any, b: Any) -> bool:
    """Bit for bit."""
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
