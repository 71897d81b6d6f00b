"""Memory tokens (Memory Transformer, Burtsev et al., arXiv 2006.11527): m learned tokens stand in front of the text.

    Y = softmax(Q [M W_K; K]^T / sqrt K) [M W_V; V],   M: [m, D] learned                    (MemTransformer)

Every token sees the memory, and all tokens (the paper's way) or those at most w away. Padding is no key; the memory
always is, so that a text without any token reads the memory alone. Where it is causal, a token sees the memory and none
of the later tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention, joined
from lra_bench.kernels.dense import dense
from lra_bench.kernels.patterns import Window
from lra_bench.kernels.softmax_attention import softmax_attention_part
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, always, attended_part, empty, within
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Decoded, cut

CARD = Card(
    title="Memory tokens",
    family="memory",
    paper="2006.11527",
    equation="MemTransformer",
    year=2020,
    time=2.0,
    memory=1.0,
    exact_when="tokens = 0",
    exact_without="the memory",
    causal_form="yes",
    public="any kernel of full attention, on a few tokens more",
    differs="the memory is each layer's own and nothing is written into it: the backbone's layers hand on tokens only. "
    "Without the paper's MemCtrl and MemBottleneck, whose memory does go on",
    short={"tokens": 3},
)


@dataclass(frozen=True)
class Config(Fused):
    """How much memory, and what is seen beside it."""

    tokens: int = 10
    """m: memory tokens. The paper takes 10 in most of its models, and tries 5 to 30."""

    window: int | None = None
    """w: so many neighbors on each side are seen beside the memory; None: all tokens, at quadratic cost."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < 0:
            raise ConfigError(f"tokens: {self.tokens}; at least 0")
        if self.window is not None and self.window < 1:
            raise ConfigError(f"window: {self.window}; at least 1, or None")


class Mixer(Decoded):
    """Every token looks at the memory and at other tokens, in one softmax."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.window = None if config.window is None else Window(min(config.window, dims.length), causal=dims.causal)
        self.tokens = config.tokens
        if config.tokens:
            self.memory = nnx.Param(jax.random.normal(rngs.params(), (config.tokens, dims.width)))

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        if self.window is None:
            text = softmax_attention_part(q, k, v, mask, self.impl, self.causal)
        else:
            text = block_attention(q, k, v, mask, self.window, impl=self.impl)
        return self.with_memory(q, text)

    def with_memory(
        self, q: Float[Array, "B H N K"], text: tuple[Float[Array, "B H N K"], Float32[Array, "B H N"]]
    ) -> Float[Array, "B H N K"]:
        """One softmax over what was read in the text, and the memory."""
        if self.tokens == 0:
            return text[0]
        k, v = self.remembered(len(q), q.dtype)
        return joined([text, softmax_attention_part(q, k, v, jnp.ones(k.shape[::2], bool), self.impl)])

    def remembered(self, rows: int, dtype: jnp.dtype) -> tuple[Float[Array, "B H m K"], Float[Array, "B H m K"]]:
        """Keys and values of the memory, the same for every row of the batch. Rotary positions leave them unturned."""
        _, *keys_values = jnp.split(self.qkv[...], 3, axis=1)
        parts = (cut(dense(self.memory[...].astype(dtype)[None], W), self.heads) for W in keys_values)
        k, v = (jnp.broadcast_to(part, (rows, *part.shape[1:])) for part in parts)
        return k, v

    def init_state(self, batch: int, length: int) -> KeyValues:
        """Keys and values of the tokens that the next one sees."""
        return empty(self, batch, length if self.window is None else min(self.window.width, length))

    def extend(
        self, state: KeyValues, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[KeyValues, Float[Array, "B H N K"]]:
        state, text = attended_part(state, q, k, v, always if self.window is None else within(self.window.width))
        return state, self.with_memory(q, text)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """No memory, and every token in sight."""
    return [Mixer(Config(tokens=0), dims, rngs=rngs)]
