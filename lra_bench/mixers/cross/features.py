"""Cross attention by features: phi(q_i) . phi(k_j) in place of exp(q_i . k_j), the source summed before it is read
(Katharopoulos et al., arXiv 2006.16236, equation 5, with queries of the target)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.feature_attention import Features, counted, divided, feature_attention
from lra_bench.kernels.product import product
from lra_bench.mixers.cross.base import HeadsCross


class Sums(NamedTuple):
    """Over the source's places: phi(k) v, and in the last column phi(k), for the denominator."""

    memory: Float32[Array, "B H m V+1"]


class FeatureCross(HeadsCross):
    """y_i = phi(q_i)^T S / phi(q_i)^T z, S = sum_j phi(k_j) v_j^T, z = sum_j phi(k_j), phi as `phi` says."""

    floor: float = 1e-6  # of the denominator

    def phi(self, key: jax.Array | None) -> Features:
        """The features of queries and keys at their places. `key` is for features that are drawn."""
        raise NotImplementedError

    def __call__(
        self,
        x: Float[Array, "B M D"],
        memory: Float[Array, "B L D"],
        there: Bool[Array, "B M"],
        memory_mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
    ) -> Float[Array, "B M D"]:
        k, v = self.keys_and_values(memory)
        y = feature_attention(self.queries(x), k, v, memory_mask, self.phi(key), self.floor, impl=self.impl)
        return self.output(y)

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> Sums:
        """S and z, however long the source is."""
        k, v = self.keys_and_values(memory)
        f = self.phi(None)(k.astype(jnp.float32), jnp.arange(k.shape[2]))
        return Sums(product("bhlf,bhlv->bhfv", f, counted(v, memory_mask)))

    def read(self, kept: Sums, x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        f = self.phi(None)(self.queries(x).astype(jnp.float32), i)
        return self.output(divided(product("bhnf,bhfv->bhnv", f, kept.memory), self.floor).astype(x.dtype))
