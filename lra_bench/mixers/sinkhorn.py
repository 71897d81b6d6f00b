"""Sparse Sinkhorn attention (Tay et al., arXiv 2002.11296, section 3): a small network sorts blocks of keys and values,
softly, and tokens see their own block and the one that was sorted to its place.

    R = relu(relu(X' W_B + b_B) W_P + b_P),   X'_i: the sum of block i's tokens,   R: [N, N]        (section 3.1)
    P = rows and columns of exp((R + e) / tau) normalized in turn;  e: Gumbel noise, in training    (section 3.1.2)
    y_i = softmax(q_i [K_b, (P K)_b]^T / sqrt K) [V_b, (P V)_b],   b: the block of i                (section 3.2)

SortCut (section 3.4): every token sees the first n sorted blocks, and nothing else. Padding is in no sum; a block of
padding alone is no row and no column of P. A sorted token is the mean of the tokens that are there, and P's share of
them is a factor of its weight in the softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_sort import sinkhorn, sorted_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer
from lra_bench.mixers.layers import Dense

CARD = Card(
    title="Sinkhorn Transformer",
    family="learnable-pattern",
    paper="2002.11296",
    equation="section 3",
    year=2020,
    time=2.0,
    memory=2.0,
    exact_when="block >= length",
    exact_without="the sort",
    public="sinkhorn-transformer (PyPI, PyTorch)",
    differs="nothing is causal; the block's size, not the number of blocks, is held fixed as texts grow, so that P "
    "grows with their square; own and sorted keys stand side by side in one softmax; padding takes weight from a "
    "sorted token as its share of it grows",
    short={"block": 8},
)


@dataclass(frozen=True)
class Config(Fused):
    """What is sorted, and how."""

    block: int = 64
    """b: tokens of a block."""

    iterations: int = 7
    """Normalisations of rows and columns; 5 to 10 in the paper."""

    temperature: float = 0.75
    """tau: what the logits are divided by."""

    cut: int = 0
    """n of SortCut: sorted blocks that all tokens see, and nothing else; 0: its own and the one sorted to its place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("block", 1), ("iterations", 1), ("cut", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: {getattr(self, name)}; at least {least}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature: {self.temperature}; above 0")


class Mixer(HeadsMixer):
    """Every token looks at its own block, and at one from elsewhere."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.config, self.size = config, min(config.block, dims.length)
        self.blocks = -(-dims.length // self.size)
        self.pooled = Dense(dims.width, dims.width, rngs=rngs)
        self.places = Dense(dims.width, dims.heads * self.blocks, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        L, size = x.shape[1], self.size
        q, k, v = (filled(h, size, 2) for h in self.project(x))
        there = filled(mask, size, 1).reshape(len(x), -1, size)
        P = self.permutation(x, there, key)
        if self.config.cut:
            first = jnp.argsort(~there.any(2), axis=1, stable=True)[:, : self.config.cut]
            P = jnp.take_along_axis(P, first[:, None, :, None], axis=2)
        y = sorted_attention(q, k, v, there, P, self.config.cut > 0, self.impl)
        return self.output(y[:, :, :L])

    def permutation(
        self, x: Float[Array, "B L D"], there: Bool[Array, "B N b"], key: jax.Array | None
    ) -> Float32[Array, "B H N N"]:
        """P, from the blocks' sums by the sorting network."""
        B, N, size = there.shape
        x = filled(x, size, 1).reshape(B, N, size, -1)
        total = (x.astype(jnp.float32) * there[..., None]).sum(2)
        R = jax.nn.relu(self.places(jax.nn.relu(self.pooled(total)))).reshape(B, N, self.heads, -1)
        R = R[..., :N].swapaxes(1, 2)
        if key is not None:
            R = R + jax.random.gumbel(key, R.shape)
        return sinkhorn(R / self.config.temperature, there.any(2), self.config.iterations)


def filled(x: Shaped[Array, "..."], size: int, axis: int) -> Shaped[Array, "..."]:
    """Zeros behind the last entry of an axis, up to a multiple of `size`."""
    return jnp.pad(x, [(0, -length % size if at == axis else 0) for at, length in enumerate(x.shape)])


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """One block, which is sorted to its own place: every key stands there twice, which softmax does not see."""
    return [Mixer(Config(block=dims.length), dims, rngs=rngs)]
