"""Symbols, or the numbers that they stand for, to vectors: one each, or one for a patch of neighbors."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int32

from lra_bench.mixers.base import Constant
from lra_bench.mixers.layers import Dense


@dataclass(frozen=True)
class Patches:
    """What a vector stands for: `size` neighbors in a text, or size x size pixels of an image (ViT, arXiv
    2010.11929, equation 1)."""

    size: int
    grid: tuple[int, int] | None

    @property
    def places(self) -> int:
        """Symbols of a patch."""
        return self.size**2 if self.grid else self.size

    def cut(self, x: Array) -> Array:
        """[B, L] as patches, [B, N, places]."""
        p = self.size
        if self.grid is None:
            return jnp.pad(x, ((0, 0), (0, -x.shape[1] % p))).reshape(x.shape[0], -1, p)
        rows, cols = self.grid
        return x.reshape(-1, rows // p, p, cols // p, p).swapaxes(2, 3).reshape(x.shape[0], -1, p * p)


class Embedding(nnx.Module):
    """Symbols to vectors, drawn from N(0, std^2).

    A patch of several symbols is the linear projection of them, one-hot, side by side, which is a table for each place
    in the patch. A place that is padding adds nothing; a patch is there if any of its places is.
    """

    def __init__(self, vocab: int, width: int, patches: Patches, std: float, *, rngs: nnx.Rngs) -> None:
        self.patches, self.vocab = patches, vocab
        places = patches.places
        self.table = nnx.Param(jax.random.normal(rngs.params(), (places * vocab, width)) * (std * places**-0.5))

    def __call__(
        self, tokens: Int32[Array, "B L"], mask: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B N D"], Bool[Array, "B N"]]:
        if self.patches.places == 1:
            return self.table[tokens], mask
        tokens, mask = self.patches.cut(tokens), self.patches.cut(mask)
        parts = self.table[tokens + self.vocab * jnp.arange(tokens.shape[-1])] * mask[..., None]
        return parts.sum(2), mask.any(-1)


class Projection(nnx.Module):
    """The numbers that symbols stand for, `values` [V, F], to vectors: those of a patch side by side, projected.

    Padding's numbers are 0; a patch is there if any of its places is.
    """

    def __init__(self, values: np.ndarray, width: int, patches: Patches, *, rngs: nnx.Rngs) -> None:
        self.patches = patches
        self.values = Constant(jnp.asarray(values))
        self.project = Dense(patches.places * values.shape[1], width, rngs=rngs)

    def __call__(
        self, tokens: Int32[Array, "B L"], mask: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B N D"], Bool[Array, "B N"]]:
        tokens, mask = self.patches.cut(tokens), self.patches.cut(mask)
        numbers = self.values[tokens] * mask[..., None]
        return self.project(numbers.reshape(*tokens.shape[:2], -1)), mask.any(-1)
