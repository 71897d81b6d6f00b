"""All states of a recurrence: the gradient that takes what is learned out of the walk against JAX's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from draws import normal
from jax import lax

from lra_bench.kernels.recurrent_states import Step, recurrent_states


def by_hand(step: Step, learned: jax.Array, start: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
    return lax.scan(lambda S, x: (step(learned, S, x), S), start, inputs)[1]


def step(W: jax.Array, S: jax.Array, given: tuple[jax.Array, jax.Array]) -> jax.Array:
    """A mask, which has no gradient, is among the inputs."""
    x, there = given
    return jnp.where(there[:, None], jnp.tanh(S @ W + x), S)


@partial(jax.jit, static_argnums=0)
def pulled(states: Callable[..., jax.Array], g: jax.Array, there: jax.Array, *given: jax.Array) -> tuple:
    out, pull = jax.vjp(lambda W, start, x: states(step, W, start, (x, there)), *given)
    return out, *pull(g)


def test_values_and_gradients() -> None:
    N, B, K = 5, 3, 4
    given = [normal(*shape, seed=seed) for seed, shape in enumerate([(N, B, K), (K, K), (B, K), (N, B, K)])]
    there = jnp.asarray(np.random.default_rng(0).random((N, B)) < 0.7)
    for a, b in zip(*(pulled(f, given[0], there, *given[1:]) for f in (recurrent_states, by_hand)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)
