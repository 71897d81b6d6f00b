"""Linformer's attention of a target to a source (Wang et al., arXiv 2006.04768): the source's keys and values are
projected to r rows.

    Y = softmax(Q (E K)^T / sqrt K) (F V),   E, F: [r, L] learned                          (equation 7)

Q is of the target, K and V of the source, whose length L alone is projected: E and F see no place of the target, so
that one that grows reads as a whole one does. Rows of K and V that are padding are zero before E and F.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.cross.base import HeadsCross, KeysAndValues
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.linformer import Config

CARD = CrossCard(
    paper="2006.04768",
    equation="equation 7, queries of the target",
    exact_when="rank = length and E = F = the identity, of sources without padding",
    differs="no sharing across layers: the decoder's layers know nothing of each other",
)


class Cross(HeadsCross):
    """Every place of the target looks at r mixtures of the source's tokens."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.sharing = config.sharing
        heads = (dims.heads,) if config.sharing == "none" else ()
        shape = (1 if config.sharing == "key-value" else 2, *heads, config.rank, dims.length)
        self.rows = nnx.Param(jax.random.normal(rngs.params(), shape) * config.rank**-0.5)

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> KeysAndValues:
        """E K and F V: r rows of each, however long the source is."""
        k, v = self.keys_and_values(memory)
        E, F = (self.rows[i, ..., : k.shape[2]].astype(k.dtype) for i in (0, -1))
        product = "hrl,bhlk->bhrk" if self.sharing == "none" else "rl,bhlk->bhrk"
        there = memory_mask[:, None, :, None].astype(k.dtype)
        k, v = jnp.einsum(product, E, k * there), jnp.einsum(product, F, v * there)
        return KeysAndValues(k, v, jnp.ones(k.shape[::2], bool))

    def read(self, kept: KeysAndValues, x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        return self.output(softmax_attention(self.queries(x), *kept, self.impl))


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Cross]:
    """As many rows as places of the source, each row one place."""
    form = Cross(Config(rank=dims.length, sharing="none"), dims, rngs=rngs)
    form.rows[...] = jnp.broadcast_to(jnp.eye(dims.length), form.rows.shape)
    return [form]
