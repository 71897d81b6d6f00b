"""Place by place: an encoder-decoder's answers at places of a growing target, from what is kept of the source and the
states of its layers, in place of source and target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Int32

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import MixerBase, named
from lra_bench.model.encoder_decoder import DecoderBlock, EncoderDecoder
from lra_bench.model.spec import ModelSpec

STACKED = nnx.All(nnx.PathContains("blocks"), nnx.Not(nnx.PathContains("encoder")))  # all layers that decode

M = TypeVar("M", bound=nnx.Module)
S = TypeVar("S")


class State(NamedTuple):
    """All that is kept of a source, and of the places of its target so far."""

    sources: tuple[Any, ...]  # of each layer of the decoder, what its cross form keeps
    layers: tuple[Any, ...]  # of each, the state of its mixer
    place: Int[Array, ""]  # the next one


def refuse(model: EncoderDecoder) -> None:
    """Raises ConfigError: the target does not grow, or a layer of the decoder has no state to go on from."""
    if not model.growing:
        raise ConfigError("target: whole; only a target that grows is written place by place")
    for stack in model.blocks.decoder:
        for part, what in (
            (stack.mixer, "mixer has no init_state and step"),
            (stack.cross, "cross form keeps nothing"),
        ):
            if not part.decodes():
                raise ConfigError(f"{named(type(part))} does not decode: its {what}")


def refuse_longer(mixers: Iterable[MixerBase], length: int) -> None:
    """Raises ConfigError: so many tokens are more than a mixer knows of."""
    for mixer in mixers:
        if mixer.longest is not None and length > mixer.longest:
            raise ConfigError(
                f"{named(type(mixer))}: a text of {length:,} symbols; the model was made for {mixer.longest:,} at most"
            )


def init_state(model: EncoderDecoder, tokens: Int32[Array, "B L"], mask: Bool[Array, "B L"], length: int) -> State:
    """The state before a target's first place, with room for `length` of them; the source is encoded once.

    Raises:
        ConfigError: as `refuse` and `refuse_longer`; or the model's positions end before that.
    """
    refuse(model)
    if model.backbone.positions in ("learned", "sinusoidal") and length > model.positions.shape[1]:
        raise ConfigError(f"backbone.positions: {model.backbone.positions}; they end at {model.positions.shape[1]}")
    blocks = _blocks(model)
    refuse_longer((block.mixer for block in blocks), length)
    memory = model.encode(tokens, mask, key=None)
    sources = tuple(block.cross.init_memory(memory, mask) for block in blocks)
    layers = tuple(block.mixer.init_state(len(tokens), length) for block in blocks)
    return State(sources, layers, jnp.zeros((), jnp.int32))


def prefill(model: EncoderDecoder, state: State, tokens: Int32[Array, "B N"]) -> tuple[State, Float[Array, "B N C"]]:
    """The state after the first N places of each target, or after one further place, and the logits there."""
    x, _ = model.embedded(tokens, jnp.ones(tokens.shape, bool), 1, None, state.place)
    i, layers = state.place + jnp.arange(tokens.shape[1]), []
    for block, kept, own in zip(_blocks(model), state.sources, state.layers, strict=True):
        own, x = _extended(block, kept, own, x, i)
        layers.append(own)
    return State(state.sources, tuple(layers), state.place + tokens.shape[1]), model.answer(x)


def step(model: EncoderDecoder, state: State, tokens: Int32[Array, " B"]) -> tuple[State, Float[Array, "B C"]]:
    """The same of one further place."""
    state, logits = prefill(model, state, tokens[:, None])
    return state, logits[:, 0]


def stepping(
    model: EncoderDecoder,
) -> tuple[Callable[[Any, State, Int32[Array, "B N"]], tuple[State, Array]], Any]:
    """`prefill` as a function of arrays, and the model's weights."""
    return by_arrays(model, prefill)


def by_arrays(
    model: M, prefill: Callable[[M, S, Int32[Array, "B N"]], tuple[S, Array]]
) -> tuple[Callable[[Any, S, Int32[Array, "B N"]], tuple[S, Array]], Any]:
    """A model's prefill as a function of arrays, (weights, state, tokens) -> the state and the logits at the last place
    [B, C]; and the model's weights, each layer's apart: of weights that come stacked, every call copies each layer's
    before it multiplies by them; of those that it stacks itself, XLA takes the layer's own. They are arrays of their
    own beside the model's. In other dtypes than the weights' a call casts them, which copies them."""
    graph, *parts = nnx.split(model, STACKED, ...)
    leaves, tree = jax.tree.flatten(parts[0])

    def step(weights: Any, state: S, tokens: Int32[Array, "B N"]) -> tuple[S, Array]:
        apart, others = weights
        stacked = jax.tree.unflatten(tree, [jnp.stack(rows) for rows in apart])
        state, logits = prefill(nnx.merge(graph, stacked, others), state, tokens)
        return state, logits[:, -1]

    return step, ([_rows(leaf) for leaf in leaves], parts[1])


def _rows(leaf: Any) -> tuple[Any, ...]:
    """Along the first axis; of a shape, shapes."""
    return jax.eval_shape(tuple, leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else tuple(leaf)


def _extended(
    block: DecoderBlock, kept: Any, own: Any, x: Float[Array, "B N D"], i: Int[Array, " N"]
) -> tuple[Any, Float[Array, "B N D"]]:
    h = block.before_mixer(x)
    if x.shape[1] == 1:
        own, y = block.mixer.step(own, h[:, 0])
        y = y[:, None]
    else:
        own, y = block.mixer.prefill(own, h)
    x = x + y
    return own, block.after_mixer(x, block.cross.read(kept, block.before_cross(x), i), (None,) * 3)


def _blocks(model: EncoderDecoder) -> list[DecoderBlock]:
    """The layers of the decoder, one by one."""
    stacks = zip(model.decoder, model.blocks.decoder, strict=True)
    return [group.block(stack, layer) for group, stack in stacks for layer in range(group.layers)]


def bytes_of_a_target(spec: ModelSpec, length: int) -> int | None:
    """What the state would take after `length` places of one target, of a source as long; None: it does not decode."""

    def made() -> State:
        tokens = jnp.ones((1, length), jnp.int32)
        model = spec(rngs=nnx.Rngs(0))
        assert isinstance(model, EncoderDecoder)
        return init_state(model, tokens, tokens > 0, length)

    try:
        leaves = jax.tree.leaves(jax.eval_shape(made))
    except ConfigError:
        return None
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
