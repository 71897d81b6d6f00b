"""What an encoder-decoder writes for a source when it takes the likeliest symbol each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int32

from lra_bench.errors import ConfigError
from lra_bench.model import EncoderDecoder, writing
from lra_bench.training.setup import TrainingSetup
from lra_bench.training.step import cast

BROKEN = -1  # in place of a symbol whose logits are not finite

After = Callable[[Any, Int32[Array, "B"]], tuple[Any, Float[Array, "B C"]]]
"""The state after one further symbol of each text, and the logits of the next one."""


def greedy(graph: nnx.GraphDef[Any], setup: TrainingSetup, end: int) -> Callable[..., jax.Array]:
    """Greedy decoding, (given, kept, rest, tokens, mask, label) -> the symbols [B, L] up to and with `end`, then 0.

    Of the second stream only the first symbol, which begins a text, is read; of the label, nothing. The source is
    encoded once. A model that does not decode from a state takes a pass of its decoder over the text so far for each
    symbol: exact, for its places see none after them.
    """

    def write(given: Any, kept: Any, rest: Any, tokens: jax.Array, mask: jax.Array, label: jax.Array) -> jax.Array:
        weights = cast(setup.restore(kept, given), jnp.float32)
        model = lambda: nnx.merge(graph, weights, rest, copy=True)  # noqa: E731 - a loop's body has one of its own
        with setup.predicting(given):
            (source, target), length = jnp.moveaxis(tokens, 1, 0), tokens.shape[-1]
            if _decodes(model()):
                state: Any = writing.init_state(model(), source, mask[:, 0], length)
                return written(
                    lambda kept, symbol: writing.step(model(), kept, symbol), state, target[:, 0], length, end
                )
            memory = model().encode(source, mask[:, 0], key=None)
            after = _over_the_text(model, memory, mask[:, 0])
            return written(after, _Text(jnp.zeros_like(target), jnp.int32(0)), target[:, 0], length, end)

    return write


def _decodes(model: EncoderDecoder) -> bool:
    try:
        writing.refuse(model)
    except ConfigError:
        return False
    return True


class _Text(NamedTuple):
    """What is written so far."""

    symbols: Int32[Array, "B L"]
    place: Int[Array, ""]  # of the next one


def _over_the_text(
    model: Callable[[], EncoderDecoder], memory: Float[Array, "B L D"], memory_mask: Bool[Array, "B L"]
) -> After:
    """By a pass of the decoder over the whole text."""

    def after(text: _Text, symbol: Int32[Array, " B"]) -> tuple[_Text, Float[Array, "B C"]]:
        symbols, place = text.symbols.at[:, text.place].set(symbol), text.place
        there = jnp.broadcast_to(jnp.arange(symbols.shape[1]) <= place, symbols.shape)
        x = model().decode(symbols, there, memory, memory_mask, key=None)
        return _Text(symbols, place + 1), model().answer(lax.dynamic_slice_in_dim(x, place, 1, axis=1))[:, 0]

    return after


class _Written(NamedTuple):
    """A loop that writes."""

    place: Int[Array, ""]
    state: Any
    last: Int32[Array, "B"]
    text: Int32[Array, "B L"]
    ended: Bool[Array, "B"]


def written(after: After, state: Any, start: Int32[Array, " B"], length: int, end: int) -> Int32[Array, "B L"]:
    """The likeliest symbol after `start`, then after each that was written, until `end` or `length`."""

    def unfinished(loop: _Written) -> jax.Array:
        return (loop.place < length) & ~loop.ended.all()

    def one_more(loop: _Written) -> _Written:
        state, logits = after(loop.state, loop.last)
        likeliest = 1 + jnp.argmax(logits, axis=-1).astype(jnp.int32)
        symbol = jnp.where(jnp.isfinite(logits).all(-1), likeliest, BROKEN)
        text = loop.text.at[:, loop.place].set(jnp.where(loop.ended, 0, symbol))
        ended = loop.ended | (symbol == end) | (symbol == BROKEN)
        return _Written(loop.place + 1, state, jnp.where(ended, 0, symbol), text, ended)

    blank = jnp.zeros((len(start), length), jnp.int32)
    begun = _Written(jnp.int32(0), state, start, blank, jnp.zeros(len(start), bool))
    return lax.while_loop(unfinished, one_more, begun).text
