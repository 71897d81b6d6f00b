"""Linear attention of a target to a source (Katharopoulos et al., arXiv 2006.16236).

    y_i = phi(q_i)^T S / phi(q_i)^T z,   S = sum_j phi(k_j) v_j^T,   z = sum_j phi(k_j),   phi(x) = elu(x) + 1
                                                                                          (equations 5 and 7)
q_i is of the target's place i, the sums run over the source's tokens; the denominator is at least 1e-6.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, Float32, Int

from lra_bench.kernels.feature_attention import Features
from lra_bench.kernels.linear_attention import FLOOR, phi
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.cross.features import FeatureCross

CARD = CrossCard(
    paper="2006.16236",
    equation="equations 5 and 7, queries of the target",
)


class Cross(FeatureCross):
    """The source is summed before the target looks at it."""

    floor = FLOOR

    def phi(self, key: jax.Array | None) -> Features:
        """elu(x) + 1, whatever the place."""
        return features


def features(x: Float32[Array, "B H N K"], i: Int[Array, " N"]) -> Float32[Array, "B H N K"]:
    """phi, whatever the token's place."""
    return phi(x)
