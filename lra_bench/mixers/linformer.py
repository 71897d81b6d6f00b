"""Linformer (Wang et al., arXiv 2006.04768): the keys and values of L tokens are projected to r rows.

    Y = softmax(Q (E K)^T / sqrt K) (F V),   E, F: [r, L] learned                          (equation 7)

Rows of K and V that are padding are zero before E and F: an r-row softmax has nothing to mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer, cut

CARD = Card(
    title="Linformer",
    family="low-rank",
    paper="2006.04768",
    equation="equation 7",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="rank = length and E = F = the identity",
    exact_without="the projection to fewer rows",
    causal_form="no: each row of E K and F V is a sum over the whole text",
    public="linformer (PyPI, PyTorch)",
    differs="no sharing across layers: the backbone's layers know nothing of each other",
    exact_padded=False,
    short={"rank": 8},
)


@dataclass(frozen=True)
class Config(Fused):
    """How far the length is compressed, and who shares the projections."""

    rank: int = 256
    """r: rows that the keys and values are projected to."""

    sharing: str = "key-value"
    """none: E and F for every head; headwise: one E and one F for all heads; key-value: E = F too, as in LRA."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ConfigError(f"rank: {self.rank}; at least 1")
        if self.sharing not in ("none", "headwise", "key-value"):
            raise ConfigError(f"sharing: '{self.sharing}'; it can be: none, headwise, key-value")

    @property
    def few(self) -> int:
        return self.rank


class Mixer(HeadsMixer):
    """Every token looks at r mixtures of all tokens."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.sharing = config.sharing
        matrices = 1 if config.sharing == "key-value" else 2
        heads = (dims.heads,) if config.sharing == "none" else ()
        shape = (matrices, *heads, config.rank, dims.length)
        self.rows = nnx.Param(jax.random.normal(rngs.params(), shape) * config.rank**-0.5)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        if self.sharing != "key-value" or self.rotary:
            return super().__call__(x, mask, key=key)
        # E (X W) = (E X) W: keys and values are projected at once, and never exist at full length.
        E = self.rows[0, :, : x.shape[1]].astype(x.dtype)
        short = projected(E, x, mask)
        W_q, W_k, W_v = jnp.split(self.qkv[...], 3, axis=1)
        q, k, v = (cut(dense(a, W), self.heads) for a, W in ((x, W_q), (short, W_k), (short, W_v)))
        return self.output(softmax_attention(q, k, v, jnp.ones(k.shape[::2], bool), self.impl))

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        E, F = self.rows[0, ..., : k.shape[2]].astype(k.dtype), self.rows[-1, ..., : k.shape[2]].astype(k.dtype)
        product = "hrl,bhlk->bhrk" if self.sharing == "none" else "rl,bhlk->bhrk"
        there = mask[:, None, :, None].astype(k.dtype)
        k, v = jnp.einsum(product, E, k * there), jnp.einsum(product, F, v * there)
        return softmax_attention(q, k, v, jnp.ones(k.shape[::2], bool), self.impl)


@jax.checkpoint
def projected(E: Float[Array, "r L"], x: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> Float[Array, "B r D"]:
    """E x, the padded rows of x being zero. Only x is kept for the backward pass, not its masked copy."""
    return jnp.einsum("rl,bld->brd", E, x * mask[..., None].astype(x.dtype))


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """As many rows as tokens, each row one token."""
    mixer = Mixer(Config(rank=dims.length, sharing="none"), dims, rngs=rngs)
    mixer.rows[...] = jnp.broadcast_to(jnp.eye(dims.length), mixer.rows.shape)
    return [mixer]
