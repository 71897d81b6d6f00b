"""Softmax attention in full, the oracle (Vaswani et al., arXiv 1706.03762).

    Y = softmax(Q K^T / sqrt K) V                                                         (equation 1)

A row without any key gives 0. What differs is only how it is computed: by blocks, so memory is linear in L.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.impl import BATCHED, FORMS, PALLAS, XLA
from lra_bench.kernels.softmax_attention import softmax_attention, softmax_attention_reference
from lra_bench.kernels.splash_attention import splash_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, always, attended, empty
from lra_bench.mixers.card import Card
from lra_bench.mixers.heads import Decoded

CARD = Card(
    title="Softmax attention",
    family="full",
    paper="1706.03762",
    equation="equation 1",
    year=2017,
    time=2.0,
    memory=1.0,
    exact_when="always",
    causal_form="yes",
    public="cuDNN's and FlashAttention's kernels (GPU), splash attention (TPU), of which cuDNN's and splash "
    "are used here",
    differs="no dropout on the weights (LRA has it): the block's dropout is the same for all mixers",
)


REFERENCE = "plain"  # what the others are held against
HALF = ("bfloat16", "float16")
IMPLS = ("auto", "blockwise", "batched", "pallas", "splash", "cudnn", "sdpa", "plain")
RUN_ON = {"cudnn": "gpu", "splash": "tpu"}  # what only one platform has


@dataclass(frozen=True)
class Config:
    """How the one function is computed."""

    impl: str = "auto"
    """auto: on a CPU blockwise (online softmax over blocks of keys), on a GPU cudnn (cuDNN's fused kernel, in 16 bits)
    or pallas (a kernel of our own, in float32), on a TPU splash (JAX's kernel). Or batched (online softmax, all keys at
    once), sdpa (jax.nn.dot_product_attention as XLA has it) or plain, which put the L x L weights into memory."""

    def __post_init__(self) -> None:
        if self.impl not in IMPLS:
            raise ConfigError(f"impl: '{self.impl}'; it can be: {', '.join(IMPLS)}")


class Mixer(Decoded):
    """Every token looks at every token that is there; where it is causal, at those up to itself."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        platform = dims.target.platform
        self.impl = best(dims) if config.impl == "auto" else config.impl
        if self.impl == "cudnn" and dims.causal:
            raise ConfigError("impl: cudnn; of a causal mask it takes no padding in between: pallas")
        if RUN_ON.get(self.impl, platform) != platform:
            there, here = RUN_ON[self.impl].upper(), platform.upper()
            raise ConfigError(f"impl: {self.impl}; it runs on a {there}, and this is a {here}")
        self.impl = FORMS[platform] if self.impl == PALLAS else self.impl

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        if self.impl == "plain":
            return softmax_attention_reference(q, k, v, mask, self.causal)
        if self.impl == "splash":
            return splash_attention(q, k, v, mask, self.causal)
        if self.impl not in ("cudnn", "sdpa"):
            return softmax_attention(q, k, v, mask, XLA if self.impl == "blockwise" else self.impl, self.causal)
        q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
        if self.impl == "cudnn":
            y = by_cudnn(q, k, v, mask)
        else:
            y = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :], is_causal=self.causal)
        none = ~(mask.cumsum(1) > 0) if self.causal else ~mask.any(1)[:, None]
        return jnp.where(none[:, None, :, None], 0, y.swapaxes(1, 2))

    def init_state(self, batch: int, length: int) -> KeyValues:
        """Keys and values of all tokens."""
        return empty(self, batch, length)

    def extend(
        self, state: KeyValues, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[KeyValues, Float[Array, "B H N K"]]:
        return attended(state, q, k, v, always)


def implementations(platform: str) -> list[str]:
    """Those that a platform has, but for the reference."""
    return [one for one in IMPLS if one not in ("auto", REFERENCE) and RUN_ON.get(one, platform) == platform]


def best(dims: Dims) -> str:
    """What runs where nothing is asked for."""
    platform, refused = dims.target.platform, dims.target.refused
    if platform == "cpu":
        return "blockwise"
    first = {"gpu": ["cudnn"] if dims.dtype in HALF and not dims.causal else [], "tpu": ["splash"]}[platform]
    return next(one for one in (*first, PALLAS, BATCHED) if one not in refused)


def by_cudnn(
    q: Float[Array, "B L H K"], k: Float[Array, "B L H K"], v: Float[Array, "B L H K"], mask: Bool[Array, "B L"]
) -> Float[Array, "B L H K"]:
    """cuDNN's kernel. A mask it would want as L x L biases, so the keys that are there are put first, and counted."""
    if q.dtype == jnp.float32:
        raise ConfigError("impl: cudnn; it takes no float32: --set backbone.dtype=bfloat16")
    order = jnp.argsort(~mask, axis=1, stable=True)[:, :, None, None]
    k, v = (jnp.take_along_axis(x, order, axis=1) for x in (k, v))
    count = jnp.maximum(mask.sum(1, dtype=jnp.int32), 1)
    return jax.nn.dot_product_attention(q, k, v, key_value_seq_lengths=count, implementation="cudnn")


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """Itself, with the weights in memory."""
    return [Mixer(Config(impl="plain"), dims, rngs=rngs)]
