"""Sinkhorn's normalizations against their definition, and attention to sorted blocks against all logits in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, widened

from lra_bench.kernels.block_sort import sinkhorn, sinkhorn_reference, sorted_attention, sorted_attention_reference

THERE = jnp.asarray(np.array([[True] * 5, [True, False, True, True, False], [False] * 5]))


def test_the_definition() -> None:
    logits, g = (normal(3, 2, 5, 5, seed=seed) for seed in (0, 1))

    @partial(jax.jit, static_argnums=0)
    def run(f: Callable[..., jax.Array], logits: jax.Array) -> tuple[jax.Array, ...]:
        y, back = jax.vjp(lambda r: f(r, THERE, 4), logits)
        return y, *back(g)

    for a, b in zip(*(run(f, logits) for f in (sinkhorn, sinkhorn_reference)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_rows_and_columns_sum_to_one_and_what_is_not_there_has_no_mass() -> None:
    P = np.asarray(sinkhorn(30 * normal(3, 2, 5, 5), THERE, 400))
    there = np.asarray(THERE)
    for axis in (-1, -2):
        np.testing.assert_allclose(P.sum(axis), np.broadcast_to(there[:, None], (3, 2, 5)), atol=0.05)
    assert not P[~np.broadcast_to(there[:, None, :, None] & there[:, None, None], P.shape)].any()


def test_far_logits_stay_finite() -> None:
    slope = jax.jit(jax.grad(lambda r: (sinkhorn(1e5 * r, THERE, 5) ** 2).sum()))
    assert np.isfinite(slope(normal(3, 2, 5, 5))).all()


by_xla = partial(sorted_attention, impl="xla")


def pulled(attend: object, cut: bool, *arguments: jax.Array) -> tuple[jax.Array, ...]:
    q, k, v, mask, logits, g = arguments
    P = sinkhorn(logits, mask.any(2), 3)[:, :, : 2 if cut else None]
    y, back = jax.vjp(lambda q, k, v, P: attend(q, k, v, mask, P, cut), q, k, v, P)  # type: ignore[operator]
    return y, *back(g)


def arrays(dtype: jnp.dtype | type = jnp.float32) -> tuple[jax.Array, ...]:
    """q, k, v, mask, P's logits and dL/dy of 5 blocks of 3; a place of the second text is padding in each block."""
    rng = np.random.default_rng(0)
    q, k, v, g = (normal(3, 2, 15, 4, seed=rng, dtype=dtype) for _ in "qkvg")
    mask = np.ones((3, 5, 3), bool)
    mask[1, :, 2] = mask[1, 0] = mask[1, 3, 1] = mask[2] = False
    return q, k, v, jnp.asarray(mask), normal(3, 2, 5, 5, seed=rng), g


@pytest.mark.parametrize("cut", [False, True])
def test_values_and_gradients(cut: bool) -> None:
    values = (jax.jit(partial(pulled, f, cut))(*arrays()) for f in (by_xla, sorted_attention_reference))
    for a, b in zip(*values, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_causally_a_token_sees_its_own_block_up_to_itself_and_all_of_what_is_sorted() -> None:
    q, k, v, *_ = arrays()
    mask, first = jnp.ones((3, 5, 3), bool), jnp.zeros((3, 2, 5, 5)).at[:, :, 1:, 0].set(1.0)
    y = np.asarray(jax.jit(partial(by_xla, causal=True), static_argnums=5)(q, k, v, mask, first, False))
    query, key, value = (np.asarray(x).reshape(3, 2, 5, 3, 4) for x in (q, k, v))
    for block, token in ((0, 1), (3, 0), (3, 2)):
        own = np.s_[:, :, block, : token + 1]
        seen = [np.concatenate([x[own], x[:, :, 0][:, :, : 3 if block else 0]], axis=2) for x in (key, value)]
        weights = np.exp((query[:, :, block, token, None] * seen[0]).sum(-1) / 2)
        exact = (weights[..., None] * seen[1]).sum(2) / weights.sum(2)[..., None]
        np.testing.assert_allclose(y[:, :, 3 * block + token], exact, atol=1e-5)


def test_bfloat16() -> None:
    half = arrays(jnp.bfloat16)
    full = widened(half)
    run = jax.jit(partial(pulled, by_xla, False))
    for a, b in zip(run(*half), run(*full), strict=True):
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))
    assert run(*half)[0].dtype == jnp.bfloat16


def test_keys_and_values_are_permuted() -> None:
    """LRA's einsum summed over blocks and over the permutation apart, so that nothing was permuted; others took the
    sorted values from the keys."""
    q, k, v, *_ = arrays()
    mask, order = jnp.ones((3, 5, 3), bool), np.array([2, 0, 3, 1, 4])
    P = jnp.asarray(np.broadcast_to(np.eye(5, dtype=np.float32)[order], (3, 2, 5, 5)))
    y = np.asarray(jax.jit(by_xla, static_argnums=5)(q, k, v, mask, P, False))
    query, key, value = (np.asarray(x).reshape(3, 2, 5, 3, 4) for x in (q, k, v))
    key, value = (np.concatenate([x, x[:, :, order]], axis=3) for x in (key, value))
    weights = np.exp(query @ key.swapaxes(3, 4) / 2)
    exact = weights @ value / weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(y.reshape(exact.shape), exact, atol=1e-5)
