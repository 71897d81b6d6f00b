"""cosFormer's attention of a target to a source (Qin et al., arXiv 2202.08791): places that are near weigh more.

    y_i = sum_j s_ij v_j / sum_j s_ij,   s_ij = relu(q_i) . relu(k_j) cos(pi/2 (i - j) / M)  (cos-based re-weighting)

i is a place of the target, j one of the source, M the padded length of both, whatever the batch's is, as the authors'
code takes the longer of the two. s_ij = phi(q_i) . phi(k_j) with phi(x)_i = [relu(x) cos(pi i / 2M), relu(x) sin(pi i /
2M)], so the source is summed first; the denominator is at least 1e-6.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32, Int

from lra_bench.kernels.feature_attention import Features
from lra_bench.mixers.base import Dims
from lra_bench.mixers.cosformer import FLOOR, Config
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.cross.features import FeatureCross

CARD = CrossCard(
    paper="2202.08791",
    equation="cos-based re-weighting, i a place of the target and j one of the source",
)


class Cross(FeatureCross):
    """The source is summed, twice, before the target looks at it."""

    floor = FLOOR

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.length = dims.length

    def phi(self, key: jax.Array | None) -> Features:
        """relu(x) times the cosine and the sine of each place's angle."""
        return self.weighed

    def weighed(self, x: Float32[Array, "B H N K"], i: Int[Array, " N"]) -> Float32[Array, "B H N 2K"]:
        """[relu(x) cos(pi i / 2M), relu(x) sin(pi i / 2M)]."""
        angle, x = (jnp.pi / 2 / self.length) * i[:, None], jax.nn.relu(x)
        return jnp.concatenate([x * jnp.cos(angle), x * jnp.sin(angle)], axis=-1)
