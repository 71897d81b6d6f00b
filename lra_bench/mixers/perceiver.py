"""Perceiver (Jaegle et al., arXiv 2103.03206) with the way back of Perceiver IO (arXiv 2107.14795): a few latents read
the tokens, attend to each other s times, and are read by the tokens.

    Z <- P + Attention(LN P, X),    Z <- Z + MLP(LN Z)              the latents P: [m, D], learned, read
    Z <- Z + Attention(LN Z, LN Z), Z <- Z + MLP(LN Z)              s times, each with weights of its own
    Y = Attention(X, LN Z)                                          the tokens read           (IO, section 3.1)

X comes normalized from the backbone, whose residual and MLP follow Y. Padding is no key when the latents read.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, MixerBase, implementation
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Multihead
from lra_bench.mixers.layers import Dense, LayerNorm

CARD = Card(
    title="Perceiver",
    family="memory",
    paper="2103.03206",
    equation="section 3.1 and appendix; 2107.14795, section 3.1",
    year=2021,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="no: the latents read the whole text before a token reads them; Perceiver AR's are the last tokens, so "
    "that the others have no output",
    public="perceiver-pytorch (PyPI)",
    differs="every layer has latents of its own, and its tokens read them: the backbone's layers hand on tokens only; "
    "all attentions have the backbone's heads; positions are the backbone's; one self-attention block after a read, "
    "not 6",
    short={"latents": 5, "blocks": 2},
)


@dataclass(frozen=True)
class Config(Fused):
    """How many latents, and how long they think."""

    latents: int = 256
    """m: latents of a layer. 256 is Perceiver IO's number for texts of 2,048 bytes; for images it is 512."""

    blocks: int = 1
    """s: self-attention blocks among the latents after each read. The paper has 6 after each of 8 reads; here every
    layer of the backbone reads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latents < 1:
            raise ConfigError(f"latents: {self.latents}; at least 1")
        if self.blocks < 0:
            raise ConfigError(f"blocks: {self.blocks}; at least 0")

    @property
    def few(self) -> int:
        return self.latents


class Block(nnx.Module):
    """Z + Attention(LN Z, .), then Z + MLP(LN Z); the MLP is as wide as the latents, with a GELU."""

    def __init__(self, dims: Dims, impl: str, *, rngs: nnx.Rngs) -> None:
        self.before_attention, self.before_mlp = LayerNorm(dims.width), LayerNorm(dims.width)
        self.attention = Multihead(dims, impl=impl, rngs=rngs)
        self.up, self.down = (Dense(dims.width, dims.width, rngs=rngs) for _ in range(2))

    def __call__(
        self, z: Float[Array, "B m D"], x: Float[Array, "B N D"] | None, mask: Bool[Array, "B N"]
    ) -> Float[Array, "B m D"]:
        """What the latents look at is x, or themselves where that is None."""
        normal = self.before_attention(z)
        z = z + self.attention(normal, normal if x is None else x, mask)
        return z + self.down(jax.nn.gelu(self.up(self.before_mlp(z))))


class Mixer(MixerBase):
    """The latents read the tokens, then each other; the tokens read the latents."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        self.latents = nnx.Param(0.02 * jax.random.normal(rngs.params(), (config.latents, dims.width)))
        self.read = Block(dims, self.impl, rngs=rngs)
        self.blocks = nnx.List([Block(dims, self.impl, rngs=rngs) for _ in range(config.blocks)])
        self.norm, self.answer = LayerNorm(dims.width), Multihead(dims, impl=self.impl, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        z = jnp.broadcast_to(self.latents[...].astype(x.dtype), (len(x), *self.latents.shape))
        every = jnp.ones(z.shape[:2], bool)
        z = self.read(z, x, mask)
        for block in self.blocks:
            z = block(z, None, every)
        return self.answer(x, self.norm(z), every)
