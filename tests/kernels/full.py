"""The pattern that leaves nothing out: what a block kernel must share with exact softmax attention."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class Full:
    """Every query meets every key."""

    size: int = 64

    def table(self, queries: int, keys: int) -> np.ndarray:
        return np.tile(np.arange(keys, dtype=np.int32), (queries, 1))

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        return jnp.zeros(jnp.broadcast_shapes(i.shape, j.shape))
