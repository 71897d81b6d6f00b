"""Weights in few bits: as near as the bits allow, and what is no matrix left alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lra_bench.compress.quantise import codes, quantised
from lra_bench.errors import ConfigError
from lra_bench.measure.memory import stored_bytes
from lra_bench.mixers.base import Dynamics

MOST = {8: 127, 4: 7}


def params(layers: int = 3) -> nnx.State:
    draw = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(draw.normal(size=shape), jnp.float32)

    return nnx.State({
        "embed": {"table": nnx.Param(normal(7, 4))},
        "blocks": {
            "up": {"kernel": nnx.Param(normal(layers, 4, 6)), "bias": nnx.Param(normal(layers, 6))},
            "A": Dynamics(normal(layers, 4, 5)),
        },
        "norm": {"scale": nnx.Param(normal(4))},
    })  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    W=arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(-9, 9, width=16)),
    bits=st.sampled_from([8, 4]),
)
def test_a_weight_is_off_by_half_a_step_at_most(W: np.ndarray, bits: int) -> None:
    q, s = (np.asarray(part, np.float64) for part in codes(jnp.asarray(W), bits))
    assert (abs(q) <= MOST[bits]).all()
    assert (abs(W - s * q) <= s / 2 * (1 + 1e-5)).all()
    largest = abs(W).max(0)
    np.testing.assert_allclose(abs(s * q).max(0), largest, rtol=1e-6)


def test_each_output_channel_of_each_layer_has_its_own_scale() -> None:
    W = jnp.asarray([[[1.0, 200.0], [-2.0, 100.0]], [[4.0, 1.0], [2.0, 1.0]]])
    np.testing.assert_allclose(codes(W, 8).s * 127, [[[2.0, 200.0]], [[4.0, 1.0]]])


def test_at_32_bits_nothing_changes() -> None:
    given = params()
    again = quantised(given, 32)
    for before, after in zip(jax.tree.leaves(given), jax.tree.leaves(again.restored()), strict=True):
        np.testing.assert_array_equal(before, after)
    assert stored_bytes(again.arrays) == sum(leaf.nbytes for leaf in jax.tree.leaves(given))


@pytest.mark.parametrize("bits", [8, 4])
def test_only_matrices_change_and_are_small_to_keep(bits: int) -> None:
    given, model = params(), quantised(params(), bits)
    restored = model.restored()
    assert jax.tree.structure(restored) == jax.tree.structure(given)
    for kept in (("blocks", "up", "bias"), ("blocks", "A"), ("norm", "scale")):
        before, after = given, restored
        for key in kept:
            before, after = before[key], after[key]
        np.testing.assert_array_equal(before[...], after[...])
    for changed in (restored["embed"]["table"][...], restored["blocks"]["up"]["kernel"][...]):
        assert changed.dtype == jnp.float32
    assert (restored["blocks"]["up"]["kernel"][...] != given["blocks"]["up"]["kernel"][...]).any()
    matrices, scales, rest = 7 * 4 + 3 * 4 * 6, 4 + 3 * 6, 3 * 6 + 3 * 4 * 5 + 4
    assert stored_bytes(model.arrays) == matrices * bits // 8 + 4 * (scales + rest)


def test_other_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="bits: 3: must be one of 32, 8, 4"):
        quantised(params(), 3)


def test_a_column_of_zeros_stays_zeros() -> None:
    q, s = codes(jnp.zeros((3, 2)), 8)
    np.testing.assert_array_equal(q, jnp.zeros((3, 2), jnp.int8))
    np.testing.assert_array_equal(s, jnp.ones((1, 2)))
