"""Linear attention (Katharopoulos et al., arXiv 2006.16236).

    y_i = phi(q_i)^T S / phi(q_i)^T z,   S = sum_j phi(k_j) v_j^T,   z = sum_j phi(k_j),   phi(x) = elu(x) + 1
                                                                                          (equations 5 and 7)
The sums run over the tokens that are there; the denominator is at least 1e-6. Rotary positions turn phi(q) and phi(k),
in the numerator only (arXiv 2104.09864, equation 19).
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Array, Bool, Float

from lra_bench.kernels.linear_attention import linear_attention
from lra_bench.mixers.card import Card
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="Linear attention",
    family="kernel",
    paper="2006.16236",
    equation="equations 5 and 7",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="",
    public="linear_attn of flash-linear-attention (Triton); without a causal mask it is two products",
    differs="",
)


@dataclass(frozen=True)
class Config:
    """The paper leaves nothing to choose."""


class Mixer(HeadsMixer):
    """The keys are summed before the queries look at them."""

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
        return linear_attention(q, k, v, mask, self.rotary)
