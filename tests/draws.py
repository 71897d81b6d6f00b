"""Random arrays for tests, drawn by numpy: jax.random is compiled anew for each shape."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Seed = int | np.random.Generator


def normal(*shape: int, seed: Seed = 0, dtype: type = jnp.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def coins(*shape: int, seed: Seed = 0, chance: float = 0.5) -> jax.Array:
    """True with that chance."""
    return jnp.asarray(np.random.default_rng(seed).random(shape) < chance)


def ragged(length: int, *lengths: int) -> jax.Array:
    """[text, token]: a mask of texts of these lengths, padded to the first."""
    return jnp.asarray(np.arange(length) < np.array(lengths)[:, None])


def widened(arrays: tuple[jax.Array, ...]) -> list[jax.Array]:
    """What is bfloat16, in float32."""
    return [x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x for x in arrays]
