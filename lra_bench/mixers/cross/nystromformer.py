"""Nystromformer's attention of a target to a source (Xiong et al., arXiv 2102.03902): through m landmarks of each.

    Y = F Z B,   F = softmax(Q K~^T / sqrt K),   A = softmax(Q~ K~^T / sqrt K),   B = softmax(Q~ K^T / sqrt K) V
                                                                                                  (equation 13)
Q is of the target and K, V of the source; Q~ are the means of the target's segments, K~ those of the source's
(equation 16), Z the pseudo-inverse of A by an iteration (equation 14). Padding is in no mean and no key of B; a segment
without any token is no landmark. Q~ is of the whole target: one that grows has no such landmarks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.kernels.product import product
from lra_bench.kernels.pseudo_inverse import pseudo_inverse
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.cross.base import HeadsCross
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.nystromformer import Config, means, segments

CARD = CrossCard(
    paper="2102.03902",
    equation="equations 13, 14 and 16, queries and their landmarks of the target",
    exact_when="landmarks = length, steps -> infinity",
    growing="no: landmarks of its queries are means over the whole target, which Z joins with the source's",
    differs="no convolution over the values: a place of the target has no neighbors in the source",
)


class Cross(HeadsCross):
    """Every place of the target looks at the source's landmarks, and gets what the target's make of the source."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.size, self.steps = -(-dims.length // config.landmarks), config.steps

    def __call__(
        self,
        x: Float[Array, "B M D"],
        memory: Float[Array, "B L D"],
        there: Bool[Array, "B M"],
        memory_mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
    ) -> Float[Array, "B M D"]:
        q, (k, v) = self.queries(x), self.keys_and_values(memory)
        q_mean, k_mean = means(q, there, self.size), means(k, memory_mask, self.size)
        rows, columns = (landmarks(mask, self.size) for mask in (there, memory_mask))
        inverse = inverted(weights(q_mean, k_mean, rows, columns), self.steps)
        values = product("bhmn,bhnk->bhmk", inverse, softmax_attention(q_mean, k, v, memory_mask, self.impl))
        return self.output(softmax_attention(q, k_mean, values, columns, self.impl).astype(x.dtype))


def landmarks(mask: Bool[Array, "B L"], size: int) -> Bool[Array, "B m"]:
    """Which segments have a token."""
    return segments(mask[:, None, :, None], size).any((1, 3, 4))


def weights(
    q: Float32[Array, "B H m K"], k: Float32[Array, "B H n K"], rows: Bool[Array, "B m"], columns: Bool[Array, "B n"]
) -> Float32[Array, "B H m n"]:
    """A, zero in the rows and columns that are no landmark's."""
    row, column = rows[:, None, :, None], columns[:, None, None, :]
    scores = jnp.where(column, product("bhmk,bhnk->bhmn", q, k) * q.shape[-1] ** -0.5, LOWEST)
    return jnp.where(row & column, jax.nn.softmax(scores, axis=-1), 0)


def inverted(A: Float32[Array, "B H m n"], steps: int) -> Float32[Array, "B H n m"]:
    """Its pseudo-inverse: that of the square with zeros in what is missing has zeros there, too."""
    m, n = A.shape[-2:]
    square = jnp.pad(A, ((0, 0), (0, 0), (0, max(n - m, 0)), (0, max(m - n, 0))))
    return pseudo_inverse(square, steps)[..., :n, :m]


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Cross]:
    """Every place its own landmark; the iteration goes on, and its error falls."""
    key, every = rngs.params(), dims.length
    return [Cross(Config(every, kernel=0, steps=steps), dims, rngs=nnx.Rngs(key)) for steps in (6, 9, 12)]
