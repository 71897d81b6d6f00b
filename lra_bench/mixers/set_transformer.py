"""Induced set attention (Set Transformer, Lee et al., arXiv 1810.00825): tokens meet through m learned points, which
look at all of them and are then looked at by all of them.

    ISAB(X) = MAB(X, H),   H = MAB(I, X),   I: [m, D] learned                                (equations 9 and 10)
    MAB(X, Y) = LN(A + rFF(A)),   A = LN(X + Multihead(X, Y, Y)),   rFF(A) = relu(A W + b)   (equations 6 and 7)

H is made by a whole MAB. Of the second MAB only Multihead is here: what stands around it, the residual, the LNs and the
rFF over the tokens, is the backbone's block. Padding is no key of the first Multihead; the second has no padded keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, MixerBase, implementation
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Multihead
from lra_bench.mixers.layers import XAVIER, Dense, LayerNorm

CARD = Card(
    title="Set Transformer",
    family="memory",
    paper="1810.00825",
    equation="equations 6, 7, 9 and 10",
    year=2019,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="no: its learned points look at all tokens before any token looks at them",
    public="juho-lee/set_transformer (PyTorch)",
    differs="residual, LN and rFF of the second MAB are the backbone's, whose LN comes before and whose MLP has a "
    "GELU; logits are scaled by the head's width, not by the model's",
    short={"points": 5},
)


@dataclass(frozen=True)
class Config(Fused):
    """Through how many points the tokens meet."""

    points: int = 32
    """m: inducing points of a layer. The paper's tables have 16, the authors' code has 32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.points < 1:
            raise ConfigError(f"points: {self.points}; at least 1")

    @property
    def few(self) -> int:
        return self.points


class Mixer(MixerBase):
    """The points look at the tokens, the tokens at the points."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        self.points = nnx.Param(XAVIER(rngs.params(), (config.points, dims.width)))
        self.gather, self.give = (Multihead(dims, impl=self.impl, rngs=rngs) for _ in range(2))
        self.rff = Dense(dims.width, dims.width, rngs=rngs)
        self.before_rff, self.after_rff = LayerNorm(dims.width), LayerNorm(dims.width)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        h = self.induced(x, mask)
        return self.give(x, h, jnp.ones(h.shape[:2], bool))

    def induced(self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> Float[Array, "B m D"]:
        """H = MAB(I, X)."""
        points = jnp.broadcast_to(self.points[...].astype(x.dtype), (len(x), *self.points.shape))
        a = self.before_rff(points + self.gather(points, x, mask))
        return self.after_rff(a + jax.nn.relu(self.rff(a)))
