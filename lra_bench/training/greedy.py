"""What a model writes for a source when it takes the likeliest symbol each time, and reads what it wrote so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

BROKEN = -1  # in place of a symbol whose logits are not finite


def greedy(answered: Callable[..., jax.Array], end: int) -> Callable[..., jax.Array]:
    """Greedy decoding by a forward pass, (given, kept, rest, tokens, mask, places) -> logits [B, 1, C].

    (given, kept, rest, tokens [B, 2, L], mask, label) -> the symbols [B, L] up to and with `end`, then 0. Of the second
    stream only the first symbol, which begins a text, is read; of the label, nothing. Each symbol takes a pass over all
    that is written before it: exact for any model whose places see none after them.
    """

    def write(given: Any, kept: Any, rest: Any, tokens: jax.Array, mask: jax.Array, label: jax.Array) -> jax.Array:
        (source, target), L = jnp.moveaxis(tokens, 1, 0), tokens.shape[-1]

        def go_on(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            place, _, ended = state
            return (place < L) & ~ended.all()

        def one_more(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            place, text, ended = state
            there = jnp.broadcast_to(jnp.arange(L) <= place, target.shape)
            shown, seen = jnp.stack([source, text[:, :L]], 1), jnp.stack([mask[:, 0], there], 1)
            logits = answered(given, kept, rest, shown, seen, jnp.full((len(text), 1), place))[:, 0]
            symbol = jnp.where(jnp.isfinite(logits).all(-1), 1 + jnp.argmax(logits, -1).astype(jnp.int32), BROKEN)
            text = text.at[:, place + 1].set(jnp.where(ended, 0, symbol))
            return place + 1, text, ended | (symbol == end) | (symbol == BROKEN)

        begun = jnp.zeros((len(target), L + 1), jnp.int32).at[:, 0].set(target[:, 0])
        _, text, _ = lax.while_loop(go_on, one_more, (jnp.int32(0), begun, jnp.zeros(len(target), bool)))
        return text[:, 1:]

    return write
