"""Sliding-window attention (Longformer, Beltagy et al., arXiv 2004.05150, section 3.1), without global tokens.

    y_i = sum_j softmax_j(q_i . k_j / sqrt K) v_j   over the j with |i - j| <= w d and i - j a multiple of d

d is the dilation. The `block` form is the older one (arXiv 1802.05751; 1911.02972 with the identity permutation):
tokens see their own block of w neighbors and nothing beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.patterns import Blocks, Pattern, Window
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, attended, empty
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Decoded, near_heads

CARD = Card(
    title="Local window",
    family="fixed-pattern",
    paper="2004.05150",
    equation="section 3.1",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="window >= length",
    causal_form="yes",
    public="flash_attn_func with window_size of flash-attn (CUDA); splash attention with a LocalMask (TPU)",
    differs="no global tokens; the same window and dilation in every layer (the paper widens them with depth)",
    short={"window": 5},
    aliases={"block-local": {"form": "block"}, "dilated": {"dilation": 2, "near_heads": 1}},
    alias_cards={
        "block-local": {
            "title": "Block-local attention",
            "paper": "1911.02972",
            "equation": "blockwise attention with the identity permutation; 1802.05751, local attention",
            "year": 2019,
            "differs": "one permutation, the identity, in every head and layer, and no tokens beside a block's own",
        },
        "dilated": {"exact_when": ""},
    },
)


@dataclass(frozen=True)
class Config(Fused):
    """How far a token sees."""

    window: int = 128
    """w: neighbors on each side, or the size of a block. Longformer is pretrained with 256 on each side, LRA's blocks
    have 50 or 64 tokens; at LRA's 1,024 tokens 256 on each side would be half of everything."""

    form: str = "sliding"
    """sliding: w neighbors on both sides; block: the tokens of one's own block only."""

    dilation: int = 1
    """d: a sliding window takes every d-th token, and reaches d times as far."""

    near_heads: int = 0
    """So many heads keep a dilation of 1, for what is near, as in the paper's section 3.1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise ConfigError(f"window: {self.window}; at least 1")
        if self.form not in ("sliding", "block"):
            raise ConfigError(f"form: '{self.form}'; it can be: sliding, block")
        if self.dilation < 1:
            raise ConfigError(f"dilation: {self.dilation}; at least 1")
        if self.form == "block" and self.dilation > 1:
            raise ConfigError(f"dilation: {self.dilation}; only a sliding window can be dilated")
        if self.near_heads < 0 or (self.near_heads and self.dilation == 1):
            raise ConfigError(f"near_heads: {self.near_heads}; of a dilation above 1, and at least 0")


class Mixer(Decoded):
    """Every token looks at its neighbors; where it is causal, at those before it."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.dilation, self.near = config.dilation, near_heads(config.near_heads, dims.heads)
        window = min(config.window, dims.length)
        self.window, self.form = window, config.form
        self.pattern: Pattern = (
            Blocks(window, causal=dims.causal) if config.form == "block" else Window(window, causal=dims.causal)
        )

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        if self.dilation == 1:
            return block_attention(q, k, v, mask, self.pattern, impl=self.impl)[0]
        n = self.near
        far = self.dilated(q[:, n:], k[:, n:], v[:, n:], mask)
        if n == 0:
            return far
        near, _ = block_attention(q[:, :n], k[:, :n], v[:, :n], mask, self.pattern, impl=self.impl)
        return jnp.concatenate([near, far], axis=1)

    def dilated(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        """The tokens whose places leave the same remainder as a text of its own, in which the window has no gaps."""
        B, L = mask.shape
        q, k, v = (apart(x, self.dilation) for x in (q, k, v))
        there = apart(mask[:, None, :, None], self.dilation)[:, 0, :, 0]
        y, _ = block_attention(q, k, v, there, self.pattern, impl=self.impl)
        y = jnp.moveaxis(y.reshape(B, self.dilation, *y.shape[1:]), 1, 3)
        return y.reshape(B, y.shape[1], -1, y.shape[-1])[:, :, :L]

    def init_state(self, batch: int, length: int) -> KeyValues:
        """Keys and values of the tokens that the next ones can see."""
        reach = self.window if self.form == "block" else self.window * self.dilation + 1
        return empty(self, batch, min(reach, length))

    def extend(
        self, state: KeyValues, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[KeyValues, Float[Array, "B H N K"]]:
        return attended(state, q, k, v, self.seen)

    def seen(self, i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "#H N S"]:
        """Whether the query at i sees the key at j before it."""
        if self.form == "block":
            return i // self.window == j // self.window
        d = np.array([1] * self.near + [self.dilation] * (self.heads - self.near))[:, None, None]
        return ((i - j) % d == 0) & (i - j <= self.window * d)


def apart(x: Shaped[Array, "B H L K"], d: int) -> Shaped[Array, "Bd H N K"]:
    """The tokens whose places leave the same remainder, divided by d, as rows of the batch."""
    B, H, L, K = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -L % d), (0, 0)))
    return jnp.moveaxis(x.reshape(B, H, -1, d, K), 3, 1).reshape(B * d, H, -1, K)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """The window over everything."""
    return [Mixer(Config(window=dims.length), dims, rngs=rngs)]
