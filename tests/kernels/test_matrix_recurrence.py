"""All states of S <- M S + a by groups of steps against one step after another."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest
from draws import normal

from lra_bench.kernels.matrix_recurrence import matrix_recurrence, matrix_recurrence_reference, steps


@pytest.mark.parametrize("length", [1, 16, 37])
def test_values_and_gradients(length: int) -> None:
    """37 steps are three groups, of which the last is not full."""
    rng = np.random.default_rng(length)
    M, a, pulled = (normal(2, 3, length, 4, width, seed=rng) for width in (4, 5, 5))
    S, pull = jax.vjp(partial(matrix_recurrence_reference, 0.5 * M), a)
    made = matrix_recurrence(steps(0.5 * M), a), matrix_recurrence(steps(0.5 * M), pulled, transposed=True)
    for x, y in zip(made, (S, *pull(pulled)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4 * float(abs(y).max() + 1), rtol=1e-4)
