"""Linear attention: its two equations agree, and padding, which LRA's ignored, is in neither sum."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lra_bench.mixers.base import Dims
from lra_bench.mixers.linear import Config, Mixer


def test_the_equation_over_the_tokens_that_are_there() -> None:
    mixer = Mixer(Config(), Dims(8, 1, 8, 12), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 12, 8))
    y = mixer(x, (jnp.arange(12) < 7)[None], key=None)
    q, k, v = np.split(np.float64(x[0, :7]) @ np.float64(mixer.qkv[...]), 3, axis=-1)
    phi = lambda x: np.where(x > 0, x + 1, np.exp(x))  # noqa: E731
    weights = phi(q) @ phi(k).T
    exact = weights / weights.sum(1, keepdims=True) @ v @ np.float64(mixer.out[...])
    np.testing.assert_allclose(y[0, :7], exact, atol=1e-5)
