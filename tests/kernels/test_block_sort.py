"""Sinkhorn's normalisations against their definition, and attention to sorted blocks against all logits in memory."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lra_bench.kernels.block_sort import sinkhorn, sinkhorn_reference, sorted_attention, sorted_attention_reference
from lra_bench.kernels.softmax_attention import softmax_attention_reference

pytestmark = pytest.mark.sweep  # its mixers are held to their equations, with gradients, by a faster test

THERE = jnp.array([[True] * 5, [True, False, True, True, False], [False] * 5])


def test_the_definition() -> None:
    logits, g = jax.random.normal(jax.random.key(0), (2, 3, 2, 5, 5))
    values = []
    for f in (sinkhorn, sinkhorn_reference):
        y, back = jax.jit(lambda r, f=f: jax.vjp(lambda r: f(r, THERE, 4), r))(logits)
        values.append((y, jax.jit(back)(g)[0]))
    for a, b in zip(*values, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_rows_and_columns_sum_to_one_and_what_is_not_there_has_no_mass() -> None:
    P = sinkhorn(30 * jax.random.normal(jax.random.key(0), (3, 2, 5, 5)), THERE, 400)
    for axis in (-1, -2):
        np.testing.assert_allclose(P.sum(axis), jnp.broadcast_to(THERE[:, None], (3, 2, 5)), atol=0.05)
    pair = THERE[:, None, :, None] & THERE[:, None, None, :]
    assert not jnp.where(pair, 0, P).any()


def test_far_logits_stay_finite() -> None:
    logits = 1e5 * jax.random.normal(jax.random.key(0), (3, 2, 5, 5))
    assert jnp.isfinite(jax.grad(lambda r: (sinkhorn(r, THERE, 5) ** 2).sum())(logits)).all()


def pulled(attend: object, cut: bool, *arguments: jax.Array) -> tuple[jax.Array, ...]:
    q, k, v, mask, P, g = arguments
    if cut:
        P = P[:, :, :2]
    y, back = jax.vjp(lambda q, k, v, P: attend(q, k, v, mask, P, cut), q, k, v, P)  # type: ignore[operator]
    return y, *back(g)


def arrays(dtype: jnp.dtype | type = jnp.float32) -> tuple[jax.Array, ...]:
    """q, k, v, mask, P and dL/dy of 5 blocks of 3; a place of the second text is padding in each of its blocks."""
    keys = jax.random.split(jax.random.key(0), 5)
    q, k, v, g = (jax.random.normal(key, (3, 2, 15, 4)).astype(dtype) for key in keys[:4])
    mask = jnp.ones((3, 5, 3), bool).at[1, :, 2].set(False).at[1, 0].set(False).at[1, 3, 1].set(False).at[2].set(False)
    return q, k, v, mask, sinkhorn(jax.random.normal(keys[4], (3, 2, 5, 5)), mask.any(2), 3), g


@pytest.mark.parametrize("cut", [False, True])
def test_values_and_gradients(cut: bool) -> None:
    values = (jax.jit(partial(pulled, f, cut))(*arrays()) for f in (sorted_attention, sorted_attention_reference))
    for a, b in zip(*values, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_bfloat16() -> None:
    half = arrays(jnp.bfloat16)
    full = [x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x for x in half]
    run = jax.jit(partial(pulled, sorted_attention, False))
    for a, b in zip(run(*half), run(*full), strict=True):
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))
    assert run(*half)[0].dtype == jnp.bfloat16


def test_keys_and_values_are_permuted() -> None:
    """LRA's einsum summed over blocks and over the permutation apart, so that nothing was permuted; others took the
    sorted values from the keys."""
    q, k, v, *_ = arrays()
    mask, order = jnp.ones((3, 5, 3), bool), jnp.array([2, 0, 3, 1, 4])
    P = jnp.broadcast_to(jnp.eye(5)[order], (3, 2, 5, 5))
    y = sorted_attention(q, k, v, mask, P, False).reshape(3, 2, 5, 3, 4)
    blocks = [x.reshape(3, 2, 5, 3, 4) for x in (q, k, v)]
    for place, block in enumerate(order):
        query, *pairs = (x[:, :, place] for x in blocks)
        key, value = (jnp.concatenate([x, y[:, :, block]], axis=2) for x, y in zip(pairs, blocks[1:], strict=True))
        exact = softmax_attention_reference(query, key, value, jnp.ones((3, 6), bool))
        np.testing.assert_allclose(y[:, :, place], exact, atol=1e-5)
