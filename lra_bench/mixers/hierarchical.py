"""Hierarchical attention (H-Transformer-1D, Zhu and Soricut, arXiv 2107.11906): near tokens one by one, far ones as
means over cells that double in size with their distance, like a hierarchical matrix.

    y_i = sum_l sum_{j at level l} exp(q^l_i . k^l_j / sqrt K) v_j / the same sum without v_j

q^l and k^l are means over the cells of 2^l tokens that hold i and j; j is at the lowest level at which its block and
i's are neighbors. Means are over true tokens, padding has no weight.
Where it is causal, the sums are over j <= i, and q^l is q_i itself: in the mean over its cell are later tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.hierarchical_attention import causal_hierarchical_attention, hierarchical_attention
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST
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
    causal_form="yes",
    public="h-transformer-1d (PyPI, PyTorch)",
    differs="no relative position bias (the authors' code has one); a cell's mean is over its true tokens (their code: "
    "the mean of its halves' means); any length, not a power of two; where it is "
    "causal, a token asks by itself at all levels, which costs L log L",
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


class Cells(NamedTuple):
    """Sums of keys and values over the latest cells of each level, the cell c in the slot c mod 2 N_r."""

    k: Float32[Array, "l B H S K"]
    v: Float32[Array, "l B H S K"]
    place: Int[Array, ""]  # of the next token


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
        form = causal_hierarchical_attention if self.causal else hierarchical_attention
        return form(q, k, v, mask, self.block, self.impl)

    def init_state(self, batch: int, length: int) -> Cells:
        """Two blocks of each level."""
        levels = max(math.ceil(math.log2(length / self.block)), 1)
        cells = jnp.zeros((levels, batch, self.heads, 2 * self.block, self.head_width), jnp.float32)
        return Cells(cells, cells, jnp.zeros((), jnp.int32))

    def prefill(self, state: Cells, x: Float[Array, "B N D"]) -> tuple[Cells, Float[Array, "B N D"]]:
        q, k, v = self.project(x)
        y = self.output(self.attend(q, k, v, jnp.ones(x.shape[:2], bool)).astype(x.dtype))
        k, v = (jnp.stack([self.latest(h, level) for level in range(len(state.k))]) for h in (k, v))
        return Cells(k, v, state.place + x.shape[1]), y

    def latest(self, h: Float[Array, "B H N K"], level: int) -> Float32[Array, "B H S K"]:
        """Sums over the cells of a level, of which the latest are kept."""
        h = jnp.pad(h.astype(jnp.float32), ((0, 0), (0, 0), (0, -h.shape[2] % 2**level), (0, 0)))
        cells = h.reshape(*h.shape[:2], -1, 2**level, h.shape[3]).sum(3)
        slots, count = 2 * self.block, cells.shape[2]
        at = np.arange(max(count - slots, 0), count)
        return jnp.zeros((*h.shape[:2], slots, h.shape[3])).at[:, :, at % slots].set(cells[:, :, at])

    def step(self, state: Cells, x: Float[Array, "B D"]) -> tuple[Cells, Float[Array, "B D"]]:
        q, *new = (part[:, :, 0] for part in self.projected_at(x[:, None], state.place))
        level = jnp.arange(len(state.k))
        own = state.place >> level
        slot, begins = own % (2 * self.block), (state.place == own << level)[:, None, None, None]
        k, v = (
            cells.at[level, :, :, slot].set(jnp.where(begins, 0, cells[level, :, :, slot]) + one)
            for cells, one in zip((state.k, state.v), new, strict=True)
        )
        count = (2.0**level)[:, None, None, None]
        scores = product("bhk,lbhsk->lbhs", q.astype(k.dtype), k) * q.shape[-1] ** -0.5 / count + jnp.log(count)
        weights = jax.nn.softmax(jnp.where(self.seen(own, level)[:, None, None], scores, LOWEST), axis=(0, 3))
        y = product("lbhs,lbhsk->bhk", weights / count, v).astype(x.dtype)
        return Cells(k, v, state.place + 1), self.output(y[:, :, None])[:, 0]

    def seen(self, own: Int[Array, " l"], level: Int[Array, " l"]) -> Bool[Array, "l S"]:
        """Of each level the cells in the slots that the token meets there, whose own cell is `own`."""
        own, slots = own[:, None], jnp.arange(2 * self.block)
        cell = own - (own - slots) % (2 * self.block)
        half, other = (at // (self.block // 2) for at in (own, cell))
        coarse = (other == half - 2) | ((half % 2 == 1) & (other == half - 3))
        return (cell >= 0) & jnp.where(level[:, None] == 0, other // 2 >= half // 2 - 1, coarse)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """One block."""
    return [Mixer(Config(block=dims.length + dims.length % 2), dims, rngs=rngs)]
