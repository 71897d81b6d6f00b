"""The encoder-decoder that every cross form is put into (Vaswani et al., arXiv 1706.03762, section 3.1), pre-LN as the
backbone is (arXiv 2002.04745).

    encoder:  x + self(LN x), x + MLP(LN x)                                 N times over the source, then LN: the memory
    decoder:  y + self(LN y), y + cross(LN y, memory), y + MLP(LN y)        N times over the target, then LN and head

Source and target have one embedding; learned positions are each one's own, sinusoids are the same. `self` is the
model's mixer, in the decoder causal where the target grows, or full attention (`backbone.self_mixer`), beside which
the cross form alone differs, as in CAB (arXiv 2210.07661, section 3.1). There is no `cls`, and nothing is pooled:
answers are asked for at places of the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int32

from lra_bench.config import Backbone
from lra_bench.kernels.added import added
from lra_bench.mixers.base import CPU, Constant, Dims, Target
from lra_bench.mixers.layers import LayerNorm, sinusoids
from lra_bench.model.backbone import Asked, check, embedding, sizes
from lra_bench.model.embedding import Patches
from lra_bench.model.head import Head
from lra_bench.model.layers import UNCHANGED, Block, Choice, LayerGroup, Shape, layer_groups, thin


class DecoderBlock(Block):
    """y + self(LN y), then y + cross(LN y, memory), then y + MLP(LN y)."""

    def __init__(self, choice: Choice, backbone: Backbone, shape: Shape, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(choice, backbone, shape, dims, rngs=rngs)
        assert choice.reader is not None
        self.before_cross = LayerNorm(dims.width)
        self.cross = choice.reader.cross(choice.reader.options, replace(dims, rotary=False), rngs=rngs)

    def __call__(
        self, x: Float[Array, "B M D"], mask: Bool[Array, "B M"], *, key: jax.Array | None, **source: Array
    ) -> Float[Array, "B M D"]:
        """`source` is `memory`, [B, L, D], and `memory_mask`, [B, L]."""
        draw, reading, dropped, *keys = (None,) * 6 if key is None else jax.random.split(key, 6)
        there = mask[..., None].astype(x.dtype)
        x = x + thin(self.mixer(self.before_mixer(x), mask, key=draw) * there, dropped, self.rate)
        memory, memory_mask = source["memory"], source["memory_mask"]
        y = self.cross(self.before_cross(x), memory, mask, memory_mask, key=reading)
        return self.after_mixer(x, y * there, keys)


class Halves(nnx.Module):
    """The layers of the encoder and of the decoder, neighbors of one mixer stacked."""

    def __init__(self, encoder: Sequence[Block], decoder: Sequence[DecoderBlock]) -> None:
        self.encoder, self.decoder = nnx.List(encoder), nnx.List(decoder)


class EncoderDecoder(nnx.Module):
    """Tokens of a source and of a target to logits at the target's places.

    Raises:
        ConfigError: as `Model`, or a mixer has no cross form.
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
        D, patches = backbone.width, Patches(backbone.patch, None)
        plain = backbone.model_copy(update={"pool": "last", "causal": False})  # no `cls` in front
        dims = replace(sizes(plain, asked.length, None), target=target)
        check(mixers, backbone, asked, patches)
        self.backbone, self.growing, self.everywhere = backbone, asked.growing, True
        self.embed = embedding(backbone, asked, patches, rngs)
        self.positions: nnx.Variable[jax.Array]
        if backbone.positions == "learned":
            self.positions = nnx.Param(backbone.position_std * jax.random.normal(rngs.params(), (2, dims.length, D)))
        elif backbone.positions == "sinusoidal":
            self.positions = Constant(jnp.stack([sinusoids(dims.length, D)] * 2))
        self.encoder = _groups([one._replace(reader=None) for one in mixers], backbone, shape)
        self.decoder = _groups(mixers, backbone, shape)
        growing = replace(dims, causal=asked.growing)
        self.blocks = Halves(
            [group.drawn(backbone, shape, dims, rngs, Block) for group in self.encoder],
            [group.drawn(backbone, shape, growing, rngs, DecoderBlock) for group in self.decoder],
        )
        self.memory_norm, self.norm = LayerNorm(D), LayerNorm(D)
        self.head = Head(D, backbone.mlp, asked.classes, 1, asked.interaction, rngs=rngs)

    def __call__(
        self,
        tokens: Int32[Array, "B 2 L"],
        mask: Bool[Array, "B 2 L"],
        *,
        key: jax.Array | None,
        states: list[Array] | None = None,
        places: Int32[Array, "B K"] | None = None,
    ) -> Float[Array, "B L C"]:
        """`key` draws the dropout; None at evaluation. Logits [B, K, C] at `places` of the target, where some are
        given. `states` takes the target's vectors before the decoder's first layer and after each, [B, L, D]."""
        reading, writing = (None, None) if key is None else jax.random.split(key)
        memory = self.encode(tokens[:, 0], mask[:, 0], key=reading)
        x = self.decode(tokens[:, 1], mask[:, 1], memory, mask[:, 0], key=writing, states=states)
        x = x if places is None else jnp.take_along_axis(x, places[..., None], axis=1)
        return self.answer(x)

    def encode(
        self, tokens: Int32[Array, "B L"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        """The memory of a source."""
        x, rest = self.embedded(tokens, mask, 0, key)
        x = self._through(self.encoder, list(self.blocks.encoder), x, mask, key=rest)
        return self.memory_norm(x)

    def decode(
        self,
        tokens: Int32[Array, "B M"],
        mask: Bool[Array, "B M"],
        memory: Float[Array, "B L D"],
        memory_mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
        states: list[Array] | None = None,
    ) -> Float[Array, "B M D"]:
        """The last layer's vectors of a target, before the last norm."""
        x, rest = self.embedded(tokens, mask, 1, key)
        if states is not None:
            states.append(x)
        stacks, source = list(self.blocks.decoder), {"memory": memory, "memory_mask": memory_mask}
        return self._through(self.decoder, stacks, x, mask, key=rest, states=states, **source)

    def embedded(
        self,
        tokens: Int32[Array, "B L"],
        mask: Bool[Array, "B L"],
        stream: int,
        key: jax.Array | None,
        first: Array | int = 0,
    ) -> tuple[Float[Array, "B L D"], jax.Array | None]:
        """Vectors of tokens of the source, stream 0, or of the target, 1, that stand from the place `first` on; and
        what of the key is left."""
        drop, rest = (None, None) if key is None else jax.random.split(key)
        x, _ = self.embed(tokens, mask)
        if self.backbone.positions in ("learned", "sinusoidal"):
            x = added(x, jax.lax.dynamic_slice_in_dim(self.positions[stream], first, x.shape[1]))
        return thin(x, drop, self.backbone.dropout).astype(self.backbone.dtype), rest

    def answer(self, x: Float[Array, "B M D"]) -> Float[Array, "B M C"]:
        """The logits of the last layer's vectors."""
        return self.head(self.norm(x).astype(jnp.float32)[..., None, :])

    @property
    def stacks(self) -> list[Block]:
        """The layers, the encoder's first, neighbors of one mixer stacked."""
        return [*self.blocks.encoder, *self.blocks.decoder]

    @property
    def impl(self) -> str:
        """The kernels that the mixers and the cross forms go through."""
        own, cross = [stack.mixer.impl for stack in self.stacks], [stack.cross.impl for stack in self.blocks.decoder]
        return "+".join(dict.fromkeys([*own, *cross]))

    def _through(
        self,
        groups: Sequence[LayerGroup],
        stacks: Sequence[Block],
        x: Float[Array, "B L D"],
        mask: Bool[Array, "B L"],
        *,
        key: jax.Array | None,
        states: list[Array] | None = None,
        **source: Array,
    ) -> Float[Array, "B L D"]:
        """The N layers of a half, one stack after another."""
        keys, first = None if key is None else jax.random.split(key, self.backbone.layers), 0
        for group, stack in zip(groups, stacks, strict=True):
            own = None if keys is None else keys[first : first + group.layers]
            x = group(stack, x, mask, keys=own, remat=self.backbone.remat, states=states, **source)
            first += group.layers
        return x


def _groups(mixers: Sequence[Choice], backbone: Backbone, shape: Shape) -> tuple[LayerGroup, ...]:
    return tuple(layer_groups(mixers, backbone.layers, shape.shared))
