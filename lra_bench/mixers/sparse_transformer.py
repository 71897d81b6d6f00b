"""Sparse Transformer (Child et al., arXiv 1904.10509, section 4.3): two patterns that together join any two tokens in
two steps, each of about sqrt L keys.

    y_i = sum_j softmax_j(q_i . k_j / sqrt K) v_j    over the j in A1(i), or A2(i), or in either of them
    stride:  A1 = |i - j| <= l                       A2 = l divides i - j
    fixed:   A1 = floor(i / l) = floor(j / l)        A2 = j mod l >= l - c

The strided columns are made rows by a transposition, the cells that sum up each block are cut out: no mask over L x L.
In one softmax over both patterns a key that is in both counts once. Padding is no key. Where it is causal, as all of
the paper is, both patterns have the j <= i only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention, joined
from lra_bench.kernels.patterns import SIZE, Blocks, Summaries, Window
from lra_bench.kernels.softmax_attention import softmax_attention_part
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, attended, empty, ring
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Decoded

CARD = Card(
    title="Sparse Transformer",
    family="combined-patterns",
    paper="1904.10509",
    equation="section 4.3",
    year=2019,
    time=1.5,
    memory=1.0,
    exact_when="one softmax over both patterns, stride >= length",
    causal_form="yes",
    public="openai/sparse_attention (CUDA, blocks)",
    differs="without `backbone.causal` bidirectional: the paper's patterns without their triangle j <= i; 8 summary "
    "cells (its texts: 32)",
    short={"stride": 6, "summary": 2},
    aliases={"strided": {"pattern": "stride", "merge": "heads"}},
    alias_cards={
        "strided": {
            "equation": "section 4.3, strided attention",
            "exact_when": "",
            "differs": "without `backbone.causal` bidirectional: the paper's patterns without their triangle j <= i",
        }
    },
)

Part = tuple[Float[Array, "B H L K"], Float32[Array, "B H L"]]


@dataclass(frozen=True)
class Config(Fused):
    """Which two patterns, and what is done with both."""

    pattern: str = "fixed"
    """fixed, the paper's for text: blocks, and the last cells of all blocks; stride, its for images and sound: a
    window, and every l-th token."""

    stride: int | None = None
    """l: tokens of a block, or between the tokens of a column; None: sqrt L, rounded. The paper takes 128 for texts of
    12,288 bytes."""

    summary: int = 8
    """c: the last so many cells of a block are seen by all (fixed only); at most the stride. The paper: 8, 16 or 32."""

    merge: str = "union"
    """union: every head has one softmax over both patterns, as the paper's text model has; heads: the first half of
    the heads has the first pattern, the others the second."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern not in ("stride", "fixed"):
            raise ConfigError(f"pattern: '{self.pattern}'; it can be: stride, fixed")
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"stride: {self.stride}; at least 1, or null for the length's square root")
        if self.summary < 1 or (self.pattern == "fixed" and self.stride is not None and self.summary > self.stride):
            raise ConfigError(f"summary: {self.summary}; at least 1 and at most the stride")
        if self.merge not in ("union", "heads"):
            raise ConfigError(f"merge: '{self.merge}'; it can be: union, heads")


class Halves(NamedTuple):
    """What the heads of A1 keep, and those of A2."""

    near: KeyValues
    far: KeyValues

    @property
    def place(self) -> Int[Array, ""]:
        """Of the next token."""
        return self.near.place


class Mixer(Decoded):
    """Every token looks at what is near, and at tokens that are spread over the whole length."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        if config.merge == "heads" and dims.heads < 2:
            raise ConfigError("merge: the two patterns on different heads need two heads")
        self.near_heads = None if config.merge == "union" else dims.heads // 2
        self.stride = min(config.stride or max(round(dims.length**0.5), 1), dims.length)
        self.summary = min(config.summary, self.stride) if config.pattern == "fixed" else None

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        n = self.near_heads
        if n is None:
            return joined([self.near(q, k, v, mask, all_of_it=False), self.far(q, k, v, mask)])
        near, _ = self.near(q[:, :n], k[:, :n], v[:, :n], mask, all_of_it=True)
        far, _ = self.far(q[:, n:], k[:, n:], v[:, n:], mask)
        return jnp.concatenate([near, far], axis=1)

    def near(self, q: Array, k: Array, v: Array, mask: Array, *, all_of_it: bool) -> Part:
        """A1; not all of it: without the keys that are in A2 too."""
        stride, size = self.stride, min(self.stride, 2 * SIZE)
        if self.summary is None:
            width, nearest = (stride, 0) if all_of_it else (stride - 1, 1)
            window = Window(width, size=size, nearest=nearest, causal=self.causal)
            return block_attention(q, k, v, mask, window, impl=self.impl)
        alone = jnp.arange(mask.shape[1]) % stride < stride - self.summary
        return block_attention(q, k, v, mask & (all_of_it | alone), Blocks(stride, causal=self.causal), impl=self.impl)

    def far(self, q: Array, k: Array, v: Array, mask: Array) -> Part:
        """A2."""
        there = mask[:, None, :, None]
        if self.summary is not None:
            k, v, there = (last_of_blocks(x, self.stride, self.summary) for x in (k, v, there))
            if self.causal:
                cells, j = Summaries(self.stride, self.summary), self.cells(k.shape[2])[None]
                return block_attention(q, k, v, there[:, 0, :, 0], cells, j=j, impl=self.impl)
            return softmax_attention_part(q, k, v, there[:, 0, :, 0], self.impl)
        q, k, v, there = (columns(x, self.stride) for x in (q, k, v, there))
        out, logsumexp = softmax_attention_part(q, k, v, there[:, 0, :, 0], self.impl, self.causal)
        L = mask.shape[1]
        return in_order(out, self.stride, L), in_order(logsumexp[..., None], self.stride, L)[..., 0]

    def cells(self, count: int) -> Int[Array, " S"]:
        """The places of the first so many cells of summaries."""
        assert self.summary is not None
        n, c = jnp.arange(count), self.summary
        return n // c * self.stride + self.stride - c + n % c

    def init_state(self, batch: int, length: int) -> KeyValues | Halves:
        """Keys and values of what can be seen again: own block or window, summaries, or all where columns are seen."""
        near, far, n = self.stride, length, self.near_heads
        if self.summary is not None:
            far = -(-length // self.stride) * self.summary
        if n is not None:
            return Halves(empty(self, batch, near, n), empty(self, batch, far, self.heads - n))
        return empty(self, batch, far if self.summary is None else near - self.summary + far)

    def extend(
        self, state: Any, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[Any, Float[Array, "B H N K"]]:
        n = self.near_heads
        if n is None:
            return attended(state, q, k, v, self.in_either, ring if self.summary is None else self.held)
        near, y = attended(state.near, q[:, :n], k[:, :n], v[:, :n], self.in_near)
        held = ring if self.summary is None else self.summaries
        far, z = attended(state.far, q[:, n:], k[:, n:], v[:, n:], self.in_far, held)
        return Halves(near, far), jnp.concatenate([y, z], axis=1)

    def summaries(self, count: Int[Array, ""], slots: int) -> Int[Array, " S"]:
        """The places of the cells of summaries that were seen."""
        places = self.cells(slots)
        return jnp.where(places < count, places, -1)

    def held(self, count: Int[Array, ""], slots: int) -> Int[Array, " S"]:
        """The latest tokens at each place of a block that is not in its summary, and all summaries."""
        assert self.summary is not None
        alone = self.stride - self.summary
        return jnp.concatenate([ring(count, self.stride)[:alone], self.summaries(count, slots - alone)])

    def in_near(self, i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
        """Is j in A1(i), where j <= i?"""
        return i - j <= self.stride if self.summary is None else i // self.stride == j // self.stride

    def in_far(self, i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
        """Is j in A2(i), where j <= i?"""
        if self.summary is None:
            return (i - j) % self.stride == 0
        return jnp.broadcast_to(j % self.stride >= self.stride - self.summary, jnp.broadcast_shapes(i.shape, j.shape))

    def in_either(self, i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
        """Is j in A1(i) or A2(i), where j <= i?"""
        return self.in_near(i, j) | self.in_far(i, j)


def by_blocks(x: Shaped[Array, "B H L K"], size: int) -> Shaped[Array, "B H N size K"]:
    """The length as blocks, the last one filled up."""
    B, H, L, K = x.shape
    return jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0))).reshape(B, H, -1, size, K)


def last_of_blocks(x: Shaped[Array, "B H L K"], size: int, cells: int) -> Shaped[Array, "B H Nc K"]:
    """The last cells of each block."""
    x = by_blocks(x, size)[:, :, :, size - cells :]
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def columns(x: Shaped[Array, "B H L K"], stride: int) -> Shaped[Array, "Bl H N K"]:
    """The tokens whose places leave the same remainder, as texts of their own."""
    x = jnp.moveaxis(by_blocks(x, stride), 3, 1)
    return x.reshape(-1, *x.shape[2:])


def in_order(x: Shaped[Array, "Bl H N K"], stride: int, length: int) -> Shaped[Array, "B H L K"]:
    """What `columns` was given."""
    x = jnp.moveaxis(x.reshape(-1, stride, *x.shape[1:]), 1, 3)
    return x.reshape(*x.shape[:2], -1, x.shape[-1])[:, :, :length]


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """One block that is everything."""
    return [Mixer(Config(stride=dims.length), dims, rngs=rngs)]
