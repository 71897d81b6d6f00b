"""A window along the diagonal: each place of a target looks at the source's tokens near the place that is as far along
(local monotonic attention, Luong et al., arXiv 1508.04025, section 3.2, with Longformer's window, arXiv 2004.05150).

    y_i = softmax over |j - c_i| <= w of (q_i . k_j / sqrt K), times v_j,   c_i = round(i |source| / |target|)

Luong's local-m has c_i = i. That is what a target that grows has here, whose length is not known before its end, up to
the source's last token. A dilated window takes every d-th token; in blocks, a place sees the block of w tokens that c_i
is in. A place that sees no token gets 0.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.kernels.gathered_attention import gathered_attention
from lra_bench.kernels.impl import WALKED
from lra_bench.mixers.base import Dims, implementation
from lra_bench.mixers.cross.base import HeadsCross, KeysAndValues
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.mixers.heads import near_heads
from lra_bench.mixers.local import Config

CARD = CrossCard(
    paper="1508.04025",
    equation="section 3.2, local-m, with a window of 2004.05150, section 3.1",
    exact_when="window >= length",
    differs="the window follows the diagonal of source and target, where local-m has c_i = i; without the Gaussian of "
    "local-p, whose center is learned",
)


class Cross(HeadsCross):
    """Every place of the target looks at the source's tokens around its own share of it."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.impl = implementation(config, dims, WALKED)
        self.form, self.dilation = config.form, config.dilation
        self.near = near_heads(config.near_heads, dims.heads)
        self.window, self.growing = min(config.window, dims.length), dims.causal

    def __call__(
        self,
        x: Float[Array, "B M D"],
        memory: Float[Array, "B L D"],
        there: Bool[Array, "B M"],
        memory_mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
    ) -> Float[Array, "B M D"]:
        kept, i = self.init_memory(memory, memory_mask), jnp.arange(x.shape[1])
        if self.growing:
            return self.read(kept, x, i)
        share = memory_mask.sum(1) / jnp.maximum(there.sum(1), 1)
        return self.around(kept, x, jnp.round(i * share[:, None]).astype(jnp.int32))

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> KeysAndValues:
        """All keys and values of the source."""
        return KeysAndValues(*self.keys_and_values(memory), memory_mask)

    def read(self, kept: KeysAndValues, x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        last = jnp.maximum(kept.mask.sum(1) - 1, 0)
        return self.around(kept, x, jnp.minimum(i, last[:, None]))

    def around(self, kept: KeysAndValues, x: Float[Array, "B N D"], center: Int[Array, "B N"]) -> Float[Array, "B N D"]:
        """What the target's places read near their centers c; near heads without dilation."""
        (k, v, mask), q, n = kept, self.queries(x), self.near
        read = partial(gathered_attention, mask=mask, center=center, impl=self.impl)
        parts = [read(q[:, n:], k[:, n:], v[:, n:], places=partial(self.places, self.dilation))]
        if n:
            parts.insert(0, read(q[:, :n], k[:, :n], v[:, :n], places=partial(self.places, 1)))
        return self.output(jnp.concatenate(parts, axis=1).astype(x.dtype))

    def places(self, dilation: int, center: Int[Array, "B N"]) -> Int[Array, "B N W"]:
        """Of the source's tokens that are seen from each center."""
        if self.form == "block":
            return (center // self.window * self.window)[..., None] + jnp.arange(self.window)
        return center[..., None] + dilation * jnp.arange(-self.window, self.window + 1)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Cross]:
    """The window over everything."""
    return [Cross(Config(window=dims.length), dims, rngs=rngs)]
