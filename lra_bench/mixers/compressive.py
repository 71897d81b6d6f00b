"""Compressive Transformer (Rae et al., arXiv 1911.05507): Transformer-XL whose oldest memory is not dropped but
compressed, c tokens to one cell, into a second memory.

    y = attention of x over [f_c(oldest); memory; x], with Transformer-XL's relative positions       (algorithm 1)
    loss of f_c: |attn(x, evicted) - attn(x, f_c(evicted))|^2, all but f_c held fixed                 (algorithm 2)

No gradient flows through a memory: the task does not train f_c. Padding is zero before f_c, and no key; a cell is a key
if it holds a true token. Where it is causal, a token sees none of its segment that come after it, as in section 5.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.memory_attention import Held, Memory, memory_attention, relative_scores
from lra_bench.kernels.product import product
from lra_bench.kernels.segment_attention import earlier, segments
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention
from lra_bench.mixers.base import Auxiliary, Dims
from lra_bench.mixers.caches import KeyValues, empty, extended
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer, cut
from lra_bench.mixers.layers import XAVIER

CARD = Card(
    title="Compressive Transformer",
    family="recurrence",
    paper="1911.05507",
    equation="algorithms 1 and 2",
    year=2019,
    time=1.0,
    memory=1.0,
    exact_when="segment >= length, W_r = 0 and u = 0",
    exact_without="both memories",
    causal_form="yes",
    segment="segment",
    public="compressive-transformer-pytorch (PyPI)",
    differs="unless it is causal, tokens of a segment see each other both ways; of other segments only the past is "
    "seen, so a cls token sees its own segment alone, and texts that are longer are pooled by the mean unless cls is "
    "asked for; the backbone's absolute positions stand beside the relative ones; the reconstruction loss is a mean of "
    "squares over tokens and entries; no dilated convolution and no most-used cells; segments of 128 (the paper, on "
    "PG-19: 512)",
    short={"segment": 8, "compressed": 2},
)


@dataclass(frozen=True)
class Config(Fused):
    """How long a segment is, how much past it sees, and how the older past is compressed."""

    segment: int = 128
    """s: tokens of a segment. The paper has 512 on PG-19."""

    memory: int = 1
    """Segments before it that are kept as they are."""

    compressed: int = 4
    """Segments before those that are kept in cells; at rate 4 as many cells as a segment has tokens."""

    rate: int = 4
    """c: tokens of a cell. The paper has 2 on PG-19."""

    compression: str = "conv"
    """f_c. conv: a convolution with kernel and stride c, trained by its reconstruction loss; mean; max."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segment < 1:
            raise ConfigError(f"segment: {self.segment}; at least 1")
        if self.memory < 1:
            raise ConfigError(f"memory: {self.memory}; at least 1, for it is the oldest memory that is compressed")
        if self.compressed < 0:
            raise ConfigError(f"compressed: {self.compressed}; at least 0")
        if self.rate < 1 or self.segment % self.rate:
            raise ConfigError(f"rate: {self.rate}; at least 1, and a segment of {self.segment} in whole cells")
        if self.compression not in ("conv", "mean", "max"):
            raise ConfigError(f"compression: '{self.compression}'; it can be: conv, mean, max")


class State(NamedTuple):
    """Keys and values of a segment and the kept ones before it; of cells; and the tokens of the cell that is filled."""

    tokens: KeyValues
    cells: KeyValues
    filling: Float[Array, "B c D"]


class Mixer(HeadsMixer):
    """Every token looks at its segment, at the past, and at cells of the older past."""

    turns: ClassVar[bool] = False  # its positions are relative already

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.config = config
        shape = (dims.heads, dims.head_width)
        self.relative = nnx.Param(XAVIER(rngs.params(), (dims.width, dims.heads * dims.head_width)))
        self.u, self.v = (nnx.Param(0.02 * jax.random.normal(rngs.params(), shape)) for _ in range(2))
        if config.compression == "conv":
            self.compressor = nnx.Param(XAVIER(rngs.params(), (config.rate * dims.width, dims.width)))
            self.reconstruction = Auxiliary(jnp.zeros((), jnp.float32))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        (B, L, _), s, c = x.shape, min(self.config.segment, x.shape[1]), self.config.rate
        W = jnp.split(self.qkv[...], 3, axis=1)[1:]
        q, k, v = (segments(part, s) for part in self.project(x))
        m = min(self.config.memory, q.shape[2] - 1)
        n = min(self.config.compressed, q.shape[2] - 1 - m)
        past = self.kept(lax.stop_gradient(x), mask, W, s)
        memory, older = Memory(*past, count=m), None
        if n:
            cells, full = self.compress(lax.stop_gradient(x), mask)
            old = self.kept(lax.stop_gradient(cells), full, W, s // c)
            older = Memory(*old, count=n, skip=m)
            if key is not None and self.config.compression == "conv":
                new = self.kept(cells, full, lax.stop_gradient(W), s // c)
                evicted, made = ([earlier(x, 1, skip=m - 1) for x in of] for of in (lax.stop_gradient(past), new))
                self.reconstruction[...] = loss(lax.stop_gradient(q), evicted, made, past[2], self.impl)
        learned = (self.relative[...], self.u[...], self.v[...])
        y = memory_attention(q, k, v, memory, *learned, cells=older, causal=self.causal, impl=self.impl)
        return self.output(y.reshape(B, self.heads, -1, y.shape[-1])[:, :, :L])

    def kept(self, x: Float[Array, "B M D"], mask: Bool[Array, "B M"], W: list[Array], s: int) -> Held:
        """Keys and values of what a memory holds and where it holds something, in segments."""
        k, v = (segments(cut(dense(x, w), self.heads), s) for w in W)
        return k, v, segments(mask[:, None, :, None], s)

    def compress(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B M D"], Bool[Array, "B M"]]:
        """f_c of each c tokens, and which cells hold a true one. Whole segments, the last one filled up."""
        c = self.config.rate
        more = -x.shape[1] % self.config.segment
        x = jnp.pad(x, ((0, 0), (0, more), (0, 0))).reshape(len(x), -1, c, x.shape[-1])
        return self.cells(x, jnp.pad(mask, ((0, 0), (0, more))).reshape(len(x), -1, c, 1))

    def cells(
        self, x: Float[Array, "B M c D"], there: Bool[Array, "B M c 1"]
    ) -> tuple[Float[Array, "B M D"], Bool[Array, "B M"]]:
        """f_c, and which cells hold a true token."""
        form, full = self.config.compression, there.any(2)
        if form == "max":
            return jnp.where(full, jnp.where(there, x, LOWEST).max(2), 0), full[..., 0]
        x = jnp.where(there, x, 0)
        if form == "mean":
            return x.sum(2) / jnp.maximum(there.sum(2), 1).astype(x.dtype), full[..., 0]
        return dense(x.reshape(*x.shape[:2], -1), self.compressor[...]), full[..., 0]

    def init_state(self, batch: int, length: int) -> State:
        """A cell waits until its segment is no longer among those that are kept as they are."""
        s, m, n, c = self.config.segment, self.config.memory, self.config.compressed, self.config.rate
        cells = min((n + m + 1) * s, length + -length % c) // c if n else 1
        filling = jnp.zeros((batch, c, self.qkv.shape[0]), self.dtype)
        return State(empty(self, batch, min((m + 1) * s, length)), empty(self, batch, cells), filling)

    def prefill(self, state: State, x: Float[Array, "B N D"]) -> tuple[State, Float[Array, "B N D"]]:
        (B, N, D), c = x.shape, self.config.rate
        y = self(x, jnp.ones((B, N), bool), key=None)
        filled = jnp.pad(x, ((0, 0), (0, -N % c), (0, 0))).reshape(B, -1, c, D)
        made, _ = self.cells(filled, jnp.ones((*filled.shape[:3], 1), bool))
        k, v = (cut(dense(made, w), self.heads) for w in jnp.split(self.qkv[...], 3, axis=1)[1:])
        tokens, cells = extended(state.tokens, *self.unturned(x)[1:]), extended(state.cells, k, v)
        return State(tokens, cells, filled[:, -1].astype(state.filling.dtype)), y

    def step(self, state: State, x: Float[Array, "B D"]) -> tuple[State, Float[Array, "B D"]]:
        q, k, v = self.unturned(x[:, None])
        state = self.filled(state, x)._replace(tokens=extended(state.tokens, k, v))
        k, v = (jnp.concatenate(parts, axis=2) for parts in zip(state.tokens[:2], state.cells[:2], strict=True))
        seen, distance = self.places(state)
        learned = (self.relative[...], self.u[...], self.v[...])
        scores = relative_scores(q, k, distance[None], self.furthest, *learned)
        weights = jax.nn.softmax(jnp.where(seen, scores, LOWEST), axis=-1)
        y = product("bhns,bhsv->bhnv", weights.astype(v.dtype), v)
        return state, self.output(y.astype(x.dtype))[:, 0]

    def filled(self, state: State, x: Float[Array, "B D"]) -> State:
        """With the cell of the next token as far as it goes: it is seen when it is full, and long past."""
        i, c = state.tokens.place, self.config.rate
        filling = state.filling.at[:, i % c].set(x.astype(state.filling.dtype))
        cell, _ = self.cells(filling[:, None], jnp.ones((len(x), 1, c, 1), bool))
        k, v = (cut(dense(cell, w), self.heads) for w in jnp.split(self.qkv[...], 3, axis=1)[1:])
        return state._replace(cells=extended(state.cells._replace(place=i // c), k, v), filling=filling)

    def places(self, state: State) -> tuple[Bool[Array, " S"], Int[Array, " S"]]:
        """Which tokens and cells the newest token sees, and how far back they are in the row of cells and tokens."""
        s, m, each = self.config.segment, self.config.memory, self.config.segment // self.config.rate
        i, j, cell = state.tokens.place - 1, state.tokens.places, state.cells.places
        recent = (j >= 0) & (i // s - j // s <= m)
        back = i // s - cell // each
        past = (cell >= 0) & (back > m) & (back <= m + self.config.compressed)
        distance = i % s + m * s + (i // s - m) * each - cell
        return jnp.concatenate([recent, past]), jnp.concatenate([i - j, distance])

    @property
    def furthest(self) -> int:
        """How far back a key can be."""
        s, m, n = self.config.segment, self.config.memory, self.config.compressed
        return (m + 1) * s + n * s // self.config.rate - 1


def loss(
    q: Float[Array, "B H N s K"], evicted: list[Array], cells: list[Array], real: Bool[Array, "B 1 N s 1"], impl: str
) -> Float32[Array, ""]:
    """How far attention over the cells is from attention over what they stand for, of the tokens that see any."""

    def attend(k: Array, v: Array, there: Array) -> Array:
        return softmax_attention(by_segment(q), by_segment(k), by_segment(v), by_segment(there)[:, 0, :, 0], impl)

    apart = (attend(*evicted) - attend(*cells)).astype(jnp.float32)
    seeing = by_segment(real & evicted[2].any(3, keepdims=True))
    count = jnp.maximum(seeing.sum(), 1) * apart.shape[1] * apart.shape[3]
    return jnp.where(seeing, jnp.square(apart), 0).sum() / count


def by_segment(x: Shaped[Array, "B H N s K"]) -> Shaped[Array, "BN H s K"]:
    """The segments as rows of the batch."""
    return jnp.moveaxis(x, 2, 1).reshape(-1, x.shape[1], *x.shape[3:])


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """One segment, and no positions."""
    mixer = Mixer(Config(segment=dims.length, rate=1), dims, rngs=rngs)
    mixer.relative[...] = jnp.zeros(mixer.relative.shape)
    mixer.u[...] = jnp.zeros(mixer.u.shape)
    return [mixer]
