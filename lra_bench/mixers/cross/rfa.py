"""Random feature attention of a target to a source (Peng et al., arXiv 2103.02143, section 3.1).

    y_i = phi(q_i)^T S / phi(q_i)^T z,   S = sum_j phi(k_j) v_j^T,   z = sum_j phi(k_j)
    phi(x) = [sin(w_1 . x), ..., sin(w_m . x), cos(w_1 . x), ..., cos(w_m . x)] / sqrt m              (theorem 1)

q_i of the target and k_j of the source are divided by their norms; w_f = sigma * u_f, u_f ~ N(0, I), sigma learned. As
in the paper's translation models, a source has no gate: nothing of it fades. The denominator is at least 0.01.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32, Int

from lra_bench.kernels.feature_attention import Features
from lra_bench.kernels.product import product
from lra_bench.kernels.sine_cosine import sine_cosine
from lra_bench.mixers.base import Constant, Dims
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.cross.features import FeatureCross
from lra_bench.mixers.rfa import FLOOR, Config, unit

CARD = CrossCard(
    paper="2103.02143",
    equation="section 3.1, theorem 1; cross attention without a gate",
    differs="features drawn once, or anew at every training step, where the authors draw hundreds before training",
)


class Cross(FeatureCross):
    """The source is summed, feature by feature, before the target looks at it."""

    floor = FLOOR

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.redraw = config.redraw
        self.features = Constant(jax.random.normal(rngs.params(), (dims.heads, config.features, dims.head_width)))
        self.sigma = nnx.Param(jnp.ones((dims.heads, dims.head_width)))

    def phi(self, key: jax.Array | None) -> Features:
        """The features of the frequencies that the model has, or of new ones."""
        u = self.features[...]
        u = jax.random.normal(key, u.shape) if self.redraw and key is not None else u
        w = u * self.sigma[...][:, None]

        def phi(x: Float32[Array, "B H N K"], i: Int[Array, " N"]) -> Float32[Array, "B H N 2m"]:
            angle = product("bhlk,hfk->bhlf", unit(x), w)
            return jnp.concatenate(sine_cosine(angle), axis=-1) * w.shape[1] ** -0.5

        return phi
