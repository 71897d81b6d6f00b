"""Causal mixing by chunks of tokens: each reads the memory of all chunks before it, and its own tokens up to each.

A memory is what is kept of tokens: a sum over them, for one. Two memories are joined to that of the tokens of both,
so the memories before all chunks are found by a walk, or on accelerators by an associative scan (arXiv 1709.04057).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from lra_bench.kernels.impl import XLA
from lra_bench.kernels.softmax_attention import blocks, join

CHUNK = 128  # tokens that see each other by their weights, of which there are so many squared


class Mixing(Protocol):
    """What tokens add to a memory, and what they read in it. The last argument is always their places."""

    @property
    def sums(self) -> Callable[..., Any]:
        """The memory of a chunk's tokens alone, by all of their arrays but the queries."""

    def joined(self, earlier: Any, later: Any) -> Any:
        """The memory of the tokens of both; of many memories along a first axis too."""

    @property
    def read(self) -> Callable[..., Array]:
        """What a chunk's tokens, their queries first, read in the memory of all before it, which is the first argument,
        and in each other."""


class State(NamedTuple):
    """The memory of all tokens so far."""

    memory: Any
    place: Int[Array, ""]  # of the next token


def begun(memory: Any) -> State:
    """Before the first token."""
    return State(memory, jnp.zeros((), jnp.int32))


def by_chunks(mixing: Mixing, start: Any, tokens: tuple[Array, ...], impl: str = XLA) -> Float[Array, "B H L V"]:
    """What all tokens of a text read.

    Args:
        start: the memory of no token.
        tokens: arrays [B, H, L, ...], the queries first.
        impl: as `impl.chosen` says it.
    """
    L = tokens[0].shape[2]
    chunks = _chunks(tokens, min(CHUNK, L))
    if impl == XLA:
        return join(_walked(mixing, start, chunks)[1], L)
    upto = lax.associative_scan(mixing.joined, jax.vmap(mixing.sums)(*chunks[1:]))
    before = jax.tree.map(lambda first, x: jnp.concatenate([first[None], x[:-1]]), start, upto)
    return join(jax.checkpoint(jax.vmap(mixing.read))(before, *chunks), L)


def onward(mixing: Mixing, state: State, tokens: tuple[Array, ...]) -> tuple[State, Float[Array, "B H N V"]]:
    """The state after N further tokens, and what they read."""
    N = tokens[0].shape[2]
    *chunks, places = _chunks(tokens, min(CHUNK, N))
    memory, read = _walked(mixing, state.memory, (*chunks, state.place + places))
    return State(memory, state.place + N), join(read, N)


def _walked(mixing: Mixing, memory: Any, chunks: tuple[Array, ...]) -> tuple[Any, Array]:
    def step(memory: Any, chunk: tuple[Array, ...]) -> tuple[Any, Array]:
        return mixing.joined(memory, mixing.sums(*chunk[1:])), mixing.read(memory, *chunk)

    return lax.scan(jax.checkpoint(step), memory, chunks)


def _chunks(tokens: tuple[Array, ...], size: int) -> tuple[Array, ...]:
    """Each array in chunks, the last one filled up with zeros, and the places of the tokens of each."""
    L = tokens[0].shape[2]
    places = jnp.arange(L + -L % size).reshape(-1, size)
    return (*(blocks(x, size) for x in tokens), places)
