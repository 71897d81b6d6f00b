"""Token by token: a causal model's answers at each place, from the states of its layers instead of the whole text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int, Int32

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Constant, named
from lra_bench.mixers.layers import sinusoids
from lra_bench.model import writing
from lra_bench.model.backbone import Model
from lra_bench.model.layers import Block
from lra_bench.model.spec import ModelSpec


class State(NamedTuple):
    """All that decoding keeps of the tokens so far."""

    layers: tuple[Any, ...]  # of each layer's mixer
    place: Int[Array, ""]  # of the next token


def refuse(model: Model) -> None:
    """Raises ConfigError: the model is not causal, a mixer does not decode, or its answers are not of single tokens."""
    backbone = model.backbone
    if not backbone.causal:
        raise ConfigError("backbone.causal: false; only a causal model decodes")
    if not model.everywhere or backbone.pool == "cls" or backbone.patch > 1:
        raise ConfigError("the model answers for a text, or for patches of it, and not after each token")
    mixers = [type(stack.mixer) for stack in model.stacks]
    fixed = next((mixer for mixer in mixers if not mixer.decodes()), None)
    if fixed:
        raise ConfigError(f"{named(fixed)} does not decode: its mixer has no init_state and step")


def init_state(model: Model, batch: int, length: int) -> State:
    """The state before the first token, with room for `length` of them.

    Raises:
        ConfigError: as `refuse` and `writing.refuse_longer`; or the model's positions end before that.
    """
    refuse(model)
    if model.backbone.positions in ("learned", "sinusoidal") and length > len(model.positions[...]):
        raise ConfigError(f"backbone.positions: {model.backbone.positions}; they end at {len(model.positions[...])}")
    writing.refuse_longer((stack.mixer for stack in model.stacks), length)
    layers = tuple(block.mixer.init_state(batch, length) for block in _blocks(model))
    return _apart(State(layers, jnp.zeros((), jnp.int32)))


def _apart(state: State) -> State:
    """Each part an array of its own, as `in_place` donates them; a mixer may have one for several parts."""
    known: set[int] = set()

    def own(leaf: Array) -> Array:
        if id(leaf) in known:
            return jnp.copy(leaf)
        known.add(id(leaf))
        return leaf

    return jax.tree.map(own, state)


def lengthen(model: Model, length: int) -> None:
    """Sinusoids for so many places, where the model has fewer: they are no parameters."""
    if model.backbone.positions == "sinusoidal" and length > len(model.positions[...]):
        model.positions = Constant(sinusoids(length, model.backbone.width))


def state_shapes(spec: ModelSpec, batch: int, length: int) -> State:
    """`init_state` of the model, with shapes for arrays: nothing is drawn.

    Raises:
        ConfigError: as `init_state`.
    """

    def made() -> State:
        model = spec(rngs=nnx.Rngs(0))
        assert isinstance(model, Model)
        return init_state(model, batch, length)

    return jax.eval_shape(made)


def step(model: Model, state: State, tokens: Int32[Array, " B"]) -> tuple[State, Float[Array, "B C"]]:
    """The state after one further token of each text, and the logits at its place."""
    state, logits = prefill(model, state, tokens[:, None])
    return state, logits[:, 0]


def prefill(model: Model, state: State, tokens: Int32[Array, "B N"]) -> tuple[State, Float[Array, "B N C"]]:
    """The same of the first N tokens, or of one further token."""
    x, _ = model.embed(tokens, jnp.ones(tokens.shape, bool))
    if model.backbone.positions in ("learned", "sinusoidal"):
        x = x + lax.dynamic_slice_in_dim(model.positions[...], state.place, tokens.shape[1])
    x, layers = x.astype(model.backbone.dtype), []
    for block, kept in zip(_blocks(model), state.layers, strict=True):
        kept, x = _extended(block, kept, x)
        layers.append(kept)
    logits = model.head(model.norm(x).astype(jnp.float32)[..., None, :])
    return State(tuple(layers), state.place + tokens.shape[1]), logits


def stepping(model: Model) -> tuple[Callable[[Any, State, Int32[Array, "B N"]], tuple[State, Array]], Any]:
    """`prefill` as a function of arrays, (weights, state, tokens) -> the state and the logits at the last place [B, C];
    and the model's weights."""
    return writing.by_arrays(model, prefill)


def in_place(step: Callable[..., tuple[Any, Array]]) -> Any:
    """Such a function, jitted, whose state is donated: what is added to it is written where it is, and nothing that is
    kept of earlier tokens is copied."""
    return jax.jit(step, donate_argnums=1)


def state_bytes(state: Any) -> int:
    """What the arrays of a state take, or would."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def bytes_of_a_text(spec: ModelSpec, length: int) -> int | None:
    """What the states of all layers would take after `length` tokens of one text, with what is kept of a source as
    long, where there is one; None: the model does not decode, as it has no state, or reads patches."""
    if spec.crosses:
        return writing.bytes_of_a_target(spec, length)
    if not spec.backbone.causal or spec.backbone.patch > 1 or not all(choice.mixer.decodes() for choice in spec.mixers):
        return None

    def made() -> list[Any]:
        model = spec(rngs=nnx.Rngs(0))
        assert isinstance(model, Model)
        return [block.mixer.init_state(1, length) for block in _blocks(model)]

    return state_bytes(jax.eval_shape(made))


def _blocks(model: Model) -> list[Block]:
    return [model.block(layer) for layer in range(model.backbone.layers)]


def _extended(block: Block, state: Any, x: Float[Array, "B N D"]) -> tuple[Any, Float[Array, "B N D"]]:
    h = block.before_mixer(x)
    if x.shape[1] == 1:
        state, y = block.mixer.step(state, h[:, 0])
        y = y[:, None]
    else:
        state, y = block.mixer.prefill(state, h)
    return state, block.after_mixer(x, y, (None,) * 3)
