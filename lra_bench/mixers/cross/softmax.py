"""Softmax attention of a target to a source, the oracle (Vaswani et al., arXiv 1706.03762, section 3.2.3).

    Y = softmax(Q K^T / sqrt K) V,   Q = X W_q of the target, K, V = C W_k, C W_v of the source          (equation 1)

A source without any token gives 0. It is computed by blocks, as the mixer is: no M x L array is held.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.impl import FORMS, PALLAS, XLA
from lra_bench.kernels.softmax_attention import softmax_attention, softmax_attention_reference
from lra_bench.mixers.base import Dims
from lra_bench.mixers.cross.base import AttendingCross
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.softmax import Config, best, by_cudnn

CARD = CrossCard(
    paper="1706.03762",
    equation="section 3.2.3, equation 1",
    exact_when="always",
)

OF_ONE_TEXT = "splash"  # the kernel whose queries and keys are padded alike


class Cross(AttendingCross):
    """Every place of the target looks at every token of the source."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        target = dims.target
        if config.impl == OF_ONE_TEXT:
            raise ConfigError(f"impl: {OF_ONE_TEXT}; its queries and keys are of one text: auto, batched or plain")
        unfit = replace(target, refused=target.refused | {OF_ONE_TEXT})
        usual = PALLAS if target.platform == "tpu" else best(replace(dims, causal=False, target=unfit))
        self.impl = usual if config.impl == "auto" else config.impl
        self.impl = FORMS[target.platform] if self.impl == PALLAS else self.impl

    def attend(
        self,
        q: Float[Array, "B H M K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H M K"]:
        if self.impl == "plain":
            return softmax_attention_reference(q, k, v, mask)
        if self.impl not in ("cudnn", "sdpa"):
            return softmax_attention(q, k, v, mask, XLA if self.impl == "blockwise" else self.impl)
        q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
        fused = self.impl == "cudnn"
        y = by_cudnn(q, k, v, mask) if fused else jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None])
        return jnp.where(mask.any(1)[:, None, None, None], y.swapaxes(1, 2), 0)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Cross]:
    """Itself, with the weights in memory."""
    return [Cross(Config(impl="plain"), dims, rngs=rngs)]
