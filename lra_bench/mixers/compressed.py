"""Memory-compressed attention (Liu et al., arXiv 1801.10198, section 4.2.3): a strided convolution over the projected
keys and values leaves every query a third of them to look at.

    y_i = softmax(q_i . k'_n / sqrt K) v'_n,   k'_n = sum_t k_{n stride + t} C_t,   t < kernel; v' likewise

Padded keys and values are zero before the convolution; a cell n is a key if it saw a true token.
Where it is causal, a cell is a key of those whose place is its last token's or later: of the first kernel - 1 tokens no
cell is, and they get 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.dense import dense
from lra_bench.kernels.patterns import Summaries
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, attended, empty
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Decoded, cut, join
from lra_bench.mixers.layers import XAVIER

CARD = Card(
    title="Memory-compressed",
    family="fixed-pattern",
    paper="1801.10198",
    equation="section 4.2.3",
    year=2018,
    time=2.0,
    memory=1.0,
    exact_when="kernel = stride = 1 and C = the identity",
    exact_without="the compression",
    causal_form="yes",
    public="memory-compressed-attention (PyPI, PyTorch)",
    differs="every layer compresses (the paper alternates with layers of local attention)",
)


@dataclass(frozen=True)
class Config(Fused):
    """How far keys and values are compressed."""

    kernel: int = 3
    """Tokens that a cell is made of."""

    stride: int = 3
    """Tokens from one cell to the next."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride < 1:
            raise ConfigError(f"stride: {self.stride}; at least 1")
        if self.kernel < self.stride:
            raise ConfigError(f"kernel: {self.kernel}; at least the stride, {self.stride}, or tokens are left out")


class Compressing(NamedTuple):
    """The cells so far, and keys and values of the tokens that the next cells are made of too."""

    cells: KeyValues
    k: Float[Array, "B t J"]
    v: Float[Array, "B t J"]

    @property
    def place(self) -> Int[Array, ""]:
        """Of the next token."""
        return self.cells.place


class Mixer(Decoded):
    """Every token looks at cells of neighbors."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.kernel, self.stride = config.kernel, config.stride
        joint = dims.heads * dims.head_width
        shape = (config.kernel * joint, joint)
        self.compress_k, self.compress_v = (nnx.Param(XAVIER(rngs.params(), shape)) for _ in range(2))

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        there = mask[:, None, :, None].astype(k.dtype)
        k, v = (
            cut(dense(self.windows(join(x * there)), C[...]), self.heads)
            for x, C in ((k, self.compress_k), (v, self.compress_v))
        )
        seen = self.windows(mask[..., None]).any(-1)
        if not self.causal:
            return softmax_attention(q, k, v, seen, self.impl)
        return block_attention(q, k, v, seen, Summaries(self.stride), j=self.ends(k.shape[2])[None], impl=self.impl)[0]

    def windows(self, x: Array) -> Array:
        """[B, L, J]: the tokens of each cell side by side, [B, N, kernel J]; zeros after the last one."""
        cells = -(-x.shape[1] // self.stride)
        x = jnp.pad(x, ((0, 0), (0, (cells - 1) * self.stride + self.kernel - x.shape[1]), (0, 0)))
        if self.kernel == self.stride:
            return x.reshape(len(x), cells, -1)
        last = (cells - 1) * self.stride + 1
        return jnp.concatenate([x[:, t : t + last : self.stride] for t in range(self.kernel)], axis=-1)

    def ends(self, count: int) -> Int[Array, " S"]:
        """The places of the last tokens of so many cells."""
        return jnp.arange(count) * self.stride + self.kernel - 1

    def init_state(self, batch: int, length: int) -> Compressing:
        """The cells that are seen, and what the next one is made of."""
        cells = empty(self, batch, max((length - self.kernel) // self.stride + 1, 0))
        rest = jnp.zeros((batch, self.kernel - 1, self.heads * self.head_width), self.dtype)
        return Compressing(cells, rest, rest)

    def extend(
        self, state: Compressing, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[Compressing, Float[Array, "B H N K"]]:
        """A cell is made at every token, and kept where one ends."""
        N = q.shape[2]
        k, v = (jnp.concatenate([old, join(new)], axis=1) for old, new in ((state.k, k), (state.v, v)))
        k_cells, v_cells = (
            cut(dense(jnp.concatenate([x[:, t : t + N] for t in range(self.kernel)], axis=-1), C[...]), self.heads)
            for x, C in ((k, self.compress_k), (v, self.compress_v))
        )
        cells, y = attended(state.cells, q, k_cells, v_cells, self.ended, self.held)
        return Compressing(cells, k[:, N:], v[:, N:]), y

    def held(self, count: Int[Array, ""], slots: int) -> Int[Array, " S"]:
        """The last tokens of the cells so far."""
        ends = self.ends(slots)
        return jnp.where(ends < count, ends, -1)

    def ended(self, i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
        """Is j the last token of a cell, where j <= i?"""
        over = j - self.kernel + 1
        return jnp.broadcast_to((over >= 0) & (over % self.stride == 0), jnp.broadcast_shapes(i.shape, j.shape))


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """A cell for each token."""
    mixer = Mixer(Config(kernel=1, stride=1), dims, rngs=rngs)
    for C in (mixer.compress_k, mixer.compress_v):
        C[...] = jnp.eye(len(C))
    return [mixer]
