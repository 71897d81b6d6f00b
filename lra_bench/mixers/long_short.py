"""Long-short attention (Transformer-LS, Zhu et al., arXiv 2107.02192): a window, and r mixtures of all tokens whose
weights depend on the tokens, under one softmax.

    P = softmax(X W_P) over the tokens,   K' = P^T K,   V' = P^T V,   r rows for each head    (dynamic projection)
    y = softmax(Q [LN_L(K~); LN_G(K')]^T / sqrt K) [LN_L(V~); LN_G(V')]                                   (DualLN)

K~, V~: the tokens of one's segment of w, and w/2 on either side of it. The norms are over the heads' joint width.
Padding has no weight in P and is no key in the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention, joined
from lra_bench.kernels.dense import dense
from lra_bench.kernels.patterns import SIZE
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention_part
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer, cut, join
from lra_bench.mixers.layers import XAVIER, LayerNorm

CARD = Card(
    title="Long-short",
    family="combined-patterns",
    paper="2107.02192",
    equation="dynamic projections, segment-wise sliding window, DualLN",
    year=2021,
    time=1.0,
    memory=1.0,
    exact_when="window >= length and rank = 0",
    exact_without="the projections and their norms",
    public="NVIDIA/transformer-ls (PyTorch)",
    differs="with rank 0 there is nothing to align, and both norms are left out (the authors' code keeps the window's)"
    "; P^T is taken of K and V before their norm, as in the equation (their code: after it); no global tokens",
    short={"window": 6, "rank": 5},
)


@dataclass(frozen=True)
class Config(Fused):
    """How far a token sees, and into how much the rest is gathered."""

    window: int = 8
    """w: tokens of a segment; half as many are seen on either side of it. 8 in the paper's LRA."""

    rank: int = 32
    """r: rows for each head that the tokens are projected to. 32 in the paper's LRA."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise ConfigError(f"window: {self.window}; at least 1")
        if self.rank < 0:
            raise ConfigError(f"rank: {self.rank}; at least 0")


@dataclass(frozen=True)
class Segments:
    """A query sees its own segment of `width`, and half as many tokens on either side of it."""

    width: int
    size: int = SIZE

    def table(self, queries: int, keys: int) -> np.ndarray:
        first = np.arange(queries) * self.size
        begin = first // self.width * self.width - self.width // 2
        end = ((first + self.size - 1) // self.width + 1) * self.width + self.width // 2
        low, high = np.maximum(begin // self.size, 0), np.minimum(-(-end // self.size), keys)
        row = low[:, None] + np.arange(max(high - low))
        return np.where(row < high[:, None], row, -1).astype(np.int32)

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        begin, side = i // self.width * self.width, self.width // 2
        return jnp.where((j >= begin - side) & (j < begin + self.width + side), 0, LOWEST).astype(jnp.float32)


class Mixer(HeadsMixer):
    """Every token looks at its neighbors and at r mixtures of all.

    Rotary positions turn queries and normalized keys; queries meet the mixtures, which have no place, as they are.
    """

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.rank, self.pattern = config.rank, Segments(min(config.window, dims.length))
        if config.rank:
            self.gather = nnx.Param(XAVIER(rngs.params(), (dims.width, dims.heads * config.rank)))
            joint = dims.heads * dims.head_width
            self.near, self.far = LayerNorm(joint), LayerNorm(joint)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        if not self.rank:
            return self.output(block_attention(*self.project(x), mask, self.pattern, impl=self.impl)[0])
        q, k, v = self.unturned(x)
        far = gathered(dense(x, self.gather[...]), k, v, mask)
        near_k, near_v = (normed(part, self.near) for part in (k, v))
        far_k, far_v = (normed(part, self.far) for part in far)
        some = jnp.broadcast_to(mask.any(1, keepdims=True), (len(x), self.rank))
        parts = (
            block_attention(self.turned(q), self.turned(near_k), near_v, mask, self.pattern, impl=self.impl),
            softmax_attention_part(q, far_k, far_v, some, self.impl),
        )
        return self.output(joined(parts))


@jax.checkpoint
def gathered(
    logits: Float[Array, "B L Hr"], k: Float[Array, "B H L K"], v: Float[Array, "B H L K"], mask: Bool[Array, "B L"]
) -> tuple[Float[Array, "B H r K"], Float[Array, "B H r K"]]:
    """P^T K and P^T V: for each head and row a softmax over the tokens that are there; 0 if none is."""
    there = mask[:, None, :, None]
    logits = jnp.where(there, cut(logits, k.shape[1]).astype(jnp.float32), LOWEST)
    P = jnp.where(there, jax.nn.softmax(logits, axis=2), 0).astype(k.dtype)
    return jnp.einsum("bhlr,bhlk->bhrk", P, k), jnp.einsum("bhlr,bhlk->bhrk", P, v)


def normed(x: Float[Array, "B H M K"], norm: LayerNorm) -> Float[Array, "B H M K"]:
    """Keys or values through `norm`, over all heads side by side."""
    return cut(norm(join(x)), x.shape[1])


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """The window over everything."""
    return [Mixer(Config(window=dims.length, rank=0), dims, rngs=rngs)]
