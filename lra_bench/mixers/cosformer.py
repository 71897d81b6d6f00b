"""cosFormer (Qin et al., arXiv 2202.08791): rectified queries and keys, near ones weighing more.

    y_i = sum_j s_ij v_j / sum_j s_ij,   s_ij = relu(q_i) . relu(k_j) cos(pi/2 (i - j) / M)  (cos-based re-weighting)

The cosine of a difference is a sum of two products, so that s_ij = phi(q_i) . phi(k_j) with
phi(x)_i = [relu(x) cos(pi i / 2M), relu(x) sin(pi i / 2M)], and the keys are summed first. M is the model's padded
length, whatever the batch's is. phi(k) of padding is zero; the denominator is at least 1e-6. Rotary positions turn
phi(q) and phi(k), in the numerator only (arXiv 2104.09864, equation 19).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.feature_attention import feature_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="cosFormer",
    family="kernel",
    paper="2202.08791",
    equation="cos-based re-weighting",
    year=2022,
    time=1.0,
    memory=1.0,
    exact_when="",
    public="OpenNLPLab/cosFormer (PyTorch)",
    differs="",
)

FLOOR = 1e-6


@dataclass(frozen=True)
class Config(Walked):
    """The paper leaves nothing to choose."""


class Mixer(HeadsMixer):
    """The keys are summed, twice, before the queries look at them."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.length = dims.length

    def project(
        self, x: Float[Array, "B L D"]
    ) -> tuple[Float[Array, "B H L K"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        """Not turned: rotary positions turn their features."""
        return self.unturned(x)

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        return feature_attention(q, k, v, mask, self.weighed, FLOOR, self.rotary, self.impl)

    def weighed(self, x: Float32[Array, "B H N K"], i: Int[Array, "N"]) -> Float32[Array, "B H N 2K"]:
        """relu(x) times the cosine and the sine of each token's angle."""
        angle, x = (jnp.pi / 2 / self.length) * i[:, None], jax.nn.relu(x)
        return jnp.concatenate([x * jnp.cos(angle), x * jnp.sin(angle)], axis=-1)
