"""Hierarchical attention (H-Transformer-1D, Zhu and Soricut, arXiv 2107.11906): near tokens one by one, far ones as
means over cells that double in size with their distance, like a hierarchical matrix.

    y_i = sum_l sum_{j at level l} exp(q^l_i . k^l_j / sqrt K) v_j / the same sum without v_j

q^l and k^l are means over the cells of 2^l tokens that hold i and j; j is at the lowest level at which its block and
i's are neighbors. Means are over true tokens, padding has no weight.
"""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.hierarchical_attention import hierarchical_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="H-Transformer-1D",
    family="downsampling",
    paper="2107.11906",
    equation="hierarchical attention: coarsened queries, keys and values",
    year=2021,
    time=1.0,
    memory=1.0,
    exact_when="block >= length",
    exact_without="the coarser levels",
    public="h-transformer-1d (PyPI, PyTorch)",
    differs="no relative position bias (the authors' code has one); a cell's mean is over its true tokens (their code: "
    "the mean of its halves' means); any length, not a power of two",
    short={"block": 4},
)


@dataclass(frozen=True)
class Config(Walked):
    """How far a token sees exactly."""

    block: int = 16
    """N_r: cells of a block, even; the paper's numerical rank."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 2 or self.block % 2:
            raise ConfigError(f"block: {self.block}; at least 2, and even")


class Mixer(HeadsMixer):
    """Every token looks at its neighbors, and at means of all others."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.block = min(config.block, dims.length + dims.length % 2)

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        return hierarchical_attention(q, k, v, mask, self.block, self.impl)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """One block."""
    return [Mixer(Config(block=dims.length + dims.length % 2), dims, rngs=rngs)]
