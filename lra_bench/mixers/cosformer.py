"""cosFormer (Qin et al., arXiv 2202.08791): rectified queries and keys, near ones weighing more.

    y_i = sum_j s_ij v_j / sum_j s_ij,   s_ij = relu(q_i) . relu(k_j) cos(pi/2 (i - j) / M)  (cos-based re-weighting)

The cosine of a difference is a sum of two products, so that s_ij = phi(q_i) . phi(k_j) with
phi(x)_i = [relu(x) cos(pi i / 2M), relu(x) sin(pi i / 2M)], and the keys are summed first. M is the model's padded
length, whatever the batch's is. phi(k) of padding is zero; the denominator is at least 1e-6. Rotary positions turn
phi(q) and phi(k), in the numerator only (arXiv 2104.09864, equation 19). Where it is causal, the sums run up to i, as
in the paper's autoregressive models.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.feature_attention import causal_feature_attention, extended, feature_attention, nothing
from lra_bench.kernels.prefix import State
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.heads import Decoded

CARD = Card(
    title="cosFormer",
    family="kernel",
    paper="2202.08791",
    equation="cos-based re-weighting",
    year=2022,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="OpenNLPLab/cosFormer (PyTorch)",
    differs="",
)

FLOOR = 1e-6


@dataclass(frozen=True)
class Config(Walked):
    """The paper leaves nothing to choose."""


class Mixer(Decoded):
    """The keys are summed, twice, before the queries look at them; where it is causal, those up to each query."""

    longest: int  # M: further apart, weights are negative

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.longest = dims.length

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
        attend = causal_feature_attention if self.causal else feature_attention
        return attend(q, k, v, mask, self.weighed, FLOOR, self.rotary, self.impl)

    def init_state(self, batch: int, length: int) -> State:
        """The sums over the keys, however long the text is."""
        return nothing(batch, self.heads, 2 * self.head_width, self.head_width)

    def extend(
        self, state: State, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[State, Float[Array, "B H N K"]]:
        return extended(state, q, k, v, self.weighed, FLOOR, self.rotary)

    def projected_at(
        self, x: Float[Array, "B N D"], first: Int[Array, ""]
    ) -> tuple[Float[Array, "B H N K"], Float[Array, "B H N K"], Float[Array, "B H N K"]]:
        """Not turned: rotary positions turn their features."""
        return self.unturned(x)

    def weighed(self, x: Float32[Array, "B H N K"], i: Int[Array, "N"]) -> Float32[Array, "B H N 2K"]:
        """relu(x) times the cosine and the sine of each token's angle."""
        angle, x = (jnp.pi / 2 / self.longest) * i[:, None], jax.nn.relu(x)
        return jnp.concatenate([x * jnp.cos(angle), x * jnp.sin(angle)], axis=-1)
