"""Sliding-window attention (Longformer, Beltagy et al., arXiv 2004.05150, section 3.1), without global tokens.

    y_i = sum_j softmax_j(q_i . k_j / sqrt K) v_j   over the j with |i - j| <= w

The `block` form is the older one (arXiv 1802.05751): tokens see their own block of w neighbours and nothing beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.local_attention import local_attention
from lra_bench.kernels.softmax_attention import blocks, join, softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="Local window",
    family="fixed-pattern",
    paper="2004.05150",
    equation="section 3.1",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="window >= length",
    differs="no global tokens and no dilation; the same window in every layer (the paper widens it with depth)",
)


@dataclass(frozen=True)
class Config:
    """How far a token sees."""

    window: int = 128
    """w: neighbours on each side, or the size of a block. Longformer is pretrained with 256 on each side, LRA's blocks
    have 50 or 64 tokens; at LRA's 1,024 tokens 256 on each side would be half of everything."""

    form: str = "sliding"
    """sliding: w neighbours on both sides; block: the tokens of one's own block only."""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"window: {self.window}; at least 1")
        if self.form not in ("sliding", "block"):
            raise ConfigError(f"form: '{self.form}'; it can be: sliding, block")


class Mixer(HeadsMixer):
    """Every token looks at its neighbours."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.window, self.form = config.window, config.form

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        if self.form == "sliding":
            return local_attention(q, k, v, mask, self.window)
        B, L = mask.shape
        w = min(self.window, L)
        q, k, v = (fold(blocks(x, w)) for x in (q, k, v))
        there = jnp.pad(mask, ((0, 0), (0, -L % w))).reshape(B, -1, w).swapaxes(0, 1).reshape(-1, w)
        y = softmax_attention(q, k, v, there)
        return join(y.reshape(-1, B, *y.shape[1:]), L)


def fold(x: Float[Array, "N B H w K"]) -> Float[Array, "NB H w K"]:
    """Each block a text of its own."""
    return x.reshape(-1, *x.shape[2:])
