"""Longformer (Beltagy et al., arXiv 2004.05150, section 3.1): a sliding window, and a few global tokens that see and
are seen by all.

    y_i = sum_j softmax_j(q_i . k_j / sqrt K) v_j       over the j with |i - j| <= w, and the first g        (i >= g)
    y_i = sum_j softmax_j(q'_i . k'_j / sqrt K) v'_j    over all j, with projections q', k', v' of their own (i < g)

Padding is no key in either. A token looks at a global one through the ordinary projections: only what a global token
itself looks at goes through its own.
Where it is causal, as in the paper's language models (section 4.1): the i - w <= j <= i, and no global tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.dense import dense
from lra_bench.kernels.patterns import Window
from lra_bench.kernels.rotary import rotary
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, attended, empty, within
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Decoded, cut

CARD = Card(
    title="Longformer",
    family="combined-patterns",
    paper="2004.05150",
    equation="section 3.1",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="window >= length and no global tokens",
    exact_without="the global tokens",
    causal_form="yes",
    public="Longformer of Hugging Face transformers (PyTorch, chunks)",
    differs="the same window in every layer, without dilation (the paper's language models widen it with depth)",
    short={"window": 5, "global_tokens": 2},
)


@dataclass(frozen=True)
class Config(Fused):
    """How far a token sees, and how many see everything."""

    window: int = 128
    """w: neighbors on each side. The paper pretrains with 256, LRA has as many; of LRA's 1,024 tokens that would be
    half."""

    global_tokens: int = 1
    """g: the first so many tokens are global: with 1 the `cls` token of a backbone that has one, as in the paper. None
    where it is causal."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise ConfigError(f"window: {self.window}; at least 1")
        if self.global_tokens < 0:
            raise ConfigError(f"global_tokens: {self.global_tokens}; at least 0")


class Mixer(Decoded):
    """Every token looks at its neighbors and at the first tokens; those look at everything. Where it is causal, it
    looks at its neighbors before it."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.first = 0 if dims.causal else min(config.global_tokens, dims.length)
        self.pattern = Window(min(config.window, dims.length), first=self.first, causal=dims.causal)
        if self.first:
            self.global_qkv = nnx.Param(jnp.array(self.qkv[...]))  # begins as a copy, as in the paper

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        y, _ = block_attention(*self.project(x), mask, self.pattern, impl=self.impl)
        if self.first:
            y = jnp.concatenate([self.seeing_all(x, mask), y[:, :, self.first :]], axis=2)
        return self.output(y)

    def seeing_all(self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> Float[Array, "B H g K"]:
        """The global tokens' output."""
        W_q, W_k, W_v = jnp.split(self.global_qkv[...], 3, axis=1)
        q = cut(dense(x[:, : self.first], W_q), self.heads)
        if self.rotary:
            k, v = (cut(dense(x, W), self.heads) for W in (W_k, W_v))
            return softmax_attention(rotary(q), rotary(k), v, mask, self.impl)
        # q (x W_k)^T = (q W_k^T) x^T, and so for W_v: a few rows are projected instead of all of x, twice.
        B, H, g, K = q.shape
        W_k, W_v = (W.reshape(-1, H, K).astype(x.dtype) for W in (W_k, W_v))
        rows = jnp.einsum("bhgk,dhk->bhgd", q, W_k) * (x.shape[-1] / K) ** 0.5
        mixed = softmax_attention(rows.reshape(B, 1, H * g, -1), x[:, None], x[:, None], mask, self.impl)
        return jnp.einsum("bhgd,dhk->bhgk", mixed.reshape(B, H, g, -1), W_v)

    def init_state(self, batch: int, length: int) -> KeyValues:
        """Keys and values of the tokens that the next one sees."""
        return empty(self, batch, min(self.pattern.width, length))

    def extend(
        self, state: KeyValues, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[KeyValues, Float[Array, "B H N K"]]:
        return attended(state, q, k, v, within(self.pattern.width))


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """The window over everything."""
    return [Mixer(Config(window=dims.length, global_tokens=0), dims, rngs=rngs)]
