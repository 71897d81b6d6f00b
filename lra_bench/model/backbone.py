"""The backbone that every mixer is put into: embed -> N x (mixer, MLP) -> masked pool -> head.

LRA's encoder (arXiv 2011.04006): pre-LN blocks (arXiv 2002.04745) and a last LayerNorm, no dropout inside a mixer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int32

from lra_bench.config import CROSS, Backbone
from lra_bench.errors import ConfigError
from lra_bench.kernels.added import added
from lra_bench.mixers.base import CPU, Constant, Dims, Target, named
from lra_bench.mixers.layers import LayerNorm, sinusoids
from lra_bench.model.embedding import Embedding, Patches, Projection
from lra_bench.model.head import Head
from lra_bench.model.layers import UNCHANGED, Block, Choice, Shape, layer_groups, thin


@dataclass(frozen=True)
class Asked:
    """What a task asks of a model."""

    vocab: int  # symbols, padding among them
    length: int  # L
    classes: int  # C: logits of an answer
    streams: int = 1  # S
    interaction: str = "nli"  # of two streams
    growing: bool = False  # of a target that reads a source: a place sees none after it
    grid: tuple[int, int] | None = None  # rows and columns of an image
    everywhere: bool = False  # an answer at each symbol
    answers: int = 1  # that are read from a text's vector: L, where they are of its places and yet not read there
    values: np.ndarray | None = None  # the numbers that each symbol stands for, float32 [V, F]


class Model(nnx.Module):
    """Tokens to logits.

    Raises:
        ConfigError: the patches do not fill the image, rotary positions are asked of a mixer that cannot turn, numbers
            of symbols that stand for none, an answer at each symbol of a model whose vectors stand for several, or
            more sets of parameters than layers.
    """

    def __init__(
        self,
        mixers: Sequence[Choice],
        backbone: Backbone,
        asked: Asked,
        shape: Shape = UNCHANGED,
        target: Target = CPU,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        D, patches = backbone.width, Patches(backbone.patch, asked.grid)
        dims = replace(sizes(backbone, asked.length, asked.grid), target=target)
        check(mixers, backbone, asked, patches)
        if shape.room is not None:
            dims = replace(dims, length=shape.room, grid=None)
        self.backbone, self.everywhere, self.room = backbone, asked.everywhere, shape.room
        self.embed = embedding(backbone, asked, patches, rngs)
        if backbone.pool == "cls":
            self.cls = nnx.Param(jnp.zeros(D))
        self.positions: nnx.Variable[jax.Array]
        if backbone.positions == "learned":
            self.positions = nnx.Param(backbone.position_std * jax.random.normal(rngs.params(), (dims.length, D)))
        elif backbone.positions == "sinusoidal":
            self.positions = Constant(sinusoids(dims.length, D))
        self.runs = tuple(layer_groups(mixers, backbone.layers, shape.shared))
        drawn = [run.drawn(backbone, shape, dims, rngs, Block) for run in self.runs]
        self.blocks: Block | nnx.List[Block] = drawn[0] if len(drawn) == 1 else nnx.List(drawn)
        self.norm = LayerNorm(D)
        out = asked.classes * asked.answers
        self.head, self.answers = Head(D, backbone.mlp, out, asked.streams, asked.interaction, rngs=rngs), asked.answers

    def __call__(
        self,
        tokens: Int32[Array, "B S L"],
        mask: Bool[Array, "B S L"],
        *,
        key: jax.Array | None,
        states: list[Array] | None = None,
        places: Int32[Array, "B K"] | None = None,
    ) -> Float[Array, "B *L C"]:
        """`key` draws the dropout; None at evaluation. [B, C], or [B, L, C] where an answer is asked for everywhere;
        of such a model [B, K, C] at `places`, where some are given: nothing else goes through norm and head.

        `states` takes the vectors before the first layer and after each, [B S, N, D].
        """
        B, S, L = tokens.shape
        tokens, mask = tokens.reshape(B * S, L), mask.reshape(B * S, L)
        if self.everywhere:
            x, _ = self.vectors(tokens, mask, key=key, states=states)
            x = self.of_text(x, L)
            x = x if places is None else jnp.take_along_axis(x, places[..., None], axis=1)
            return self.head(self.norm(x).astype(jnp.float32)[..., None, :])
        answers = self.head(self.encode(tokens, mask, key=key, states=states).reshape(B, S, -1))
        return answers if self.answers == 1 else answers.reshape(B, self.answers, -1)

    def encode(
        self,
        tokens: Int32[Array, "B L"],
        mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
        states: list[Array] | None = None,
    ) -> Float[Array, "B D"]:
        """One vector a text, float32: the learned one's place, the last true token's, or the mean over true tokens."""
        x, mask = self.vectors(tokens, mask, key=key, states=states)
        if self.backbone.pool == "last":
            last = jnp.max(jnp.where(mask, jnp.arange(mask.shape[1]), 0), axis=1)
            return self.norm(jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0].astype(jnp.float32))
        if self.backbone.pool == "cls":
            return self.norm(x[:, 0].astype(jnp.float32))
        there = mask[..., None].astype(jnp.float32)
        return (self.norm(x).astype(jnp.float32) * there).sum(1) / jnp.maximum(there.sum(1), 1)

    def vectors(
        self,
        tokens: Int32[Array, "B L"],
        mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
        nudge: Float[Array, "B N D"] | float = 0.0,
        states: list[Array] | None = None,
    ) -> tuple[Float[Array, "B N D"], Bool[Array, "B N"]]:
        """The last layer's vectors, before the last norm, and which of them are there; embeddings moved by `nudge`."""
        x, mask = self.embed(tokens, mask)
        x = x if isinstance(nudge, float) else x + nudge
        if self.backbone.pool == "cls":
            x = jnp.concatenate([jnp.broadcast_to(self.cls[...], (x.shape[0], 1, x.shape[-1])), x], axis=1)
            mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        first, rest = (None, None) if key is None else jax.random.split(key)
        if self.backbone.positions in ("learned", "sinusoidal"):
            x = added(x, self.positions[: x.shape[1]])
        x = thin(x, first, self.backbone.dropout).astype(self.backbone.dtype)
        x, mask = filled(x, self.room), filled(mask, self.room)
        return self.layers(x, mask, key=rest, states=states), mask

    def of_text(self, x: Float[Array, "B N D"], length: int) -> Float[Array, "B L D"]:
        """The vectors of a text of `length`, without a place of the model's own and what fills them up."""
        first = int(self.backbone.pool == "cls")
        return x[:, first : first + length]

    def there(self, tokens: Int32[Array, "B S L"], mask: Bool[Array, "B S L"]) -> Bool[Array, "B N"]:
        """Which of the vectors between the layers are there, streams as texts."""
        B, S, L = tokens.shape
        _, mask = self.embed(tokens.reshape(B * S, L), mask.reshape(B * S, L))
        return filled(jnp.pad(mask, ((0, 0), (int(self.backbone.pool == "cls"), 0)), constant_values=True), self.room)

    @property
    def stacks(self) -> list[Block]:
        """The layers, neighbors of one mixer stacked."""
        return [self.blocks] if isinstance(self.blocks, Block) else list(self.blocks)

    @property
    def impl(self) -> str:
        """The kernels that the mixers go through."""
        return "+".join(dict.fromkeys(stack.mixer.impl for stack in self.stacks))

    def block(self, layer: int) -> Block:
        """A layer alone, from 0 up."""
        for run, stack in zip(self.runs, self.stacks, strict=True):
            if layer < run.layers:
                return run.block(stack, layer)
            layer -= run.layers
        raise IndexError(layer)

    def layers(
        self,
        x: Float[Array, "B L D"],
        mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
        states: list[Array] | None = None,
    ) -> Float[Array, "B L D"]:
        """The N layers, one stack after another."""
        keys = None if key is None else jax.random.split(key, self.backbone.layers)
        first = 0
        if states is not None:
            states.append(x)
        for run, stack in zip(self.runs, self.stacks, strict=True):
            own = None if keys is None else keys[first : first + run.layers]
            x = run(stack, x, mask, keys=own, remat=self.backbone.remat, states=states)
            first += run.layers
        return x


def check(mixers: Sequence[Choice], backbone: Backbone, asked: Asked, patches: Patches) -> None:
    """Raises ConfigError: as `Model`."""
    fixed = next((choice.mixer for choice in mixers if not choice.mixer.turns), None)
    if backbone.positions == "rotary" and fixed:
        raise ConfigError(
            f"backbone.positions: rotary: {named(fixed)} has no queries and keys to turn, or labels distances itself"
        )
    if asked.everywhere and (patches.places > 1 or (asked.streams > 1 and asked.interaction != CROSS)):
        raise ConfigError("backbone.patch: an answer is asked for at each symbol, and a vector would stand for several")
    if backbone.input == "values" and asked.values is None:
        raise ConfigError("backbone.input: values: the symbols of this task stand for no numbers")


def embedding(backbone: Backbone, asked: Asked, patches: Patches, rngs: nnx.Rngs) -> Embedding | Projection:
    """Of the task's symbols, or of the numbers that they stand for."""
    if backbone.input == "symbols":
        return Embedding(asked.vocab, backbone.width, patches, backbone.embedding_std, rngs=rngs)
    assert asked.values is not None
    return Projection(asked.values, backbone.width, patches, rngs=rngs)


def filled(x: Array, room: int | None) -> Array:
    """[B, N, ...] with zeros up to `room` in place of N; None: as it is."""
    return x if room is None else jnp.pad(x, ((0, 0), (0, room - x.shape[1]), *[(0, 0)] * (x.ndim - 2)))


def sizes(backbone: Backbone, length: int, grid: tuple[int, int] | None) -> Dims:
    """What a mixer is told, for texts of `length` symbols or images of `grid` pixels.

    Raises:
        ConfigError: the patches do not fill the image.
    """
    p = backbone.patch
    if grid is not None and (grid[0] % p or grid[1] % p):
        raise ConfigError(f"backbone.patch: {p} x {p} pixels do not fill an image of {grid[0]} x {grid[1]}")
    cells = (grid[0] // p, grid[1] // p) if grid else None
    tokens = cells[0] * cells[1] if cells else -(-length // p)
    joint = backbone.qkv or backbone.width
    return Dims(
        width=backbone.width,
        heads=backbone.heads,
        head_width=joint // backbone.heads,
        length=tokens + (backbone.pool == "cls"),
        grid=cells,
        rotary=backbone.positions == "rotary",
        dtype=backbone.dtype,
        causal=backbone.causal,
    )
