"""Sparse Sinkhorn attention (Tay et al., arXiv 2002.11296, section 3): a small network sorts blocks of keys and values,
softly, and tokens see their own block and the one that was sorted to its place.

    R = relu(relu(X' W_B + b_B) W_P + b_P),   X'_i: the sum of block i's tokens,   R: [N, N]        (section 3.1)
    P = rows and columns of exp((R + e) / tau) normalized in turn;  e: Gumbel noise, in training    (section 3.1.2)
    y_i = softmax(q_i [K_b, (P K)_b]^T / sqrt K) [V_b, (P V)_b],   b: the block of i                (section 3.2)

SortCut (section 3.4): every token sees the first n sorted blocks, and nothing else. Padding is in no sum; a block of
padding alone is no row and no column of P. A sorted token is the mean of the tokens that are there, and P's share of
them is a factor of its weight in the softmax.

Where it is causal (section 3.3): X'_i is the sum of all tokens up to block i's first; a row of P has the blocks before
its own, and its columns are divided by their sums up to each row. In its own block a token sees those up to itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import joined
from lra_bench.kernels.block_sort import sinkhorn, sinkhorn_row, sorted_attention, sorted_blocks, weighted
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention_part
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, attended_part, behind, empty, extended
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer
from lra_bench.mixers.layers import Dense

CARD = Card(
    title="Sinkhorn Transformer",
    family="learnable-pattern",
    paper="2002.11296",
    equation="section 3",
    year=2020,
    time=2.0,
    memory=2.0,
    exact_when="block >= length",
    exact_without="the sort",
    causal_form="yes",
    public="sinkhorn-transformer (PyPI, PyTorch)",
    differs="the block's size, not the number of blocks, is held fixed as texts grow, so that P "
    "grows with their square; own and sorted keys stand side by side in one softmax; padding takes weight from a "
    "sorted token as its share of it grows",
    short={"block": 8},
)


@dataclass(frozen=True)
class Config(Fused):
    """What is sorted, and how."""

    block: int = 64
    """b: tokens of a block."""

    iterations: int = 7
    """Normalizations of rows and columns; 5 to 10 in the paper."""

    temperature: float = 0.75
    """tau: what the logits are divided by."""

    cut: int = 0
    """n of SortCut: sorted blocks that all tokens see, and nothing else; 0: its own and the one sorted to its
    place. 0 where it is causal: what is sorted to the first place may stand anywhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("block", 1), ("iterations", 1), ("cut", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: {getattr(self, name)}; at least {least}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature: {self.temperature}; above 0")


class Sorting(NamedTuple):
    """Keys and values of all tokens, the sum of x, the sums of P's columns, and what is sorted to the current block."""

    cache: KeyValues
    total: Float32[Array, "B D"]
    columns: Float32[Array, "T B H N"]
    k: Float[Array, "B H b K"]
    v: Float[Array, "B H b K"]
    share: Float32[Array, "B H b"]


class Mixer(HeadsMixer):
    """Every token looks at its own block, and at one from elsewhere."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.config, self.size = config, min(config.block, dims.length)
        if dims.causal and config.cut:
            raise ConfigError(f"cut: {config.cut}; 0 where the backbone is causal")
        self.longest = dims.length
        self.pooled = Dense(dims.width, dims.width, rngs=rngs)
        self.places = Dense(dims.width, dims.heads * -(-dims.length // self.size), rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        return self.output(self.sorted(x, *self.project(x), mask, key))

    def sorted(
        self, x: Float[Array, "B L D"], q: Array, k: Array, v: Array, mask: Bool[Array, "B L"], key: jax.Array | None
    ) -> Float[Array, "B H L K"]:
        """What queries read in their own block and in what is sorted to it."""
        L, size = x.shape[1], self.size
        q, k, v = (filled(h, size, 2) for h in (q, k, v))
        there = filled(mask, size, 1).reshape(len(x), -1, size)
        P = self.permutation(x, there, key)
        if self.config.cut:
            first = jnp.argsort(~there.any(2), axis=1, stable=True)[:, : self.config.cut]
            P = jnp.take_along_axis(P, first[:, None, :, None], axis=2)
        y = sorted_attention(q, k, v, there, P, self.config.cut > 0, self.impl, self.causal)
        return y[:, :, :L]

    def permutation(
        self, x: Float[Array, "B L D"], there: Bool[Array, "B N b"], key: jax.Array | None
    ) -> Float32[Array, "B H N N"]:
        """P, from the blocks' sums by the sorting network."""
        R = self.sorting(self.totals(x, there))[..., : there.shape[1]].swapaxes(1, 2)
        if key is not None:
            R = R + jax.random.gumbel(key, R.shape)
        return sinkhorn(R / self.config.temperature, there.any(2), self.config.iterations, self.causal)

    def totals(self, x: Float[Array, "B L D"], there: Bool[Array, "B N b"]) -> Float32[Array, "B N D"]:
        """The sum of each block; where it is causal, of all that is known at its first token."""
        x = filled(x, self.size, 1).reshape(*there.shape, -1)
        x = x.astype(jnp.float32) * there[..., None]
        total = x.sum(2)
        if self.causal:
            total = jnp.pad(total, ((0, 0), (1, 0), (0, 0))).cumsum(1)[:, :-1] + x[:, :, 0]
        return total

    def sorting(self, total: Float32[Array, "B N D"]) -> Float32[Array, "B N H M"]:
        """R, from the blocks' sums."""
        R = jax.nn.relu(self.places(jax.nn.relu(self.pooled(total))))
        return R.reshape(*total.shape[:2], self.heads, -1)

    def init_state(self, batch: int, length: int) -> Sorting:
        """Keys and values of all tokens, which any later block may be sorted from."""
        blocks = -(-length // self.size)
        cache, block = empty(self, batch, blocks * self.size), empty(self, batch, self.size)
        columns = jnp.full((self.config.iterations, batch, self.heads, blocks), LOWEST)
        total = jnp.zeros((batch, self.out.shape[1]), jnp.float32)
        return Sorting(cache, total, columns, block.k, block.v, jnp.zeros(block.k.shape[:3]))

    def prefill(self, state: Sorting, x: Float[Array, "B N D"]) -> tuple[Sorting, Float[Array, "B N D"]]:
        mask, (q, k, v) = jnp.ones(x.shape[:2], bool), self.project(x)
        y = self.output(self.sorted(x, q, k, v, mask, None).astype(x.dtype))
        cache = extended(state.cache, k, v)
        totals = self.totals(x, filled(mask, self.size, 1).reshape(len(x), -1, self.size)).swapaxes(0, 1)

        def begin(columns: Array, block: tuple[Array, Array]) -> tuple[Array, Array]:
            P, columns = self.row(columns, *block)
            return columns, P

        columns, P = lax.scan(begin, state.columns, (totals, jnp.arange(len(totals))))
        total = x.astype(jnp.float32).sum(1)
        return Sorting(cache, total, columns, *self.sorted_to(P[-1], cache)), y

    def step(self, state: Sorting, x: Float[Array, "B D"]) -> tuple[Sorting, Float[Array, "B D"]]:
        q, k, v = self.projected_at(x[:, None], state.cache.place)
        total = state.total + x.astype(jnp.float32)
        begins = state.cache.place % self.size == 0
        cache, _, *before = state
        at_hand = lax.cond(begins, self.begun, lambda state, total: tuple(before), state, total)
        state = Sorting(cache._replace(place=behind(cache.place, at_hand[-1])), total, *at_hand)
        cache, own = attended_part(state.cache, q, k, v, lambda i, j: i // self.size == j // self.size)
        y, logsumexp = softmax_attention_part(*weighted(q, state.k, state.v, state.share), self.impl)
        y = joined([own, (y.reshape(own[0].shape), logsumexp.reshape(own[1].shape))])
        return state._replace(cache=cache), self.output(y.astype(x.dtype))[:, 0]

    def begun(self, state: Sorting, total: Float32[Array, "B D"]) -> tuple[Array, Array, Array, Array]:
        """At the first token of a block: the sums of P's columns, and what is sorted to it."""
        P, columns = self.row(state.columns, total, state.cache.place // self.size)
        return columns, *self.sorted_to(P, state.cache)

    def row(
        self, columns: Float32[Array, "T B H N"], total: Float32[Array, "B D"], block: Int[Array, ""]
    ) -> tuple[Float32[Array, "B H N"], Float32[Array, "T B H N"]]:
        """P's row of a block, and the sums of its columns with that."""
        R = self.sorting(total[:, None])[:, 0, :, : columns.shape[-1]] / self.config.temperature
        return sinkhorn_row(R, columns, block)

    def sorted_to(self, P: Float32[Array, "B H N"], cache: KeyValues) -> tuple[Array, Array, Array]:
        """Keys and values that a row of P sorts to its block, and their share."""
        there = jnp.ones((len(P), P.shape[-1], self.size), bool)
        (k, share), (v, _) = (sorted_blocks(P[:, :, None], h, there) for h in (cache.k, cache.v))
        return k, v, share


def filled(x: Shaped[Array, "..."], size: int, axis: int) -> Shaped[Array, "..."]:
    """Zeros behind the last entry of an axis, up to a multiple of `size`."""
    return jnp.pad(x, [(0, -length % size if at == axis else 0) for at, length in enumerate(x.shape)])


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """One block, which is sorted to its own place: every key stands there twice, which softmax does not see."""
    return [Mixer(Config(block=dims.length), dims, rngs=rngs)]
