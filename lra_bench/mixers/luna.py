"""Luna (Ma et al., arXiv 2106.01540): attention packs the tokens into l rows, and unpacks them again.

    Y_P = Attn(P', X),   Y = Attn(X, Y_P) W_O                                      (pack and unpack attention)
    P' = LN(sqrt D P + S),   P: [l, D] learned, S: sinusoids of a row's number             (the authors' LRA encoder)
    Attn(X, C) = softmax(X W_Q (C W_K)^T / sqrt K) C W_V, in each of them W_K = W_V where they are tied

Padding is no key when it is packed; the packed rows are all there. A text without any token packs to zeros.
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
from lra_bench.mixers.layers import LayerNorm, sinusoids

CARD = Card(
    title="Luna",
    family="memory",
    paper="2106.01540",
    equation="pack and unpack attention",
    year=2021,
    time=1.0,
    memory=1.0,
    exact_when="",
    public="XuezheMax/fairseq-apollo (PyTorch)",
    differs="P is each layer's own: the packed rows do not go on to the next layer, whose P in the paper is LN(Y_P + "
    "P); the backbone's layers hand on tokens only; every text has all l rows, where the authors' LRA runs have no "
    "more of them than the text has tokens; projections without bias",
    short={"packed": 5},
)


@dataclass(frozen=True)
class Config(Fused):
    """Into how many rows the tokens are packed."""

    packed: int = 256
    """l: rows of P. In the paper's LRA runs 16, 128 and 256 are tried, and 256 is best."""

    tied: bool = True
    """Keys and values of an attention are one projection, the paper's way to save parameters. The authors' LRA runs
    have two, unless asked for one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packed < 1:
            raise ConfigError(f"packed: {self.packed}; at least 1")


class Mixer(MixerBase):
    """P looks at the tokens; the tokens look at what it saw."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        shape, joint = (config.packed, dims.width), dims.heads * dims.head_width
        self.rows = nnx.Param(jax.random.normal(rngs.params(), shape) * dims.width**-0.5)
        self.norm = LayerNorm(dims.width)
        self.pack = Multihead(dims, tied=config.tied, projected=False, impl=self.impl, rngs=rngs)
        self.unpack = Multihead(dims, context=joint, tied=config.tied, impl=self.impl, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        asked = self.norm(self.rows[...] * x.shape[-1] ** 0.5 + sinusoids(*self.rows.shape)).astype(x.dtype)
        packed = self.pack(jnp.broadcast_to(asked, (len(x), *asked.shape)), x, mask)
        return self.unpack(x, packed, jnp.ones(packed.shape[:2], bool))
