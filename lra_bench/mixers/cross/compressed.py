"""Memory-compressed attention of a target to a source (Liu et al., arXiv 1801.10198, section 4.2.3): a strided
convolution over the source's projected keys and values leaves every query a third of them to look at.

    y_i = softmax(q_i . k'_n / sqrt K) v'_n,   k'_n = sum_t k_{n stride + t} C_t,   t < kernel; v' likewise

q_i is of the target. Padded keys and values are zero before the convolution; a cell n is a key if it saw a true token.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.kernels.dense import dense
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.compressed import Config
from lra_bench.mixers.cross.base import HeadsCross, KeysAndValues
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.heads import cut, join
from lra_bench.mixers.layers import XAVIER

CARD = CrossCard(
    paper="1801.10198",
    equation="section 4.2.3, queries of the target",
    exact_when="kernel = stride = 1 and C = the identity",
    differs="the paper's model is a decoder alone, whose keys are of the text itself",
)


class Cross(HeadsCross):
    """Every place of the target looks at cells of neighbors in the source."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.kernel, self.stride = config.kernel, config.stride
        joint = dims.heads * dims.head_width
        shape = (config.kernel * joint, joint)
        self.compress_k, self.compress_v = (nnx.Param(XAVIER(rngs.params(), shape)) for _ in range(2))

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> KeysAndValues:
        """The cells of the source."""
        there = memory_mask[:, None, :, None]
        k, v = (
            cut(dense(self.windows(join(x * there.astype(x.dtype))), C[...]), self.heads)
            for x, C in zip(self.keys_and_values(memory), (self.compress_k, self.compress_v), strict=True)
        )
        return KeysAndValues(k, v, self.windows(memory_mask[..., None]).any(-1))

    def read(self, kept: KeysAndValues, x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        return self.output(softmax_attention(self.queries(x), *kept, self.impl))

    def windows(self, x: Array) -> Array:
        """[B, L, J]: the tokens of each cell side by side, [B, N, kernel J]; zeros after the last one."""
        cells = -(-x.shape[1] // self.stride)
        x = jnp.pad(x, ((0, 0), (0, (cells - 1) * self.stride + self.kernel - x.shape[1]), (0, 0)))
        last = (cells - 1) * self.stride + 1
        return jnp.concatenate([x[:, t : t + last : self.stride] for t in range(self.kernel)], axis=-1)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Cross]:
    """A cell for each token."""
    form = Cross(Config(kernel=1, stride=1), dims, rngs=rngs)
    for C in (form.compress_k, form.compress_v):
        C[...] = jnp.eye(len(C))
    return [form]
