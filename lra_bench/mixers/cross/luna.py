"""Luna's attention of a target to a source (Ma et al., arXiv 2106.01540, section 3.1, whose context C is the source):
attention packs the source into l rows, and the target unpacks them.

    Y_P = Attn(P', C),   Y = Attn(X, Y_P) W_O                                      (pack and unpack attention)
    P' = LN(sqrt D P + S),   P: [l, D] learned, S: sinusoids of a row's number
    Attn(X, C) = softmax(X W_Q (C W_K)^T / sqrt K) C W_V, in each of them W_K = W_V where they are tied

No place of the target is packed, so that one that grows needs no causal packing. Padding of the source is no key.
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
from lra_bench.mixers.layers import LayerNorm, sinusoids
from lra_bench.mixers.luna import Config

CARD = CrossCard(
    paper="2106.01540",
    equation="section 3.1, pack and unpack attention with the source as the context",
    differs="P is each layer's own: the packed rows do not go on to the next layer; projections without bias",
)


class Cross(CrossBase):
    """P looks at the source; the target looks at what P saw."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        joint = dims.heads * dims.head_width
        self.rows = nnx.Param(jax.random.normal(rngs.params(), (config.packed, dims.width)) * dims.width**-0.5)
        self.norm = LayerNorm(dims.width)
        self.pack = Multihead(dims, tied=config.tied, projected=False, impl=self.impl, rngs=rngs)
        self.unpack = Multihead(dims, context=joint, tied=config.tied, impl=self.impl, rngs=rngs)

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> Float[Array, "B l J"]:
        """Y_P: l rows, however long the source is."""
        asked = self.norm(self.rows[...] * memory.shape[-1] ** 0.5 + sinusoids(*self.rows.shape)).astype(memory.dtype)
        return self.pack(jnp.broadcast_to(asked, (len(memory), *asked.shape)), memory, memory_mask)

    def read(self, kept: Float[Array, "B l J"], x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        return self.unpack(x, kept, jnp.ones(kept.shape[:2], bool))
