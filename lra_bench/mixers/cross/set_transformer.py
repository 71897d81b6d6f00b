"""Set Transformer between a target and a source (Lee et al., arXiv 1810.00825): m learned points look at the source,
and are looked at by the target.

    Y = MAB(X, H),   H = MAB(I, C),   I: [m, D] learned, C the source, X the target           (equations 9 and 10)
    MAB(X, Y) = LN(A + rFF(A)),   A = LN(X + Multihead(X, Y, Y)),   rFF(A) = relu(A W + b)   (equations 6 and 7)

H is made by a whole MAB. Of the second MAB only Multihead is here: what stands around it is the decoder's. Padding of
the source is no key of the first Multihead.
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
from lra_bench.mixers.layers import XAVIER, Dense, LayerNorm
from lra_bench.mixers.set_transformer import Config

CARD = CrossCard(
    paper="1810.00825",
    equation="equations 9 and 10 with two sets: the points are induced by the source, and asked by the target",
    differs="the paper's ISAB has one set; residual, LN and rFF of the second MAB are the decoder's",
)


class Cross(CrossBase):
    """The points look at the source, the target at the points."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        self.points = nnx.Param(XAVIER(rngs.params(), (config.points, dims.width)))
        self.gather, self.give = (Multihead(dims, impl=self.impl, rngs=rngs) for _ in range(2))
        self.rff = Dense(dims.width, dims.width, rngs=rngs)
        self.before_rff, self.after_rff = LayerNorm(dims.width), LayerNorm(dims.width)

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> Float[Array, "B m D"]:
        """H = MAB(I, C): as many points, however long the source is."""
        points = jnp.broadcast_to(self.points[...].astype(memory.dtype), (len(memory), *self.points.shape))
        a = self.before_rff(points + self.gather(points, memory, memory_mask))
        return self.after_rff(a + jax.nn.relu(self.rff(a)))

    def read(self, kept: Float[Array, "B m D"], x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        return self.give(x, kept, jnp.ones(kept.shape[:2], bool))
