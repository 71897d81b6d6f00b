"""The walk of `block-recurrent` as a kernel for Hopper, interpreted, against its reference one block after another."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from jax import lax

from lra_bench.kernels.block_states_mosaic import Weights, advanced_reference, fits, walk, walk_back
from lra_bench.kernels.recurrent_states import Walk, recurrent_states

try:  # JAX 0.11 and later
    from jax.experimental.pallas.mosaic_gpu import InterpretGPUParams
except ImportError:
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

N, B, H, K, D = 3, 2, 2, 32, 64
NEAR = {"float32": 1e-4, "highest": 1e-5, "bfloat16": 0.02}  # of the largest value


def given(rows: int, dtype: str, blocks: int = N) -> tuple[Weights, jax.Array, tuple[jax.Array, ...], jax.Array]:
    """Weights, the first state, keys, values and mask of the blocks, and gradients by the states. A block is half
    full, and another is empty."""
    shapes = [(D,), (D,), (rows, D), (D, 4 * H * K), (2 * H * K, D), (D,), (D,)]
    scale, bias, ids, state, update, offset, share = (normal(*shape, seed=i) for i, shape in enumerate(shapes))
    weights = Weights(1 + 0.1 * scale, 0.1 * bias, ids, 0.15 * state, 0.1 * update, 0.1 * offset, jax.nn.sigmoid(share))
    k, v = (normal(blocks, B, H, rows, K, seed=i).astype(dtype) for i in (7, 8))
    there = jnp.ones((blocks, B, rows), bool).at[0, 0, rows // 2 :].set(False).at[-2, 1].set(False)
    return weights, normal(B, rows, D, seed=9), (k, v, there), normal(blocks, B, rows, D, seed=10)


def by_hand(weights: Weights, start: jax.Array, blocks: tuple[jax.Array, ...]) -> jax.Array:
    return lax.scan(lambda S, block: (advanced_reference(weights, S, *block), S), start, blocks)[1]


def compare(rows: int, dtype: str, near: str, blocks: int = N, **interpreted: Any) -> None:
    weights, start, tokens, g = given(rows, dtype, blocks)
    states, pull = jax.vjp(jax.jit(lambda start: by_hand(weights, start, tokens)), start)
    how = InterpretGPUParams(**interpreted)
    found = walk(weights, start, *tokens, how), walk_back(weights, states, *tokens, g, how)[0]
    for ours, theirs in zip(found, (states, pull(g)[0]), strict=True):
        assert abs(ours - theirs).max() <= NEAR[near] * abs(theirs).max()


def test_values() -> None:
    weights, start, tokens, _ = given(64, "float32")
    found, states = walk(weights, start, *tokens, InterpretGPUParams()), by_hand(weights, start, tokens)
    np.testing.assert_allclose(found, states, atol=NEAR["float32"] * float(abs(states).max()))


@pytest.mark.slow
def test_values_and_gradients() -> None:
    """Of what is learned too, for which the gradient after each block is asked."""
    weights, start, tokens, g = given(64, "float32")
    how = InterpretGPUParams()
    in_kernels = Walk(
        lambda weights, start, blocks: walk(weights, start, *blocks, how),
        lambda weights, states, blocks, g: walk_back(weights, states, *blocks, g, how),
    )

    def pulled(by: Walk | None) -> list[jax.Array]:
        def states(weights: Weights, start: jax.Array) -> jax.Array:
            return recurrent_states(lambda of, S, x: advanced_reference(of, S, *x), weights, start, tokens, by)

        out, pull = jax.vjp(states, weights, start)
        return jax.tree.leaves((out, pull(g)))

    for ours, theirs in zip(pulled(in_kernels), pulled(None), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=NEAR["float32"] * float(abs(theirs).max()))


@pytest.mark.slow
def test_both_walks_are_lowered_for_a_gpu_that_is_not_here() -> None:
    """Their layouts, products and barriers are JAX's to accept, and its versions do not all take the same."""
    for dtype in ("float32", "bfloat16"):
        weights, start, tokens, g = given(64, dtype)
        for walked, arguments in ((walk, (weights, start, *tokens)), (walk_back, (weights, g, *tokens, g))):
            lowered = jax.jit(walked).trace(*arguments).lower(lowering_platforms=("cuda",))
            assert "mosaic_gpu" in lowered.as_text()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_warpgroups_share_memory_without_a_race(dtype: str) -> None:
    from jax._src.pallas.mosaic_gpu.interpret import interpret_pallas_call

    compare(128, dtype, dtype, detect_races=True)
    assert not interpret_pallas_call.get_races().races_found


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [2, 1])
def test_the_highest_precision(blocks: int) -> None:
    with jax.default_matmul_precision("highest"):
        compare(64, "float32", "highest", blocks)


@pytest.mark.parametrize(
    ("states", "tokens", "width", "head_width", "dtype", "held"),
    [
        (128, 128, 64, 32, "float32", True),
        (64, 64, 64, 32, "float32", True),
        (128, 128, 64, 64, "bfloat16", True),
        (128, 128, 64, 64, "float32", False),  # more than shared memory has
        (128, 64, 64, 32, "float32", False),
        (256, 256, 64, 32, "float32", False),
        (128, 128, 128, 32, "float32", False),
        (128, 128, 64, 16, "float32", False),
        (128, 128, 64, 32, "float16", False),
    ],
)
def test_what_a_program_holds(states: int, tokens: int, width: int, head_width: int, dtype: str, held: bool) -> None:
    assert fits(states, tokens, width, head_width, jnp.dtype(dtype)) is held
