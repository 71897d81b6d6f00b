"""The trunk that every mixer is put into: embed -> N x (mixer, MLP) -> masked pool -> head.

LRA's encoder (arXiv 2011.04006): pre-LN blocks (arXiv 2002.04745) and a last LayerNorm, no dropout inside a mixer.
The N layers' parameters are stacked; a deep trunk scans over them, so that its depth costs no compile time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from lra_bench.config import Trunk
from lra_bench.errors import ConfigError
from lra_bench.kernels.dropout import dropout
from lra_bench.mixers.base import Constant, Dims, MixerBase
from lra_bench.mixers.layers import Dense, LayerNorm

UNROLLED = 2  # layers; on a CPU a scan copies whatever it keeps: 1.25 times the time and the memory
gelu = jax.checkpoint(jax.nn.gelu)  # its argument is kept for the backward pass, not its five intermediate arrays


@dataclass(frozen=True)
class Shape:
    """What levers change of the trunk; as it stands, nothing."""

    shared: int | None = None  # sets of parameters, for neighbouring layers (ALBERT, arXiv 1909.11942, section 3.1)
    bottleneck: int = 0  # width of the adapters
    mlp: int | None = None  # neurons that are left of each block's MLP
    room: int | None = None  # vectors that a text is filled up to, for texts of other tasks; their mixer sees no grid


class Adapter(nnx.Module):
    """x + W_up gelu(W_down x), which is x before it is trained (Houlsby et al., arXiv 1902.00751, section 2.1)."""

    def __init__(self, width: int, bottleneck: int, *, rngs: nnx.Rngs) -> None:
        self.down, self.up = Dense(width, bottleneck, rngs=rngs), Dense(bottleneck, width, rngs=rngs)
        self.up.kernel[...] = jnp.zeros((bottleneck, width))

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return x + self.up(gelu(self.down(x)))


class Block(nnx.Module):
    """x + mixer(LN x), then x + MLP(LN x); each through an adapter of its own, where a bottleneck is asked for."""

    def __init__(
        self, mixer: type[MixerBase], knobs: Any, trunk: Trunk, shape: Shape, dims: Dims, *, rngs: nnx.Rngs
    ) -> None:
        self.rate = trunk.dropout
        self.before_mixer, self.before_mlp = LayerNorm(dims.width), LayerNorm(dims.width)
        self.mixer = mixer(knobs, dims, rngs=rngs)
        hidden = trunk.mlp if shape.mlp is None else shape.mlp
        self.up = Dense(dims.width, hidden, rngs=rngs)
        self.down = Dense(hidden, dims.width, rngs=rngs)
        self.adapted = shape.bottleneck > 0
        if self.adapted:
            self.adapters = nnx.List([Adapter(dims.width, shape.bottleneck, rngs=rngs) for _ in range(2)])

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        draw, *keys = (None,) * 4 if key is None else jax.random.split(key, 4)
        y = self.mixer(self.before_mixer(x), mask, key=draw) * mask[..., None].astype(x.dtype)
        x = x + thin(self.adapters[0](y) if self.adapted else y, keys[0], self.rate)
        h = thin(gelu(self.up(self.before_mlp(x))), keys[1], self.rate)
        y = self.down(h)
        return x + thin(self.adapters[1](y) if self.adapted else y, keys[2], self.rate)


@dataclass(frozen=True)
class Patches:
    """What a vector stands for: `size` neighbours in a text, or size x size pixels of an image (ViT, arXiv
    2010.11929, equation 1)."""

    size: int
    grid: tuple[int, int] | None

    @property
    def places(self) -> int:
        """Symbols of a patch."""
        return self.size**2 if self.grid else self.size

    def cut(self, x: Array) -> Array:
        """[B, L] as patches, [B, N, places]."""
        p = self.size
        if self.grid is None:
            return jnp.pad(x, ((0, 0), (0, -x.shape[1] % p))).reshape(x.shape[0], -1, p)
        rows, cols = self.grid
        return x.reshape(-1, rows // p, p, cols // p, p).swapaxes(2, 3).reshape(x.shape[0], -1, p * p)


class Embedding(nnx.Module):
    """Symbols to vectors, N(0, 1) as in LRA: beside sinusoids, whose entries are as large.

    A patch of several symbols is the linear projection of them, one-hot, side by side, which is a table for each place
    in the patch. A place that is padding adds nothing; a patch is there if any of its places is.
    """

    def __init__(self, vocab: int, width: int, patches: Patches, *, rngs: nnx.Rngs) -> None:
        self.patches, self.vocab = patches, vocab
        places = patches.places
        self.table = nnx.Param(jax.random.normal(rngs.params(), (places * vocab, width)) * places**-0.5)

    def __call__(
        self, tokens: Int32[Array, "B L"], mask: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B N D"], Bool[Array, "B N"]]:
        if self.patches.places == 1:
            return self.table[tokens], mask
        tokens, mask = self.patches.cut(tokens), self.patches.cut(mask)
        parts = self.table[tokens + self.vocab * jnp.arange(tokens.shape[-1])] * mask[..., None]
        return parts.sum(2), mask.any(-1)


class Projection(nnx.Module):
    """The numbers that symbols stand for, `values` [V, F], to vectors: those of a patch side by side, projected.

    Padding's numbers are 0; a patch is there if any of its places is.
    """

    def __init__(self, values: np.ndarray, width: int, patches: Patches, *, rngs: nnx.Rngs) -> None:
        self.patches = patches
        self.values = Constant(jnp.asarray(values))
        self.project = Dense(patches.places * values.shape[1], width, rngs=rngs)

    def __call__(
        self, tokens: Int32[Array, "B L"], mask: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B N D"], Bool[Array, "B N"]]:
        tokens, mask = self.patches.cut(tokens), self.patches.cut(mask)
        numbers = self.values[tokens] * mask[..., None]
        return self.project(numbers.reshape(*tokens.shape[:2], -1)), mask.any(-1)


class Head(nnx.Module):
    """Vectors to logits, through one hidden layer; through two, the second half as wide, where two streams are
    only put side by side, as in LRA's code (lra_benchmarks/models/layers/common_layers.py, classifier_head_dual).
    """

    def __init__(self, width: int, hidden: int, out: int, streams: int, interaction: str, *, rngs: nnx.Rngs) -> None:
        self.nli = interaction == "nli"
        wide = width * (1 if streams == 1 else 4 if self.nli else 2)
        self.hidden = Dense(wide, hidden, rngs=rngs)
        narrow = streams == 2 and not self.nli
        self.second = Dense(hidden, hidden // 2, rngs=rngs) if narrow else None
        self.logits = Dense(hidden // 2 if narrow else hidden, out, rngs=rngs)

    def __call__(self, x: Float[Array, "... S D"]) -> Float[Array, "... C"]:
        h = jax.nn.relu(self.hidden(self._joined(x)))
        return self.logits(h if self.second is None else jax.nn.relu(self.second(h)))

    def _joined(self, x: Float[Array, "... S D"]) -> Float[Array, "... E"]:
        if x.shape[-2] == 1:
            return x[..., 0, :]
        a, b = x[..., 0, :], x[..., 1, :]
        return jnp.concatenate([a, b, a * b, a - b] if self.nli else [a, b], axis=-1)


@dataclass(frozen=True)
class Asked:
    """What a task asks of a model."""

    vocab: int  # symbols, padding among them
    length: int  # L
    classes: int  # C: logits of an answer
    streams: int = 1  # S
    interaction: str = "nli"  # of two streams
    grid: tuple[int, int] | None = None  # rows and columns of an image
    everywhere: bool = False  # an answer at each symbol
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
        mixer: type[MixerBase],
        knobs: Any,
        trunk: Trunk,
        asked: Asked,
        shape: Shape = Shape(),
        *,
        rngs: nnx.Rngs,
    ) -> None:
        D, patches = trunk.width, Patches(trunk.patch, asked.grid)
        dims = sizes(trunk, asked.length, asked.grid)
        if dims.rotary and not mixer.turns:
            raise ConfigError(
                "trunk.positions: rotary turns queries and keys of tokens, and this mixer has none to turn"
            )
        if asked.everywhere and (patches.places > 1 or asked.streams > 1):
            raise ConfigError(
                "trunk.patch: an answer is asked for at each symbol, and a vector would stand for several"
            )
        if shape.room is not None:
            dims = replace(dims, length=shape.room, grid=None)
        self.trunk, self.everywhere, self.room = trunk, asked.everywhere, shape.room
        self.embed: Embedding | Projection
        if trunk.input == "symbols":
            self.embed = Embedding(asked.vocab, D, patches, rngs=rngs)
        elif asked.values is None:
            raise ConfigError("trunk.input: values: the symbols of this task stand for no numbers")
        else:
            self.embed = Projection(asked.values, D, patches, rngs=rngs)
        if trunk.pool == "cls":
            self.cls = nnx.Param(jnp.zeros(D))
        self.positions: nnx.Variable[jax.Array]
        if trunk.positions == "learned":
            self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (dims.length, D)))
        elif trunk.positions == "sinusoidal":
            self.positions = Constant(sinusoids(dims.length, D))
        self.set_of = sets(trunk.layers, shape.shared)
        make = nnx.vmap(lambda rngs: Block(mixer, knobs, trunk, shape, dims, rngs=rngs))
        self.blocks = nnx.split_rngs(splits=shape.shared or trunk.layers)(make)(rngs)
        self.norm = LayerNorm(D)
        self.head = Head(D, trunk.mlp, asked.classes, asked.streams, asked.interaction, rngs=rngs)

    def __call__(
        self,
        tokens: Int32[Array, "B S L"],
        mask: Bool[Array, "B S L"],
        *,
        key: jax.Array | None,
        states: list[Array] | None = None,
    ) -> Float[Array, "B *L C"]:
        """`key` draws the dropout; None at evaluation. [B, C], or [B, L, C] where an answer is asked for everywhere.

        `states` takes the vectors before the first layer and after each, [B S, N, D].
        """
        B, S, L = tokens.shape
        tokens, mask = tokens.reshape(B * S, L), mask.reshape(B * S, L)
        if self.everywhere:
            x, _ = self.vectors(tokens, mask, key=key, states=states)
            return self.head(self.norm(self.of_text(x, L)).astype(jnp.float32)[..., None, :])
        return self.head(self.encode(tokens, mask, key=key, states=states).reshape(B, S, -1))

    def encode(
        self,
        tokens: Int32[Array, "B L"],
        mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
        states: list[Array] | None = None,
    ) -> Float[Array, "B D"]:
        """One vector a text, float32: the learned one's place, or the mean over true tokens."""
        x, mask = self.vectors(tokens, mask, key=key, states=states)
        if self.trunk.pool == "cls":
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
        if self.trunk.pool == "cls":
            x = jnp.concatenate([jnp.broadcast_to(self.cls[...], (x.shape[0], 1, x.shape[-1])), x], axis=1)
            mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        first, rest = (None, None) if key is None else jax.random.split(key)
        if self.trunk.positions in ("learned", "sinusoidal"):
            x = x + self.positions[: x.shape[1]]
        x = thin(x, first, self.trunk.dropout).astype(self.trunk.dtype)
        x, mask = filled(x, self.room), filled(mask, self.room)
        return self.layers(x, mask, key=rest, states=states), mask

    def of_text(self, x: Float[Array, "B N D"], length: int) -> Float[Array, "B L D"]:
        """The vectors of a text of `length`, without a place of the model's own and what fills them up."""
        first = int(self.trunk.pool == "cls")
        return x[:, first : first + length]

    def there(self, tokens: Int32[Array, "B S L"], mask: Bool[Array, "B S L"]) -> Bool[Array, "B N"]:
        """Which of the vectors between the layers are there, streams as texts."""
        B, S, L = tokens.shape
        _, mask = self.embed(tokens.reshape(B * S, L), mask.reshape(B * S, L))
        return filled(jnp.pad(mask, ((0, 0), (int(self.trunk.pool == "cls"), 0)), constant_values=True), self.room)

    def block(self, layer: int) -> Block:
        """A layer alone, from 0 up."""
        graph, stacked = nnx.split(self.blocks)
        mine = layer if self.set_of is None else self.set_of[layer]
        return nnx.merge(graph, jax.tree.map(lambda leaf: leaf[mine], stacked))

    def layers(
        self,
        x: Float[Array, "B L D"],
        mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
        states: list[Array] | None = None,
    ) -> Float[Array, "B L D"]:
        """The N blocks: side by side where they are few, else one compiled body."""
        graph, stacked = nnx.split(self.blocks)
        if self.set_of is not None:
            stacked = jax.tree.map(lambda leaf: leaf[np.array(self.set_of)], stacked)
        keys = None if key is None else jax.random.split(key, self.trunk.layers)

        def step(x: Array, layer: Any) -> tuple[Array, Any]:
            values, key = layer
            block = nnx.merge(graph, values, copy=True)
            y = block(x, mask, key=key)
            return y, (nnx.state(block, nnx.Not(nnx.Param)), None if states is None else y)

        step = jax.checkpoint(step) if self.trunk.remat else step
        first = x
        if self.trunk.layers > UNROLLED:
            x, (rest, seen) = lax.scan(step, x, (stacked, keys))
        else:
            each = []
            for i in range(self.trunk.layers):
                x, kept = step(x, jax.tree.map(lambda leaf, i=i: leaf[i], (stacked, keys)))
                each.append(kept)
            rest, seen = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        if states is not None:
            states += [first, *seen]
        if key is not None and self.set_of is not None:
            last = np.searchsorted(self.set_of, np.unique(self.set_of), side="right") - 1
            rest = jax.tree.map(lambda leaf: leaf[last], rest)
        if key is not None:
            nnx.update(self.blocks, rest)
        return x


def filled(x: Array, room: int | None) -> Array:
    """[B, N, ...] with zeros up to `room` in place of N; None: as it is."""
    return x if room is None else jnp.pad(x, ((0, 0), (0, room - x.shape[1]), *[(0, 0)] * (x.ndim - 2)))


def sets(layers: int, shared: int | None) -> tuple[int, ...] | None:
    """Of each layer, which of `shared` sets of parameters it has, neighbours alike; None: each its own.

    Raises:
        ConfigError: there are fewer layers than that.
    """
    if shared is None or shared == layers:
        return None
    if shared > layers:
        raise ConfigError(f"share.groups: {shared} sets of parameters for {layers} layers")
    return tuple(layer * shared // layers for layer in range(layers))


def sizes(trunk: Trunk, length: int, grid: tuple[int, int] | None) -> Dims:
    """What a mixer is told, for texts of `length` symbols or images of `grid` pixels.

    Raises:
        ConfigError: the patches do not fill the image.
    """
    p = trunk.patch
    if grid is not None and (grid[0] % p or grid[1] % p):
        raise ConfigError(f"trunk.patch: {p} x {p} pixels do not fill an image of {grid[0]} x {grid[1]}")
    cells = (grid[0] // p, grid[1] // p) if grid else None
    tokens = cells[0] * cells[1] if cells else -(-length // p)
    joint = trunk.qkv or trunk.width
    return Dims(
        width=trunk.width,
        heads=trunk.heads,
        head_width=joint // trunk.heads,
        length=tokens + (trunk.pool == "cls"),
        grid=cells,
        rotary=trunk.positions == "rotary",
    )


def thin(x: Float[Array, "..."], key: jax.Array | None, rate: float) -> Float[Array, "..."]:
    """Dropout in training, nothing at evaluation."""
    return x if key is None or rate == 0 else dropout(x, key, rate)


def sinusoids(length: int, width: int) -> Float[Array, "L D"]:
    """sin and cos of position / 10000^(2i / D), interleaved (arXiv 1706.03762, section 3.5)."""
    angle = np.arange(length)[:, None] * np.exp(np.arange(0, width, 2) * (-np.log(10000.0) / width))
    return jnp.asarray(np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)[:, :width], jnp.float32)
