"""Perceiver IO between a target and a source (Jaegle et al., arXiv 2107.14795, section 3.1): a few latents read the
source, attend to each other s times, and are asked by the target, whose places are the output queries.

    Z <- P + Attention(LN P, C),    Z <- Z + MLP(LN Z)              the latents P: [m, D], learned, read the source C
    Z <- Z + Attention(LN Z, LN Z), Z <- Z + MLP(LN Z)              s times, each with weights of its own
    Y = Attention(X, LN Z)                                          the target X asks

Padding of the source is no key when the latents read.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.mixers.base import Dims, implementation
from lra_bench.mixers.cross.base import CrossBase
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.heads import Multihead
from lra_bench.mixers.layers import LayerNorm
from lra_bench.mixers.perceiver import Block, Config

CARD = CrossCard(
    paper="2107.14795",
    equation="section 3.1: the source is the input array, the target the output queries",
    differs="every layer of the decoder has latents of its own; all attentions have the backbone's heads",
)


class Cross(CrossBase):
    """The latents read the source, then each other; the target reads the latents."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        self.latents = nnx.Param(0.02 * jax.random.normal(rngs.params(), (config.latents, dims.width)))
        self.reading = Block(dims, self.impl, rngs=rngs)
        self.blocks = nnx.List([Block(dims, self.impl, rngs=rngs) for _ in range(config.blocks)])
        self.norm, self.answer = LayerNorm(dims.width), Multihead(dims, impl=self.impl, rngs=rngs)

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> Float[Array, "B m D"]:
        """LN Z: as many latents, however long the source is."""
        z = jnp.broadcast_to(self.latents[...].astype(memory.dtype), (len(memory), *self.latents.shape))
        z = self.reading(z, memory, memory_mask)
        for block in self.blocks:
            z = block(z, None, jnp.ones(z.shape[:2], bool))
        return self.norm(z)

    def read(self, kept: Float[Array, "B m D"], x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        return self.answer(x, kept, jnp.ones(kept.shape[:2], bool))
