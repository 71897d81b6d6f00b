"""Block-Recurrent Transformer (Hutchins et al., arXiv 2203.07852): a state of S vectors is carried from block to block.

    tokens:  y = [attn(q, own and previous block); attn(q', C_t)] W_o                           (vertical, section 3.1)
    state:   h = [attn(c, C_t); attn(c', tokens of the block)] W,   C_{t+1} = gate(C_t, h)    (horizontal, section 3.1)
    fixed:   C_{t+1} = C_t g + (h + b) (1 - g),   g = sigmoid(b_g)                               (section 3.3)
    lstm:    C_{t+1} = C_t sigmoid(h W_f + b_f + 1) + tanh(h + b) sigmoid(h W_i + b_i - 1)       (section 3.3)

The state is the gate's skip form, without an MLP, which the paper finds best. Keys and values of tokens and of state
are shared by both directions, queries are not. Padding is no key; a block of padding leaves the state as it is. Where
it is causal, a token sees none of its block that come after it, as in section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Shaped

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention, side_by_side
from lra_bench.kernels.dense import dense
from lra_bench.kernels.impl import BATCHED, FORMS, HOPPER, PALLAS, XLA
from lra_bench.kernels.patterns import Blocks
from lra_bench.kernels.recurrent_states import Walk, recurrent_states
from lra_bench.kernels.segment_attention import segments
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, attended, empty, extended
from lra_bench.mixers.card import Card, OnHopper
from lra_bench.mixers.heads import HeadsMixer, cut, join
from lra_bench.mixers.layers import XAVIER, Dense, LayerNorm

if TYPE_CHECKING:
    from lra_bench.kernels.block_states_mosaic import Weights

CAPABILITY = "9.0"  # of Hopper, for which there is a kernel of the walk
FITTING = {HOPPER: ({"block": 128, "states": 128, "gate": "fixed"}, {"width": 64, "head_width": 32, "length": 300})}
CARD = Card(
    title="Block-recurrent",
    family="recurrence",
    paper="2203.07852",
    equation="sections 3.1 and 3.3",
    year=2022,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    segment="block",
    public="google-research/meliad (Flax)",
    differs="unless it is causal, tokens of a block see each other both ways, of other blocks only the past, so a cls "
    "token sees its own block alone, and texts that are longer are pooled by the mean unless cls is asked for; the "
    "state reads its own block (the authors' code: the previous one too); the whole text is differentiated through; "
    "every layer is recurrent (the paper: one of twelve); blocks and states of 128 (the paper: 512); no relative "
    "position bias, no unit-length keys",
    short={"block": 8, "states": 3},
)


@dataclass(frozen=True)
class Config(OnHopper):
    """How long a block is, and what is carried on."""

    block: int = 128
    """W: tokens of a block. The paper has 512, of texts of 4,096 tokens."""

    states: int = 128
    """S: vectors of the state; as many as a block has tokens, as in the paper."""

    gate: str = "fixed"
    """fixed: a learned share of the state is kept, the paper's best; lstm: shares that depend on what was read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 1:
            raise ConfigError(f"block: {self.block}; at least 1")
        if self.states < 1:
            raise ConfigError(f"states: {self.states}; at least 1")
        if self.gate not in ("fixed", "lstm"):
            raise ConfigError(f"gate: '{self.gate}'; it can be: fixed, lstm")


class State(NamedTuple):
    """Keys and values of a block and the one before it; the state before the block, and its keys and values, which are
    the same for all of the block's tokens."""

    tokens: KeyValues
    carried: Float32[Array, "B S D"]
    keys: Float[Array, "B H S K"]
    values: Float[Array, "B H S K"]


class Mixer(HeadsMixer):
    """Every token looks at its block, at the one before it, and at a state of all that came earlier."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.block = min(config.block, dims.length)
        D, joint, shape = dims.width, dims.heads * dims.head_width, (config.states, dims.width)
        self.out = nnx.Param(XAVIER(rngs.params(), (2 * joint, D)))
        self.query = nnx.Param(XAVIER(rngs.params(), (D, joint)))
        self.state = nnx.Param(jnp.concatenate([XAVIER(rngs.params(), (D, joint)) for _ in range(4)], axis=1))
        self.start = nnx.Param(0.1 * jax.random.normal(rngs.params(), shape))
        self.ids = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.norm = LayerNorm(D)
        self.update = Dense(2 * joint, D, rngs=rngs)
        if config.gate == "fixed":
            self.share = nnx.Param(0.1 * jax.random.normal(rngs.params(), (D,)))
        else:
            self.forget, self.admit = Dense(2 * joint, D, rngs=rngs), Dense(2 * joint, D, rngs=rngs)
        self.gate = config.gate
        if config.impl == "auto" and self.impl == FORMS["gpu"] and HOPPER not in dims.target.refused:
            self.impl = self.impl if unfit(config, dims) else HOPPER
        elif config.impl == HOPPER and (why := unfit(config, dims)):
            raise ConfigError(f"impl: {HOPPER}; {why}: auto")
        self.kernel = FORMS[dims.target.platform] if self.impl == HOPPER else self.impl

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        B, L, W = *x.shape[:2], min(self.block, x.shape[1])
        q, k, v = self.project(x)
        near, _ = block_attention(q, k, v, mask, Blocks(W, before=1, causal=self.causal), impl=self.kernel)
        start = jnp.broadcast_to(self.start[...], (B, *self.start.shape)).astype(jnp.float32)
        asked = cut(dense(x, self.query[...]), self.heads)
        asked, *each = [blocks(part, W) for part in (asked, k, v, mask[:, None, :, None])]
        read = self.one_by_one(start, asked, each)[1] if self.impl == XLA else self.at_once(start, asked, each)
        read = jnp.moveaxis(read, 0, 2).reshape(*q.shape[:2], -1, q.shape[3])[:, :, :L]
        return self.output(jnp.concatenate([near, read], axis=1))

    def one_by_one(
        self, start: Float[Array, "B S D"], asked: Float[Array, "N B H W K"], each: list[Array]
    ) -> tuple[Float[Array, "B S D"], Float[Array, "N B H W K"]]:
        """The state after all blocks, and what the tokens of each read in the state before it, as soon as that is
        known."""

        def step(state: Array, block: tuple[Array, list[Array]]) -> tuple[Array, Array]:
            after, seen = self.advanced(state, block[1])
            return after, self.read(block[0], *seen)

        return lax.scan(jax.checkpoint(step), start, (asked, each))

    def at_once(
        self, start: Float[Array, "B S D"], asked: Float[Array, "N B H W K"], each: list[Array]
    ) -> Float[Array, "N B H W K"]:
        """The same, when all states are known: fewer kernels in the loop."""
        graph, learned = nnx.split(self)
        states = recurrent_states(
            lambda learned, *given: nnx.merge(graph, learned).advanced(*given)[0],
            learned,
            start,
            each,
            walked(graph) if self.impl == HOPPER and each[0].shape[3] == self.block else None,
        )
        states, rows, *each = (part.reshape(-1, *part.shape[2:]) for part in (states, asked, *each))
        return self.read(rows, *self.advanced(states, each)[1]).reshape(asked.shape)

    def read(
        self, asked: Float[Array, "N H W K"], keys: Float[Array, "N H S K"], values: Float[Array, "N H S K"]
    ) -> Float[Array, "N H W K"]:
        """What the tokens of each block read in the state before it."""
        return softmax_attention(asked, keys, values, jnp.ones(keys.shape[::2], bool), self.kernel)

    def advanced(self, state: Float[Array, "B S D"], block: list[Array]) -> tuple[Array, tuple[Array, Array]]:
        """The state after a block; and keys and values of the one before it, for the block's tokens to read."""
        k, v, there = block
        own, across, keys, values = self.projected(state.astype(k.dtype))
        all_of_it = jnp.ones(state.shape[:2], bool)
        parts = [(own, keys, values, all_of_it), (across, k, v, there[:, 0, :, 0])]
        h = join(jnp.concatenate(side_by_side(parts, self.kernel), axis=1))
        after = self.gated(state, h.astype(jnp.float32))
        return jnp.where(there.any((1, 2))[:, None], after, state), (keys, values)

    def projected(self, state: Float[Array, "B S D"]) -> list[Float[Array, "B H S K"]]:
        """Queries of the state and of the tokens, keys and values."""
        c = self.norm(state) + self.ids.astype(state.dtype)
        return [cut(part, self.heads) for part in jnp.split(dense(c, self.state[...]), 4, axis=-1)]

    def gated(self, state: Float[Array, "B S D"], h: Float[Array, "B S J"]) -> Float[Array, "B S D"]:
        """The next state, in float32."""
        if self.gate == "fixed":
            share = jax.nn.sigmoid(self.share[...])
            return state * share + self.update(h) * (1 - share)
        admit, forget = jax.nn.sigmoid(self.admit(h) - 1), jax.nn.sigmoid(self.forget(h) + 1)
        return state * forget + jnp.tanh(self.update(h)) * admit

    def weights(self) -> Weights:
        """What the state is advanced by, as the kernel takes it."""
        from lra_bench.kernels.block_states_mosaic import Weights

        return Weights(
            scale=self.norm.scale[...],
            bias=self.norm.bias[...],
            ids=self.ids[...],
            state=self.state[...],
            update=self.update.kernel[...],
            offset=self.update.bias[...],
            share=jax.nn.sigmoid(self.share[...]),
        )

    def init_state(self, batch: int, length: int) -> State:
        """However long the text is."""
        carried = jnp.broadcast_to(self.start[...], (batch, *self.start.shape)).astype(jnp.float32)
        keys, values = self.projected(carried.astype(self.dtype))[2:]
        return State(empty(self, batch, 2 * self.block), carried, keys, values)

    def prefill(self, state: State, x: Float[Array, "B N D"]) -> tuple[State, Float[Array, "B N D"]]:
        # Block by block whatever `impl` is, for the state after the last one, which `at_once` does not give.
        (B, N, _), W = x.shape, self.block
        (q, k, v), asked = self.project(x), cut(dense(x, self.query[...]), self.heads)
        mask, whole = jnp.ones((B, N), bool), N // W * W
        pattern = Blocks(min(W, N), before=1, causal=True)
        parts, carried = [], tuple(state[1:])
        if whole:
            each = [blocks(h[:, :, :whole], W) for h in (asked, k, v, mask[:, None, :, None])]
            after, read = self.one_by_one(state.carried, each[0], each[1:])
            parts.append(jnp.moveaxis(read, 0, 2).reshape(B, self.heads, whole, -1))
            carried = after, *self.projected(after.astype(self.dtype))[2:]
        if whole < N:
            parts.append(self.read(asked[:, :, whole:], *carried[1:]))
        near, _ = block_attention(q, k, v, mask, pattern, impl=self.kernel)
        y = jnp.concatenate([near, jnp.concatenate(parts, axis=2).astype(near.dtype)], axis=1)
        return State(extended(state.tokens, k, v), *carried), self.output(y.astype(x.dtype))

    def step(self, state: State, x: Float[Array, "B D"]) -> tuple[State, Float[Array, "B D"]]:
        x = x[:, None]
        tokens, near = attended(state.tokens, *self.projected_at(x, state.tokens.place), self.seen)
        read = self.read(cut(dense(x, self.query[...]), self.heads), state.keys, state.values)
        state = state._replace(tokens=tokens)
        carried = lax.cond(tokens.place % self.block == 0, self.after_block, lambda state: state[1:], state)
        return State(tokens, *carried), self.output(jnp.concatenate([near, read.astype(near.dtype)], axis=1))[:, 0]

    def seen(self, i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
        """Whether the key at j is of the block of the query at i, or of the one before."""
        return i // self.block - j // self.block <= 1

    def after_block(self, state: State) -> tuple[Array, Array, Array]:
        """What is carried, with the block that the newest token ends, and its keys and values."""
        tokens, W = state.tokens, self.block
        first = (tokens.place - W) % (2 * W)
        k, v = (lax.dynamic_slice_in_dim(part, first, W, axis=2) for part in (tokens.k, tokens.v))
        carried, _ = self.advanced(state.carried, [k, v, jnp.ones((len(k), 1, W, 1), bool)])
        keys, values = self.projected(carried.astype(self.dtype))[2:]
        return carried, keys, values


def implementations(platform: str) -> list[str]:
    """Those that a platform has, but for the reference."""
    return [BATCHED, PALLAS, *([HOPPER] if platform == "gpu" else [])]


def unfit(config: Config, dims: Dims) -> str | None:
    """Why the walk is no kernel."""
    if dims.target.capability != CAPABILITY:
        return f"it runs on an NVIDIA GPU of compute capability {CAPABILITY}"
    if config.gate != "fixed":
        return "it has a fixed gate"
    from lra_bench.kernels.block_states_mosaic import fits

    if fits(config.states, min(config.block, dims.length), dims.width, dims.head_width, jnp.dtype(dims.dtype)):
        return None
    return "it has blocks of as many tokens as states, 64 or 128, a width of 64, heads 32 wide, or 64 in bfloat16"


def walked(graph: Any) -> Walk:
    """The walk with its state held in a kernel."""
    from lra_bench.kernels import block_states_mosaic as kernel

    def tokens(each: list[Array]) -> tuple[Array, Array, Array]:
        k, v, there = each
        return k, v, there[:, :, 0, :, 0]

    return Walk(
        lambda learned, start, each: kernel.walk(nnx.merge(graph, learned).weights(), start, *tokens(each)),
        lambda learned, states, each, g: kernel.walk_back(
            nnx.merge(graph, learned).weights(), states, *tokens(each), g
        ),
    )


def blocks(x: Shaped[Array, "B H L K"], size: int) -> Shaped[Array, "N B H size K"]:
    """The length in blocks to be walked over, the last one filled up with zeros."""
    return jnp.moveaxis(segments(x, size), 2, 0)
