"""Attention to keys at places of each query's own, against all weights at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal, ragged

from lra_bench.kernels.gathered_attention import gathered_attention, gathered_attention_reference
from lra_bench.measure.memory import compiled_bytes


def window(reach: int, center: jax.Array) -> jax.Array:
    return center[..., None] + jnp.arange(-reach, reach + 1)


def arrays(queries: int, keys: int) -> tuple[jax.Array, ...]:
    """q, k, v, the mask, centers along the diagonal and dL/dy; one text has no key."""
    rng = np.random.default_rng(queries)
    q, k, v, g = (normal(3, 2, n, width, seed=rng) for n, width in ((queries, 4), (keys, 4), (keys, 5), (queries, 5)))
    center = jnp.round(jnp.arange(queries) * jnp.array([[1.0], [0.5], [1.0]]) * keys / queries).astype(jnp.int32)
    return q, k, v, ragged(keys, keys, keys // 2, 0), center, g


@partial(jax.jit, static_argnums=(0, 1), static_argnames="impl")
def run(attend: Callable[..., jax.Array], reach: int, q, k, v, mask, center, g, **impl) -> tuple[jax.Array, ...]:
    places = partial(window, reach)
    y, pull = jax.vjp(lambda q, k, v: attend(q, k, v, mask, center, places, **impl), q, k, v)
    return y, *pull(g)


@pytest.mark.parametrize(("queries", "keys", "reach"), [(75, 41, 3), (1, 9, 2), (33, 200, 50), (40, 40, 60)])
def test_values_and_gradients(queries: int, keys: int, reach: int) -> None:
    given = arrays(queries, keys)
    exact = run(gathered_attention_reference, reach, *given)
    for impl in ("xla", "batched"):
        for a, b in zip(run(gathered_attention, reach, *given, impl=impl), exact, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)
    assert not exact[0][2].any()


def test_memory_is_linear() -> None:
    def planned(length: int) -> int:
        given = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays(length, length)]
        return compiled_bytes(run.lower(gathered_attention, 16, *given).compile())

    assert planned(8192) < 2.3 * planned(4096)
