"""Long-short attention (Transformer-LS, Zhu et al., arXiv 2107.02192): a window, and r mixtures of all tokens whose
weights depend on the tokens, under one softmax.

    P = softmax(X W_P) over the tokens,   K' = P^T K,   V' = P^T V,   r rows for each head    (dynamic projection)
    y = softmax(Q [LN_L(K~); LN_G(K')]^T / sqrt K) [LN_L(V~); LN_G(V')]                                   (DualLN)

K~, V~: the tokens of one's segment of w, and w/2 on either side of it. The norms are over the heads' joint width.
Padding has no weight in P and is no key in the window.
Where it is causal (section 3.3, segment-wise dynamic projection): P is a softmax over each l tokens by themselves, K'
and V' are the rows of all segments of l before the query's own, and K~, V~ the latest w tokens, as in their code.
There are r L / l such rows then: the work grows with L^2 / l.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention, joined
from lra_bench.kernels.dense import dense
from lra_bench.kernels.patterns import SIZE, Summaries, Window
from lra_bench.kernels.product import product
from lra_bench.kernels.rotary import rotary_at
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention_part
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, Part, attended_part, behind, empty, extended, within
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
    exact_when="window >= length and rank = 0 (segment_rank where it is causal)",
    exact_without="the projections and their norms",
    causal_form="yes",
    causal_growth={"time": 2.0},
    public="NVIDIA/transformer-ls (PyTorch)",
    differs="with rank 0 there is nothing to align, and both norms are left out (the authors' code keeps the window's)"
    "; P^T is taken of K and V before their norm, as in the equation (their code: after it); no global tokens; "
    "where it is causal, work grows with L^2 over `segment`",
    short={"window": 6, "rank": 5, "segment": 4, "segment_rank": 2},
)


@dataclass(frozen=True)
class Config(Fused):
    """How far a token sees, and into how much the rest is gathered."""

    window: int = 8
    """w: tokens of a segment; half as many are seen on either side of it. 8 in the paper's LRA. Where it is causal, the
    latest so many are seen."""

    rank: int = 32
    """r: rows for each head that the tokens are projected to. 32 in the paper's LRA."""

    segment: int = 8
    """l: tokens that are projected together where it is causal. 16 in the paper's language models, whose window is 512;
    where l is above w, a token does not see the first ones of its own segment."""

    segment_rank: int = 1
    """r of each segment, where it is causal. 1 in the paper's language models."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("window", 1), ("rank", 0), ("segment", 1), ("segment_rank", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: {getattr(self, name)}; at least {least}")


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
        begin, side = i - lax.rem(i, jnp.full_like(i, self.width)), self.width // 2
        return jnp.where((j >= begin - side) & (j < begin + self.width + side), 0, LOWEST).astype(jnp.float32)


class Segment(NamedTuple):
    """Sums over the tokens so far of a segment, weighted by exp(logit - top)."""

    top: Float32[Array, "B H r 1"]
    total: Float32[Array, "B H r 1"]
    k: Float32[Array, "B H r K"]
    v: Float32[Array, "B H r K"]


class LongShort(NamedTuple):
    """The window, the rows of the segments, and the segment that is not yet at its end."""

    near: KeyValues
    k: Float[Array, "B H S K"]
    v: Float[Array, "B H S K"]
    segment: Segment


class Mixer(HeadsMixer):
    """Every token looks at its neighbors and at r mixtures of all; where it is causal, at those of segments before it.

    Rotary positions turn queries and normalized keys; queries meet the mixtures, which have no place, as they are.
    """

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        width, self.segment = min(config.window, dims.length), config.segment
        self.rank = config.segment_rank if dims.causal else config.rank
        self.pattern: Window | Segments = Window(width - 1, causal=True) if dims.causal else Segments(width)
        if self.rank:
            self.gather = nnx.Param(XAVIER(rngs.params(), (dims.width, dims.heads * self.rank)))
            joint = dims.heads * dims.head_width
            self.near, self.far = LayerNorm(joint), LayerNorm(joint)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        if not self.rank:
            return self.output(block_attention(*self.project(x), mask, self.pattern, impl=self.impl)[0])
        q, k, v = self.unturned(x)
        near_k, near_v = (normed(part, self.near) for part in (k, v))
        parts = (
            block_attention(self.turned(q), self.turned(near_k), near_v, mask, self.pattern, impl=self.impl),
            (self.segments if self.causal else self.mixtures)(dense(x, self.gather[...]), q, k, v, mask),
        )
        return self.output(joined(parts))

    def mixtures(self, logits: Array, q: Array, k: Array, v: Array, mask: Array) -> Part:
        """Attention to the rows of the whole text."""
        k, v = (normed(part, self.far) for part in gathered(logits, k, v, mask))
        some = jnp.broadcast_to(mask.any(1, keepdims=True), (len(mask), self.rank))
        return softmax_attention_part(q, k, v, some, self.impl)

    def segments(self, logits: Array, q: Array, k: Array, v: Array, mask: Array) -> Part:
        """Attention to the rows of the segments before the query's own."""
        size, (k, v) = self.segment, self.rows(logits, k, v, mask)
        some = jnp.repeat(filled(mask[..., None], size).reshape(len(mask), -1, size).any(2), self.rank, axis=1)
        ends = (jnp.arange(k.shape[2]) // self.rank + 1) * size
        return block_attention(q, k, v, some, Summaries(size, self.rank), j=ends[None], impl=self.impl)

    def rows(self, logits: Array, k: Array, v: Array, mask: Array) -> tuple[Array, Array]:
        """r rows of each segment, one segment after another."""
        B, size = len(mask), self.segment
        k, v = (join(x) for x in (k, v))
        logits, k, v, there = (filled(x, size).reshape(-1, size, x.shape[-1]) for x in (logits, k, v, mask[..., None]))
        rows = gathered(logits, *(cut(x, self.heads) for x in (k, v)), there[..., 0])
        k, v = (normed(cut(join(x).reshape(B, -1, x.shape[1] * x.shape[3]), self.heads), self.far) for x in rows)
        return k, v

    def init_state(self, batch: int, length: int) -> LongShort:
        """The window, and r rows for each segment."""
        shape = (batch, self.heads, self.rank, 1)
        top, none = jnp.full(shape, LOWEST), jnp.zeros(shape)
        wide = jnp.zeros((*shape[:3], self.head_width))
        rows = empty(self, batch, max(length // self.segment, 1) * self.rank)
        near = empty(self, batch, min(max(self.pattern.width, 1), length))
        return LongShort(near, rows.k, rows.v, Segment(top, none, wide, wide))

    def prefill(self, state: LongShort, x: Float[Array, "B N D"]) -> tuple[LongShort, Float[Array, "B N D"]]:
        mask = jnp.ones(x.shape[:2], bool)
        y = self(x, mask, key=None)
        _, k, v = self.unturned(x)
        near_k, near_v = (normed(part, self.near) for part in (k, v)) if self.rank else (k, v)
        state = state._replace(near=extended(state.near, self.turned(near_k), near_v))
        if not self.rank:
            return state, y
        logits, count = dense(x, self.gather[...]), state.k.shape[2]
        rows = (row[:, :, :count].astype(state.k.dtype) for row in self.rows(logits, k, v, mask))
        k_rows, v_rows = (
            lax.dynamic_update_slice_in_dim(old, row, 0, axis=2)
            for old, row in zip((state.k, state.v), rows, strict=True)
        )
        last = (x.shape[1] - 1) // self.segment * self.segment
        return LongShort(state.near, k_rows, v_rows, self.half(logits[:, last:], k[:, :, last:], v[:, :, last:])), y

    def half(self, logits: Float[Array, "B T Hr"], k: Float[Array, "B H T K"], v: Float[Array, "B H T K"]) -> Segment:
        """The sums over a segment whose first T tokens are known."""
        logits = cut(logits.astype(jnp.float32), self.heads).swapaxes(2, 3)
        top = logits.max(-1, keepdims=True)
        weight = jnp.exp(logits - top)
        total, sums = weight.sum(-1, keepdims=True), (product("bhrt,bhtk->bhrk", weight, h) for h in (k, v))
        return Segment(top, total, *sums)

    def step(self, state: LongShort, x: Float[Array, "B D"]) -> tuple[LongShort, Float[Array, "B D"]]:
        q, k, v = self.unturned(x[:, None])
        near_k, near_v = (normed(part, self.near) for part in (k, v)) if self.rank else (k, v)
        place = state.near.place
        q_near, near_k = (self.turned_at(part, place) for part in (q, near_k))
        near, read = attended_part(state.near, q_near, near_k, near_v, within(self.pattern.width))
        state = state._replace(near=near)
        if not self.rank:
            return state, self.output(read[0].astype(x.dtype))[:, 0]
        there = jnp.arange(state.k.shape[2]) // self.rank < place // self.segment
        far = softmax_attention_part(q, state.k, state.v, jnp.broadcast_to(there, (len(x), there.size)), self.impl)
        y = self.output(joined([read, far]).astype(x.dtype))[:, 0]
        return self.projected(state, dense(x, self.gather[...]), k, v, behind(place, y)), y

    def turned_at(self, x: Float[Array, "B H 1 K"], place: Int[Array, ""]) -> Float[Array, "B H 1 K"]:
        """A query or key by its place, where places are rotary."""
        return rotary_at(x, place[None]) if self.rotary else x

    def projected(
        self,
        state: LongShort,
        logits: Float[Array, "B Hr"],
        k: Float[Array, "B H 1 K"],
        v: Float[Array, "B H 1 K"],
        place: Int[Array, ""],
    ) -> LongShort:
        """With a token's share in its segment, whose rows so far are written where they will stay."""
        begins, logits = place % self.segment == 0, logits.reshape(len(logits), self.heads, -1, 1).astype(jnp.float32)
        top = jnp.where(begins, LOWEST, state.segment.top)
        new = jnp.maximum(top, logits)
        fade, weight = jnp.exp(top - new), jnp.exp(logits - new)
        one = jnp.ones_like(weight)
        sums = (old * fade + weight * part for old, part in zip(state.segment[1:], (one, k, v), strict=True))
        segment = Segment(new, *sums)
        at = place // self.segment * self.rank + jnp.arange(self.rank)
        rows = (normed((part / segment.total).astype(k.dtype), self.far) for part in (segment.k, segment.v))
        k, v = (old.at[:, :, at].set(row, mode="drop") for old, row in zip((state.k, state.v), rows, strict=True))
        return LongShort(state.near, k, v, segment)


def filled(x: Shaped[Array, "B L J"], size: int) -> Shaped[Array, "B N*size J"]:
    """Zeros behind the last token, up to a multiple of `size`."""
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), (0, 0)))


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
    return [Mixer(Config(window=dims.length, rank=0, segment_rank=0), dims, rngs=rngs)]
