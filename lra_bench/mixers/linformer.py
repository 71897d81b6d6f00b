"""Linformer (Wang et al., arXiv 2006.04768): the keys and values of L tokens are projected to r rows.

    Y = softmax(Q (E K)^T / sqrt K) (F V),   E, F: [r, L] learned                          (equation 7)

Rows of K and V that are padding are zero before E and F: an r-row softmax has nothing to mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="Linformer",
    family="low-rank",
    paper="2006.04768",
    equation="equation 7",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="rank = length and E = F = the identity",
    differs="no sharing across layers: the trunk's layers know nothing of each other",
)


@dataclass(frozen=True)
class Config:
    """How far the length is compressed, and who shares the projections."""

    rank: int = 256
    """r: rows that the keys and values are projected to."""

    sharing: str = "key-value"
    """none: E and F for every head; headwise: one E and one F for all heads; key-value: E = F too, as in LRA."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rank: {self.rank}; at least 1")
        if self.sharing not in ("none", "headwise", "key-value"):
            raise ConfigError(f"sharing: '{self.sharing}'; it can be: none, headwise, key-value")


class Mixer(HeadsMixer):
    """Every token looks at r mixtures of all tokens."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        matrices = 1 if config.sharing == "key-value" else 2
        heads = (dims.heads,) if config.sharing == "none" else ()
        shape = (matrices, *heads, config.rank, dims.length)
        self.project = nnx.Param(jax.random.normal(rngs.params(), shape) * config.rank**-0.5)
        self.product = "hrl,bhlk->bhrk" if config.sharing == "none" else "rl,bhlk->bhrk"

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        B, _, L, _ = q.shape
        E, F = (self.project[i, ..., :L].astype(q.dtype) for i in (0, -1))
        there = mask[:, None, :, None].astype(q.dtype)
        k, v = jnp.einsum(self.product, E, k * there), jnp.einsum(self.product, F, v * there)
        return softmax_attention(q, k, v, jnp.ones((B, k.shape[2]), bool))
