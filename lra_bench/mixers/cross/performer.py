"""Performer's attention of a target to a source (Choromanski et al., arXiv 2009.14794): softmax attention's kernel,
estimated by m random features.

    Y = phi(Q) (phi(K)^T V) / (phi(Q) sum_j phi(k_j)),   x = q or k times K^(-1/4)
    phi(x)_f = exp(w_f . x - |x|^2 / 2)       FAVOR+: positive, and unbiased for exp(q . k / sqrt K)    (lemma 1)
    phi(x)_f = relu(w_f . x) + 0.001          generalized attention                                  (appendix A.4)

Q is of the target, K and V of the source; no prefix of the source is asked for, so it is the bidirectional form. The w
are orthogonal in blocks of K, drawn once a layer, for all heads. phi(k) of padding is zero.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.favor import Chunk, Peaked, favor, orthogonal_features
from lra_bench.kernels.feature_attention import counted, divided, feature_attention
from lra_bench.kernels.product import product
from lra_bench.mixers.base import Constant, Dims
from lra_bench.mixers.cross.base import HeadsCross
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.performer import FLOOR, Config, rectified

CARD = CrossCard(
    paper="2009.14794",
    equation="lemma 1 and sections 2.2 to 2.4, queries of the target; appendix A.4 for relu",
    exact_when="features -> infinity",
    differs="features drawn once, or anew at every training step where the paper draws periodically",
)

TINY = float(jnp.finfo(jnp.float32).tiny)


class Cross(HeadsCross):
    """The source is summed, feature by feature, before the target looks at it."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.kernel, self.redraw = config.kernel, config.redraw
        self.features = Constant(orthogonal_features(rngs.params(), config.features, dims.head_width))

    def __call__(
        self,
        x: Float[Array, "B M D"],
        memory: Float[Array, "B L D"],
        there: Bool[Array, "B M"],
        memory_mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
    ) -> Float[Array, "B M D"]:
        w = self.features[...]
        w = orthogonal_features(key, *w.shape) if self.redraw and key is not None else w
        q, (k, v) = self.queries(x), self.keys_and_values(memory)
        if self.kernel == "exp":
            return self.output(favor(q, k, v, memory_mask, w, self.impl))
        return self.output(feature_attention(q, k, v, memory_mask, rectified(w), FLOOR, impl=self.impl))

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> Peaked:
        """Sums over the source's places, however long it is; of exponentials as shares of each feature's largest."""
        (k, v), w = self.keys_and_values(memory), self.features[...]
        values, i = counted(v, memory_mask), jnp.arange(k.shape[2])
        if self.kernel == "exp":
            return Chunk(w).sums(k, values, i)
        sums = product("bhlf,bhlv->bhfv", rectified(w)(k.astype(jnp.float32), i), values)
        return Peaked(jnp.zeros(sums.shape[:3]), sums)

    def read(self, kept: Peaked, x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        q, w = self.queries(x).astype(jnp.float32), self.features[...]
        f, floor = (self._exponentials(q, kept), TINY) if self.kernel == "exp" else (rectified(w)(q, i), FLOOR)
        return self.output(divided(product("bhnf,bhfv->bhnv", f, kept.sums), floor).astype(x.dtype))

    def _exponentials(self, q: Float32[Array, "B H N K"], kept: Peaked) -> Float32[Array, "B H N m"]:
        """phi(q) times what the sums are shares of, of which the largest is one: all factors of a query fall out."""
        logits = product("bhnk,fk->bhnf", q * q.shape[-1] ** -0.25, self.features[...]) + kept.top[:, :, None]
        return jnp.exp(logits - logits.max(-1, keepdims=True))


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Cross]:
    """More and more features, as the mixer's own limit has them: with small logits, whose estimate varies less."""
    forms, key = [], rngs.params()
    for m in (4, 256, 16384):
        form = Cross(Config(features=m), dims, rngs=nnx.Rngs(key))
        form.q[...], joint = 0.25 * form.q[...], form.q.shape[1]
        form.kv[...] = form.kv[...].at[:, :joint].multiply(0.25)
        forms.append(form)
    return forms
