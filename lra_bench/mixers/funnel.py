"""Funnel-Transformer's pooled queries (Dai et al., arXiv 2006.03236, section 2.2), inside one mixer: queries are the
means of p neighbors, keys and values are not pooled, and what a pooled query finds is given to each of its p tokens.

    y_i = softmax(q'_g . k_j / sqrt K) v_j,   g = floor(i / p),   q'_g = mean of q_i over the group   (pool-query-only)

A mean is over true tokens; padding is no key.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="Funnel",
    family="downsampling",
    paper="2006.03236",
    equation="section 2.2, pool-query-only attention",
    year=2020,
    time=2.0,
    memory=1.0,
    exact_when="pool = 1",
    exact_without="the pooling",
    causal_form="no: a token asks with the mean query of its group, which later tokens are in too",
    public="Funnel of Hugging Face transformers (PyTorch)",
    differs="the length comes back at once, by repeating as in the paper's decoder, so that no later layer is shorter; "
    "the residual is the backbone's, of every token itself, and not the pooled one; a cls token is pooled like any "
    "other; absolute positions",
)


@dataclass(frozen=True)
class Config(Fused):
    """How far the queries are pooled."""

    pool: int = 2
    """p: neighbors whose queries become one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool < 1:
            raise ConfigError(f"pool: {self.pool}; at least 1")


class Mixer(HeadsMixer):
    """Every group of tokens looks at all tokens, as one."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.pool = config.pool

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        y = softmax_attention(self.pooled(q, mask), k, v, mask, self.impl)
        return jnp.repeat(y, self.pool, axis=2)[:, :, : q.shape[2]]

    def pooled(self, q: Float[Array, "B H L K"], mask: Bool[Array, "B L"]) -> Float[Array, "B H G K"]:
        """The mean of each group's true tokens."""
        B, H, L, K = q.shape
        more = -L % self.pool
        there = jnp.pad(mask, ((0, 0), (0, more))).reshape(B, 1, -1, self.pool, 1)
        groups = jnp.pad(q, ((0, 0), (0, 0), (0, more), (0, 0))).reshape(B, H, -1, self.pool, K)
        return (groups * there.astype(q.dtype)).sum(3) / jnp.maximum(there.sum(3), 1).astype(q.dtype)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """Every query is its own."""
    return [Mixer(Config(pool=1), dims, rngs=rngs)]
