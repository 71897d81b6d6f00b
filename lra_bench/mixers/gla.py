"""Gated linear attention (Yang et al., arXiv 2312.06635): linear attention whose memory forgets, each entry of a key at
a pace that the token itself sets.

    S_t = diag(a_t) S_{t-1} + k_t v_t^T,   o_t = S_t^T q_t                                                  (equation 3)
    a_t = sigmoid(x_t W_1 W_2 + b)^(1/16),   y = (silu(x W_r + b_r) LN(o)) W_o                             (section 4.4)

The text is read from both ends, each reading with gates of its own; o is the sum of both, a token being in either.
Padding has k = v = 0 and a = 1: the state stays as it is. Where it is causal, there is the one reading of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.gated_linear_attention import (
    causal_gated_linear_attention,
    extended,
    gated_linear_attention,
)
from lra_bench.mixers.base import Dims, Prefilled, implementation
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.heads import cut, join
from lra_bench.mixers.layers import XAVIER, Dense, LayerNorm

CARD = Card(
    title="Gated linear attention",
    family="recurrence",
    paper="2312.06635",
    equation="equation 3 and section 4.4",
    year=2023,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="chunk_gla of flash-linear-attention (Triton)",
    differs="where it is not causal, the text is read from both ends, with the same queries, keys and values but "
    "gates of each reading's own, and the two are added; a gate leaves at least 8% at each token",
)


@dataclass(frozen=True)
class Config(Walked):
    """The gates."""

    rank: int = 16
    """Rank of the gates' projection."""

    temper: float = 16.0
    """tau: a gate is the sigmoid to the power of 1 / tau; the larger, the longer it remembers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ConfigError(f"rank: {self.rank}; at least 1")
        if self.temper <= 0:
            raise ConfigError(f"temper: {self.temper:g}; above 0")


class Mixer(Prefilled):
    """Two readings of the text; causally, the first of them. Keys are half as wide as values, as in the paper."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        D, H, V = dims.width, dims.heads, dims.head_width
        K = max(1, V // 2)
        self.heads, self.temper, self.causal = H, config.temper, dims.causal
        self.cuts = (H * K, 2 * H * K, 2 * H * K + H * V)
        parts = [XAVIER(rngs.params(), (D, width)) for width in (H * K, H * K, H * V, H * V)]
        self.qkvr = nnx.Param(jnp.concatenate(parts, axis=1))
        self.bias = nnx.Param(jnp.zeros(H * V))
        self.down = nnx.Param(XAVIER(rngs.params(), (D, config.rank)))
        self.up = Dense(config.rank, (1 if dims.causal else 2) * H * K, rngs=rngs)
        self.norm = LayerNorm(V)
        self.out = nnx.Param(XAVIER(rngs.params(), (H * V, D)))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        q, k, v, g, r = self.parts(x, mask)
        if self.causal:
            return self.output(causal_gated_linear_attention(q, k, v, cut(g, self.heads), self.impl), r)
        forward, backward = (cut(part, self.heads) for part in jnp.split(g, 2, axis=-1))
        y = gated_linear_attention(both(q, q), both(k, k), both(v, v), both(forward, backward), impl=self.impl)
        y, reverse = jnp.split(y, 2, axis=1)
        return self.output(y + reverse[:, :, ::-1], r)

    def parts(self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> tuple[Array, Array, Array, Array, Array]:
        """q, k and v by heads, the logarithms of the gates, side by side, and x W_r."""
        there = mask[..., None].astype(x.dtype)
        q, k, v, r = jnp.split(dense(x, self.qkvr[...]), self.cuts, axis=-1)
        g = jax.nn.log_sigmoid(self.up(dense(x, self.down[...])).astype(jnp.float32)) / self.temper * there
        q, k, v = (cut(part, self.heads) for part in (q, k * there, v * there))
        return q * q.shape[-1] ** -0.5, k, v, g, r

    def output(self, o: Float[Array, "B H L V"], r: Float[Array, "B L J"]) -> Float[Array, "B L D"]:
        """What is read, normalized and gated, through W_o."""
        return dense(jax.nn.silu(r + self.bias.astype(r.dtype)) * join(self.norm(o)), self.out[...])

    def init_state(self, batch: int, length: int) -> Float[Array, "B H K V"]:
        """S, however long the text is."""
        return jnp.zeros((batch, self.heads, self.cuts[0] // self.heads, len(self.norm.scale[...])), jnp.float32)

    def prefill(
        self, state: Float[Array, "B H K V"], x: Float[Array, "B N D"]
    ) -> tuple[Float[Array, "B H K V"], Float[Array, "B N D"]]:
        q, k, v, g, r = self.parts(x, jnp.ones(x.shape[:2], bool))
        state, o = extended(state, q, k, v, cut(g, self.heads))
        return state, self.output(o, r)


def both(forward: Float[Array, "B H L K"], backward: Float[Array, "B H L K"]) -> Float[Array, "B H2 L K"]:
    """The text, and the reversed text as further heads."""
    return jnp.concatenate([forward, backward[:, :, ::-1]], axis=1)
