"""Multi-head attention (arXiv 1706.03762, section 3.2.2) around any `attend(q, k, v, mask)`.

Projections without bias, Xavier uniform, as in LRA. The heads' joint width H K may differ from D. Where the backbone's
positions are rotary, queries and keys are turned before `attend` sees them, unless it is something made of them that
their product is of: a feature map's values (`linear`, `cosformer`, `performer`), or normalized keys (`long-short`).
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.rotary import rotary, rotary_at
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims, MixerBase, Prefilled, implementation
from lra_bench.mixers.layers import XAVIER


def near_heads(asked: int, heads: int) -> int:
    """How many heads look at their neighbors alone: as many as are asked for.

    Raises:
        ConfigError: no head is left that looks further.
    """
    if asked >= heads:
        raise ConfigError(f"near_heads: {asked}; the model has backbone.heads={heads}, and one at least looks further")
    return asked


class HeadsMixer(MixerBase):
    """Q, K, V = x W_q, x W_k, x W_v by heads; y = concat(attend(Q, K, V)) W_o."""

    turns: ClassVar[bool] = True

    def __init__(self, config: Any, dims: Dims, *, rngs: nnx.Rngs) -> None:
        D, joint = dims.width, dims.heads * dims.head_width
        self.impl = implementation(config, dims)
        self.heads, self.rotary, self.causal = dims.heads, dims.rotary, dims.causal
        self.head_width, self.dtype = dims.head_width, dims.dtype
        self.qkv = nnx.Param(jnp.concatenate([XAVIER(rngs.params(), (D, joint)) for _ in range(3)], axis=1))
        self.out = nnx.Param(XAVIER(rngs.params(), (joint, D)))

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        """What the mechanism does with queries, keys and values; the mask is True where there is a key."""
        raise NotImplementedError

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        return self.output(self.attend(*self.project(x), mask))

    def project(
        self, x: Float[Array, "B L D"]
    ) -> tuple[Float[Array, "B H L K"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        """Queries, keys and values of every token, by heads; turned by their positions, where those are rotary."""
        q, k, v = self.unturned(x)
        return self.turned(q), self.turned(k), v

    def unturned(
        self, x: Float[Array, "B L D"]
    ) -> tuple[Float[Array, "B H L K"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        """The same as they are projected, for mixers that make something of them before they turn it."""
        q, k, v = (cut(part, self.heads) for part in jnp.split(dense(x, self.qkv[...]), 3, axis=-1))
        return q, k, v

    def turned(self, x: Float[Array, "B H L K"]) -> Float[Array, "B H L K"]:
        """Queries or keys of a text by their positions, where those are rotary."""
        return rotary(x) if self.rotary else x

    def output(self, y: Float[Array, "B H L K"]) -> Float[Array, "B L D"]:
        """The heads side by side, through W_o."""
        return dense(join(y), self.out[...])

    def extend(
        self, state: Any, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[Any, Float[Array, "B H N K"]]:
        """The state after N further tokens, as `projected_at` has them, and what they read."""
        raise NotImplementedError

    def projected_at(
        self, x: Float[Array, "B N D"], first: Int[Array, ""]
    ) -> tuple[Float[Array, "B H N K"], Float[Array, "B H N K"], Float[Array, "B H N K"]]:
        """Queries, keys and values of tokens whose first stands at the place `first`."""
        q, k, v = self.unturned(x)
        if not self.rotary:
            return q, k, v
        i = first + jnp.arange(x.shape[1])
        return rotary_at(q, i), rotary_at(k, i), v


class Decoded(Prefilled, HeadsMixer):
    """One that decodes by `extend`: its state has a `place`, the number of tokens that it has seen."""

    def prefill(self, state: Any, x: Float[Array, "B N D"]) -> tuple[Any, Float[Array, "B N D"]]:
        state, y = self.extend(state, *self.projected_at(x, state.place))
        return state, self.output(y.astype(x.dtype))


class Multihead(nnx.Module):
    """Attention of one array to another: queries of x, keys and values of y.

    Args:
        context: the width of y; None: D.
        tied: the values are the keys.
        projected: through W_o at the end, to width D; without, the heads stand side by side, H K wide.
        impl: of the attention, as `impl.chosen` says it.
    """

    def __init__(
        self,
        dims: Dims,
        *,
        context: int | None = None,
        tied: bool = False,
        projected: bool = True,
        impl: str,
        rngs: nnx.Rngs,
    ) -> None:
        D, joint = dims.width, dims.heads * dims.head_width
        self.heads, self.projected, self.impl, shape = dims.heads, projected, impl, (context or D, joint)
        self.q = nnx.Param(XAVIER(rngs.params(), (D, joint)))
        self.kv = nnx.Param(jnp.stack([XAVIER(rngs.params(), shape) for _ in range(1 if tied else 2)]))
        if projected:
            self.out = nnx.Param(XAVIER(rngs.params(), (joint, D)))

    def __call__(
        self, x: Float[Array, "B M D"], y: Float[Array, "B N E"], mask: Bool[Array, "B N"]
    ) -> Float[Array, "B M W"]:
        """`mask` is True where y has a key."""
        q = cut(dense(x, self.q[...]), self.heads)
        seen = [cut(dense(y, W), self.heads) for W in self.kv[...]]
        read = join(softmax_attention(q, seen[0], seen[-1], mask, self.impl))
        return dense(read, self.out[...]) if self.projected else read


def cut(x: Float[Array, "B L J"], heads: int) -> Float[Array, "B H L K"]:
    """The joint width J = H K, by heads."""
    B, L, _ = x.shape
    return x.reshape(B, L, heads, -1).swapaxes(1, 2)


def join(x: Float[Array, "B H L K"]) -> Float[Array, "B L J"]:
    """The heads side by side."""
    B, _, L, _ = x.shape
    return x.swapaxes(1, 2).reshape(B, L, -1)
