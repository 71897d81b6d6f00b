"""Linear attention (Katharopoulos et al., arXiv 2006.16236).

    y_i = phi(q_i)^T S / phi(q_i)^T z,   S = sum_j phi(k_j) v_j^T,   z = sum_j phi(k_j),   phi(x) = elu(x) + 1
                                                                                          (equations 5 and 7)
The sums run over the tokens that are there; the denominator is at least 1e-6. Rotary positions turn phi(q) and phi(k),
in the numerator only (arXiv 2104.09864, equation 19). Where it is causal, the sums run up to i (equations 18 to 20).
"""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.feature_attention import causal_feature_attention, extended, nothing
from lra_bench.kernels.impl import BATCHED
from lra_bench.kernels.linear_attention import FLOOR, linear_attention, phi
from lra_bench.kernels.prefix import State
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card
from lra_bench.mixers.heads import Decoded

CARD = Card(
    title="Linear attention",
    family="kernel",
    paper="2006.16236",
    equation="equations 5 and 7",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="linear_attn of flash-linear-attention (Triton); without a causal mask it is two products",
    differs="",
)


@dataclass(frozen=True)
class Config:
    """The paper leaves nothing to choose."""


class Mixer(Decoded):
    """The keys are summed before the queries look at them; where it is causal, those up to each query."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        if dims.causal and dims.target.platform != "cpu":
            self.impl = BATCHED

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
        if self.causal:
            return causal_feature_attention(q, k, v, mask, features, FLOOR, self.rotary, self.impl)
        return linear_attention(q, k, v, mask, self.rotary)

    def init_state(self, batch: int, length: int) -> State:
        """S and z, however long the text is."""
        return nothing(batch, self.heads, self.head_width, self.head_width)

    def extend(
        self, state: State, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[State, Float[Array, "B H N K"]]:
        return extended(state, q, k, v, features, FLOOR, self.rotary)

    def projected_at(
        self, x: Float[Array, "B N D"], first: Int[Array, ""]
    ) -> tuple[Float[Array, "B H N K"], Float[Array, "B H N K"], Float[Array, "B H N K"]]:
        """Not turned: rotary positions turn their features."""
        return self.unturned(x)


def features(x: Float32[Array, "B H N K"], i: Int[Array, "N"]) -> Float32[Array, "B H N K"]:
    """phi, whatever the token's place."""
    return phi(x)
