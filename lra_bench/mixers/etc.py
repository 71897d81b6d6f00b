"""ETC, extended transformer construction (Ainslie et al., arXiv 2004.08483, section 3): a global memory of g tokens
beside the text, and relative positions.

    e_ij = q_i . (k_j + a_c) / sqrt K,   c: the label of the pair i, j
    z' = LN(z + W_o softmax(e) v)        over the memory z (g2g) and the text (g2l), in one softmax
    y  = W_o softmax(e) v                over z' (l2g) and the tokens at most r away (l2l), in one softmax

Two tokens of the text, or of the memory, are labeled by their distance, clipped; all pairs across by one label for
each direction. The four pieces share their projections. Padding is no key; the memory always is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import joined
from lra_bench.kernels.dense import dense
from lra_bench.kernels.relative_attention import relative_attention
from lra_bench.kernels.softmax_attention import softmax_attention_part
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer, cut
from lra_bench.mixers.layers import LayerNorm

CARD = Card(
    title="ETC",
    family="combined-patterns",
    paper="2004.08483",
    equation="section 3, global-local attention and relative position labels",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="radius >= length, no memory, and vectors of distance that are zero",
    exact_without="the memory and the distances",
    causal_form="no: its memory reads the whole text before any token reads the memory",
    public="google-research/etcmodel (TensorFlow)",
    differs="the memory is each layer's own, learned, and does not go on to the next: its half of a layer comes before "
    "the text's half, which reads what it has found. Memory and text share their projections (the paper's default does "
    "not). Without a feed-forward layer on the memory, without the paper's "
    "structure of sentences (masks and labels) and its CPC loss",
    short={"radius": 5, "distance": 2, "tokens": 3},
)


@dataclass(frozen=True)
class Config(Fused):
    """How far a token sees, and what beside it."""

    radius: int = 84
    """r: tokens to either side that a token of the text sees."""

    tokens: int = 64
    """g: tokens of the memory. The paper has 230 beside 4,096 tokens; this is as many to LRA's 1,024."""

    distance: int = 12
    """Distances beyond are labeled as this one is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.radius < 1:
            raise ConfigError(f"radius: {self.radius}; at least 1")
        if self.tokens < 0:
            raise ConfigError(f"tokens: {self.tokens}; at least 0")
        if not 0 <= self.distance <= self.radius:
            raise ConfigError(f"distance: {self.distance}; from 0 to the radius")


class Mixer(HeadsMixer):
    """Every token looks at its neighbors and at a memory that has looked at all of them."""

    turns: ClassVar[bool] = False  # its positions are relative already, and its labels' vectors would not be turned

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        H, K, g = dims.heads, dims.head_width, config.tokens
        self.tokens, self.radius = g, min(config.radius, dims.length)
        self.near = nnx.Param(vectors((H, 2 * min(config.distance, self.radius) + 1, K), rngs))
        if g:
            self.memory = nnx.Param(jax.random.normal(rngs.params(), (g, dims.width)))
            self.norm = LayerNorm(dims.width)
            self.among = nnx.Param(vectors((H, 2 * min(config.distance, g) + 1, K), rngs))
            self.across = nnx.Param(vectors((2, H, K), rngs))  # from the memory to the text, and back

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        none = (k[:, :, :0], v[:, :, :0])
        more = none if self.tokens == 0 else self.read(k, v, mask)
        return relative_attention(q, k, v, mask, self.near[...], more, self.radius, self.impl)[0]

    def read(
        self, k: Float[Array, "B H L K"], v: Float[Array, "B H L K"], mask: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B H g K"], Float[Array, "B H g K"]]:
        """Keys and values of the memory, after it has looked at itself and at the text."""
        z = jnp.broadcast_to(self.memory[...].astype(k.dtype), (len(k), *self.memory.shape))
        queries, keys, values = self.projected(z)
        none, there = (keys[:, :, :0], values[:, :, :0]), jnp.ones(z.shape[:2], bool)
        among = relative_attention(queries, keys, values, there, self.among[...], none, self.tokens, self.impl)
        out, logsumexp = softmax_attention_part(queries, k, v, mask, self.impl)
        label = jnp.einsum("bhgk,hk->bhg", queries.astype(jnp.float32), self.across[0]) * k.shape[-1] ** -0.5
        z = self.norm(z + self.output(joined([among, (out, logsumexp + label)])))
        _, keys, values = self.projected(z)
        return keys + self.across[1, :, None].astype(k.dtype), values

    def projected(self, z: Float[Array, "B g D"]) -> tuple[Float[Array, "B H g K"], ...]:
        """Queries, keys and values of the memory, which has no positions to turn them by."""
        return tuple(cut(part, self.heads) for part in jnp.split(dense(z, self.qkv[...]), 3, axis=-1))


def vectors(shape: tuple[int, ...], rngs: nnx.Rngs) -> Float[Array, "..."]:
    """N(0, 0.02^2), as the paper's released model begins."""
    return 0.02 * jax.random.normal(rngs.params(), shape)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """Every token in sight, no memory, no positions."""
    mixer = Mixer(Config(radius=dims.length, tokens=0), dims, rngs=rngs)
    mixer.near[...] = jnp.zeros_like(mixer.near[...])
    return [mixer]
