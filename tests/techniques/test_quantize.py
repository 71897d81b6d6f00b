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

from lra_bench.measure.memory import model_bytes
from lra_bench.mixers.base import Dynamics
from lra_bench.techniques.parameters import flat
from lra_bench.techniques.quantize import Nibbles, codes, quantized, restored

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


@pytest.mark.slow
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


@pytest.mark.parametrize("bits", [8, 4])
def test_only_matrices_change_and_are_small_to_keep(bits: int) -> None:
    given, kept = params(), quantized(params(), bits)
    back = restored(kept)
    assert jax.tree.structure(back) == jax.tree.structure(given)
    for path in (("blocks", "up", "bias"), ("blocks", "A"), ("norm", "scale")):
        np.testing.assert_array_equal(flat(given)[path][...], flat(back)[path][...])
    for path in (("embed", "table"), ("blocks", "up", "kernel")):
        np.testing.assert_array_equal(flat(back)[path][...], codes(flat(given)[path][...], bits).numbers)
        assert flat(back)[path].dtype == jnp.float32
    rows = 7 + 7 % 2 if bits == 4 else 7  # two rows of 4 bits a byte
    matrices, scales, rest = rows * 4 + 3 * 4 * 6, 4 + 3 * 6, 3 * 6 + 3 * 4 * 5 + 4
    assert model_bytes(jax.tree.leaves(kept)) == matrices * bits // 8 + 4 * (scales + rest)


@pytest.mark.slow
@given(W=arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 4)), elements=st.floats(-9, 9, width=16)))
@settings(max_examples=40, deadline=None)
def test_codes_of_4_bits_come_back_as_they_were(W: np.ndarray) -> None:
    code = codes(jnp.asarray(W), 4)
    np.testing.assert_array_equal(Nibbles.of(code).numbers, code.numbers)


def test_zeros_of_a_sparse_array_cost_a_bit() -> None:
    sparse = jnp.zeros(800, jnp.float32).at[:10].set(1.0)
    assert model_bytes([sparse]) == 10 * 4 + 100
    assert model_bytes([jnp.ones(800, jnp.float32)]) == 3200


def test_a_column_of_zeros_stays_zeros() -> None:
    q, s = codes(jnp.zeros((3, 2)), 8)
    np.testing.assert_array_equal(q, jnp.zeros((3, 2), jnp.int8))
    np.testing.assert_array_equal(s, jnp.ones((1, 2)))
