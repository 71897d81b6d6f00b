"""What an encoder-decoder writes for a source when it takes the likeliest symbol each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int32

from lra_bench.training.setup import TrainingSetup
from lra_bench.training.step import cast

BROKEN = -1  # in place of a symbol whose logits are not finite


def writing(graph: nnx.GraphDef[Any], setup: TrainingSetup, end: int) -> Callable[..., jax.Array]:
    """Greedy decoding, (given, kept, rest, tokens, mask, label) -> the symbols [B, L] up to and with `end`, then 0.

    Of the second stream only the first symbol, which begins a text, is read; of the label, nothing. The source is
    encoded once, and each symbol takes a pass of the decoder over all that is written before it: exact for any mixer
    whose places see none after them, whether or not it decodes from a state.
    """

    def write(given: Any, kept: Any, rest: Any, tokens: jax.Array, mask: jax.Array, label: jax.Array) -> jax.Array:
        weights = cast(setup.restore(kept, given), jnp.float32)
        model = lambda: nnx.merge(graph, weights, rest, copy=True)  # noqa: E731 - a loop's body may not change another's
        with setup.predicting(given):
            memory = model().encode(tokens[:, 0], mask[:, 0], key=None)

            def after(text: Int32[Array, "B L"], place: jax.Array) -> Float[Array, "B C"]:
                there = jnp.broadcast_to(jnp.arange(text.shape[1]) <= place, text.shape)
                x = model().decode(text, there, memory, mask[:, 0], key=None)
                return model().answer(lax.dynamic_slice_in_dim(x, place, 1, axis=1))[:, 0]

            return written(after, tokens[:, 1, 0], tokens.shape[-1], end)

    return write


def written(
    after: Callable[[Int32[Array, "B L"], jax.Array], Float[Array, "B C"]],
    start: Int32[Array, " B"],
    length: int,
    end: int,
) -> Int32[Array, "B L"]:
    """The likeliest symbol `after` a text up to each place, which stands at the next one, until `end` or `length`."""

    def go_on(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        place, _, ended = state
        return (place < length) & ~ended.all()

    def one_more(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        place, text, ended = state
        logits = after(text[:, :length], place)
        symbol = jnp.where(jnp.isfinite(logits).all(-1), 1 + jnp.argmax(logits, -1).astype(jnp.int32), BROKEN)
        text = text.at[:, place + 1].set(jnp.where(ended, 0, symbol))
        return place + 1, text, ended | (symbol == end) | (symbol == BROKEN)

    begun = jnp.zeros((len(start), length + 1), jnp.int32).at[:, 0].set(start)
    return lax.while_loop(go_on, one_more, (jnp.int32(0), begun, jnp.zeros(len(start), bool)))[1][:, 1:]
