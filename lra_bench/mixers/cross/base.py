"""The contract of a mixer's cross form: each place of a target, [B, M, D], reads a source, [B, L, D].

A file here has the name of its mixer's file, and exports `CARD` and `Cross`; its options are those of the mixer's own
`Config`. A mask is True where there is a token. What is padding, in the source or in the target, changes no y where a
token is. Where the target grows (`dims.causal`), no later place of it changes y: most forms read place by place, and
have nothing to do for that. Rotary positions turn nothing here: places of a source and of a target are not compared.

Where `decodes()`, the source is read once, into `init_memory`, and `read` answers places of a target from that, as many
as there are. `lra_bench/conformance/crossing.py` holds each form to this.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.kernels.dense import dense
from lra_bench.mixers.base import Dims, implementation
from lra_bench.mixers.heads import cut, join
from lra_bench.mixers.layers import XAVIER


class CrossBase(nnx.Module):
    """What every `Cross` is."""

    impl: str = "xla"  # the implementation that runs, resolved in __init__

    def __init__(self, config: Any, dims: Dims, *, rngs: nnx.Rngs) -> None:
        """Make the parameters of one layer. `config` is the `Config` of the mixer's own file, `dims.length` that of
        the longest source and of the longest target."""
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
        """What each place of the target x reads in the source `memory`. `key` is for forms that draw; None at
        evaluation."""
        return self.read(self.init_memory(memory, memory_mask), x, jnp.arange(x.shape[1]))

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> Any:
        """All that is kept of a source for the places of a growing target to read: arrays.

        Raises:
            NotImplementedError: the form does not decode.
        """
        raise NotImplementedError(f"{type(self).__module__} does not decode")

    def read(self, kept: Any, x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        """What the places i of a target read, x being the vectors there."""
        raise NotImplementedError(f"{type(self).__module__} does not decode")

    @classmethod
    def decodes(cls) -> bool:
        """Has it `init_memory` and `read`?"""
        return cls.init_memory is not CrossBase.init_memory


class HeadsCross(CrossBase):
    """Q = x W_q of the target, K, V = memory W_k, memory W_v of the source, by heads; y = concat(...) W_o (arXiv
    1706.03762, sections 3.2.2 and 3.2.3). Projections without bias, Xavier uniform, as `HeadsMixer` has them."""

    def __init__(self, config: Any, dims: Dims, *, rngs: nnx.Rngs) -> None:
        D, joint = dims.width, dims.heads * dims.head_width
        self.impl = implementation(config, dims)
        self.heads, self.head_width = dims.heads, dims.head_width
        self.q = nnx.Param(XAVIER(rngs.params(), (D, joint)))
        self.kv = nnx.Param(jnp.concatenate([XAVIER(rngs.params(), (D, joint)) for _ in range(2)], axis=1))
        self.out = nnx.Param(XAVIER(rngs.params(), (joint, D)))

    def queries(self, x: Float[Array, "B M D"]) -> Float[Array, "B H M K"]:
        """Of the target's places, by heads."""
        return cut(dense(x, self.q[...]), self.heads)

    def keys_and_values(self, memory: Float[Array, "B L D"]) -> tuple[Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        """Of the source's places, by heads."""
        k, v = jnp.split(dense(memory, self.kv[...]), 2, axis=-1)
        return cut(k, self.heads), cut(v, self.heads)

    def output(self, y: Float[Array, "B H M K"]) -> Float[Array, "B M D"]:
        """The heads side by side, through W_o."""
        return dense(join(y), self.out[...])


class KeysAndValues(NamedTuple):
    """Of the source's places, and which of them are there."""

    k: Float[Array, "B H L K"]
    v: Float[Array, "B H L K"]
    mask: Bool[Array, "B L"]


class AttendingCross(HeadsCross):
    """One whose queries meet the source's keys and values as they are."""

    def attend(
        self,
        q: Float[Array, "B H M K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H M K"]:
        """What the mechanism does with queries, keys and values; the mask is True where there is a key."""
        raise NotImplementedError

    def init_memory(self, memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]) -> KeysAndValues:
        """Its keys and values."""
        return KeysAndValues(*self.keys_and_values(memory), memory_mask)

    def read(self, kept: KeysAndValues, x: Float[Array, "B N D"], i: Int[Array, " N"]) -> Float[Array, "B N D"]:
        return self.output(self.attend(self.queries(x), *kept).astype(x.dtype))
