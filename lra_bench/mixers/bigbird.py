"""BigBird (Zaheer et al., arXiv 2007.14062, section 2 and appendix D): a window of blocks, a few random blocks, and
global tokens that see and are seen by all.

    y_i = sum_j softmax_j(q_i . k_j / sqrt K) v_j       over the j in N(i)                     (equation AT, section 2)

N(i): the 3 blocks around i's own, r random blocks fixed for its block, and the global tokens; of a global token i: all.
They are a text's own first and last block (internal transformer construction, ITC; as in the authors' code, where the
paper takes the first ones), or learned tokens in front of it (extended, ETC). Padding is no key; the last block is the
one of the last token that is there, so padding behind a text changes nothing but which of its random blocks hold a
token.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention, joined
from lra_bench.kernels.dense import dense
from lra_bench.kernels.patterns import RandomBlocks
from lra_bench.kernels.softmax_attention import softmax_attention, softmax_attention_part
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer, cut
from lra_bench.mixers.layers import LayerNorm

CARD = Card(
    title="BigBird",
    family="combined-patterns",
    paper="2007.14062",
    equation="equation AT (section 2), appendix D",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="the window is over everything",
    exact_without="blocks that only the random and the global ones bring",
    causal_form="no: its global tokens see all tokens and are seen by all, so that each learns of later ones",
    public="BigBird of Hugging Face transformers (PyTorch, blocks)",
    differs="the same random blocks in every head and layer (the authors' code draws them anew for each: the "
    "backbone's layers do not know their index); with tokens of its own a layer's global half comes before the tokens' "
    "half, not beside it, as nothing is carried between layers; with them the paper has no random blocks",
    short={"block": 4, "random": 1},
)


@dataclass(frozen=True)
class Config(Fused):
    """How large the blocks are, and how many each meets."""

    block: int = 64
    """b: tokens of a block."""

    window: int = 3
    """Blocks around a token: its own and as many on each side; odd."""

    random: int = 3
    """r: further blocks that a block meets, none of them in its window or global."""

    tokens: int = 0
    """0: the first and the last block are global (ITC); otherwise so many learned tokens are, and no block (ETC)."""

    seed: int = 0
    """The random blocks are drawn from it once, over the whole length, whatever seed a run has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 1:
            raise ConfigError(f"block: {self.block}; at least 1")
        if self.window < 1 or self.window % 2 == 0:
            raise ConfigError(f"window: {self.window}; an odd number of blocks")
        if self.random < 0:
            raise ConfigError(f"random: {self.random}; at least 0")
        if self.tokens < 0:
            raise ConfigError(f"tokens: {self.tokens}; at least 0")
        if self.seed < 0:
            raise ConfigError(f"seed: {self.seed}; at least 0")


class Mixer(HeadsMixer):
    """Every block looks at its neighbors, at random blocks, and at what is global."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.extended, self.size = config.tokens > 0, config.block
        blocks = -(-dims.length // config.block)
        self.pattern = RandomBlocks(
            config.block,
            min(config.window // 2, blocks),
            config.random,
            blocks,
            config.seed,
            last=-(-config.tokens // config.block) or 2,
            spare_ends=not self.extended,
        )
        if self.extended:
            self.tokens = nnx.Param(jax.random.normal(rngs.params(), (config.tokens, dims.width)))
            self.norm = LayerNorm(dims.width)

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        """What is global stands as blocks of keys behind the text, which all blocks meet."""
        if self.extended:
            keys, values = (filled(x, self.size) for x in self.read(k, v, mask))
            there = jnp.broadcast_to(jnp.arange(keys.shape[2]) < len(self.tokens[...]), (len(k), keys.shape[2]))
            k, v, mask = self.with_globals(k, v, mask, keys, values, there)
            return block_attention(q, k, v, mask, self.pattern, impl=self.impl)[0]
        places, there, everywhere = ends(mask, self.size)
        rows, keys, values = (jnp.take_along_axis(x, places[:, None, :, None], 2, mode="clip") for x in (q, k, v))
        k, v, near = self.with_globals(k, v, mask & ~everywhere, keys, values, there)
        y, _ = block_attention(q, k, v, near, self.pattern, impl=self.impl)
        rows = softmax_attention(rows, k, v, jnp.pad(mask, ((0, 0), (0, k.shape[2] - mask.shape[1]))), self.impl)
        return y.at[jnp.arange(len(y))[:, None], :, places].set(rows.swapaxes(1, 2), mode="drop")

    def with_globals(
        self, k: Array, v: Array, mask: Array, keys: Array, values: Array, there: Array
    ) -> tuple[Array, Array, Array]:
        """The text's keys, values and mask, filled up to whole blocks, and the global ones behind them."""
        k, v = (jnp.concatenate([filled(x, self.size), more], axis=2) for x, more in ((k, keys), (v, values)))
        return k, v, jnp.concatenate([jnp.pad(mask, ((0, 0), (0, -mask.shape[1] % self.size))), there], axis=1)

    def read(
        self, k: Float[Array, "B H L K"], v: Float[Array, "B H L K"], mask: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B H g K"], Float[Array, "B H g K"]]:
        """Keys and values of the learned tokens, after these have looked at themselves and at the text."""
        B, H, _, K = k.shape
        z = jnp.broadcast_to(self.tokens[...].astype(k.dtype), (B, *self.tokens.shape))
        queries, keys, values = (cut(part, H) for part in jnp.split(dense(z, self.qkv[...]), 3, axis=-1))
        among = softmax_attention_part(queries, keys, values, jnp.ones(z.shape[:2], bool), self.impl)
        z = self.norm(z + self.output(joined([among, softmax_attention_part(queries, k, v, mask, self.impl)])))
        _, keys, values = (cut(part, H) for part in jnp.split(dense(z, self.qkv[...]), 3, axis=-1))
        return keys, values


def filled(x: Float[Array, "B H L K"], size: int) -> Float[Array, "B H W K"]:
    """The length filled up to whole blocks."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % size), (0, 0)))


def ends(mask: Bool[Array, "B L"], size: int) -> tuple[Int[Array, "B G"], Bool[Array, "B G"], Bool[Array, "B L"]]:
    """The places of the tokens of each text's first and last block (L: none), which of them are there, and the same
    as a mask over all places."""
    B, L = mask.shape
    last = jnp.max(jnp.where(mask, jnp.arange(L), 0), axis=1, keepdims=True) // size
    inside = jnp.arange(size)
    second = jnp.where((last > 0) & (last * size + inside < L), last * size + inside, L)
    first = jnp.where(inside < L, inside, L)
    places = jnp.concatenate([jnp.broadcast_to(first, (B, size)), second], axis=1)
    there = (places < L) & jnp.take_along_axis(mask, places, axis=1, mode="clip")
    block = jnp.arange(L) // size
    return places, there, (block == 0) | (block == last)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """The window over everything."""
    return [Mixer(Config(block=8, window=2 * dims.length + 1), dims, rngs=rngs)]
