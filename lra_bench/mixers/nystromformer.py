"""Nystromformer (Xiong et al., arXiv 2102.03902): attention through m landmarks, the means of m segments of the text.

    Y = F Z B + C(V)
    F = softmax(Q K~^T / sqrt K),   A = softmax(Q~ K~^T / sqrt K),   B = softmax(Q~ K^T / sqrt K) V    (equation 13)

Q~ and K~ are the segments' means of Q and K (equation 16), Z is the pseudo-inverse of A by an iteration (equation 14),
C a depthwise convolution over the length. The segments are places of the padded text. Padding is in no mean, no key of
B and zero under C; a segment without any token is no landmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.depthwise_convolution import depthwise_convolution
from lra_bench.kernels.product import product
from lra_bench.kernels.pseudo_inverse import pseudo_inverse
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="Nystromformer",
    family="low-rank",
    paper="2102.03902",
    equation="equations 13, 14 and 16",
    year=2021,
    time=1.0,
    memory=1.0,
    exact_when="landmarks = length, kernel = 0, steps -> infinity",
    exact_without="the convolution",
    causal_form="no: its landmarks are means over the whole text, which Z joins with each other",
    public="nystrom-attention (PyPI, PyTorch)",
    differs="means over true tokens, segments without one left out; the iteration starts from each matrix's own norms, "
    "as in the paper, where the released code takes the largest of the batch; 32 landmarks (the paper: 64)",
    short={"landmarks": 8, "kernel": 5},
)


@dataclass(frozen=True)
class Config(Fused):
    """How many landmarks, and the convolution beside them."""

    landmarks: int = 32
    """m: segments that the padded length is cut into. The paper takes 64; the inverse costs m^3, and with 64 it
    would be most of the work at a few thousand tokens and narrow heads."""

    kernel: int = 33
    """Tokens under the convolution of V, odd, one filter a head, as in the released code; 0: no convolution."""

    steps: int = 6
    """Of the iteration that inverts A; 6 in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.landmarks < 1:
            raise ConfigError(f"landmarks: {self.landmarks}; at least 1")
        if self.kernel < 0 or (self.kernel and self.kernel % 2 == 0):
            raise ConfigError(f"kernel: {self.kernel}; odd, or 0 for none")
        if self.steps < 1:
            raise ConfigError(f"steps: {self.steps}; at least 1")

    @property
    def few(self) -> int:
        return self.landmarks


class Mixer(HeadsMixer):
    """Every token looks at the landmarks, and gets what the landmarks make of all tokens."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.size, self.steps, self.kernel = -(-dims.length // config.landmarks), config.steps, config.kernel
        if config.kernel:
            shape, most = (dims.heads, config.kernel), config.kernel**-0.5  # as the released code's convolution begins
            self.filters = nnx.Param(jax.random.uniform(rngs.params(), shape, minval=-most, maxval=most))

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        v = v * mask[:, None, :, None].astype(v.dtype)
        landmark = segments(mask[:, None, :, None], self.size).any((1, 3, 4))
        q_mean, k_mean = (means(x, mask, self.size) for x in (q, k))
        inverse = pseudo_inverse(weights(q_mean, k_mean, landmark), self.steps)
        values = product("bhmn,bhnk->bhmk", inverse, softmax_attention(q_mean, k, v, mask, self.impl))
        y = softmax_attention(q, k_mean, values, landmark, self.impl)
        return y + depthwise_convolution(v, self.filters[...]) if self.kernel else y


def segments(x: Shaped[Array, "B H L K"], size: int) -> Shaped[Array, "B H m size K"]:
    """The length cut into segments, the last one filled up with zeros."""
    B, H, L, K = x.shape
    return jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0))).reshape(B, H, -1, size, K)


def means(x: Float[Array, "B H L K"], mask: Bool[Array, "B L"], size: int) -> Float32[Array, "B H m K"]:
    """Of each segment's true tokens, as exact as x is; 0 where it has none."""
    there = mask[:, None, :, None]
    total = segments(jnp.where(there, x, 0), size).sum(3, dtype=jnp.float32)
    return (total / jnp.maximum(segments(there, size).sum(3), 1)).astype(x.dtype).astype(jnp.float32)


def weights(
    q: Float32[Array, "B H m K"], k: Float32[Array, "B H m K"], landmark: Bool[Array, "B m"]
) -> Float32[Array, "B H m m"]:
    """A, zero in the rows and columns that are no landmark's."""
    row, column = landmark[:, None, :, None], landmark[:, None, None, :]
    scores = jnp.where(column, product("bhmk,bhnk->bhmn", q, k) * q.shape[-1] ** -0.5, LOWEST)
    return jnp.where(row & column, jax.nn.softmax(scores, axis=-1), 0)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """Every token its own landmark; the iteration goes on, and its error falls."""
    key, every = rngs.params(), dims.length
    return [Mixer(Config(every, kernel=0, steps=steps), dims, rngs=nnx.Rngs(key)) for steps in (6, 9, 12)]
