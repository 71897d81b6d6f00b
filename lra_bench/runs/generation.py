"""What a trained causal model writes: a prompt is read at once, and each further symbol is drawn from the answer to the
one before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lra_bench import data
from lra_bench.errors import ConfigError
from lra_bench.measure.clocks import Stopwatch
from lra_bench.model import Model, decoding
from lra_bench.runs.loaded import Trained


@dataclass(frozen=True)
class Drawing:
    """How the next symbol is drawn."""

    temperature: float = 0.0  # the logits are divided by it; 0: the likeliest symbol is taken
    top_k: int | None = None  # of so many likeliest symbols alone; None: of all
    seed: int = 0

    def next(self, logits: jax.Array, place: jax.Array) -> jax.Array:
        """The ids that follow, [B], from logits [B, C] over the ids from 1 up."""
        if self.temperature == 0:
            return 1 + jnp.argmax(logits, axis=-1).astype(jnp.int32)
        if self.top_k is not None:
            least = jax.lax.top_k(logits, min(self.top_k, logits.shape[-1]))[0][:, -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        key = jax.random.fold_in(jax.random.key(self.seed), place)
        return 1 + jax.random.categorical(key, logits / self.temperature).astype(jnp.int32)


class Writer:
    """A run's model that writes on.

    Raises:
        ConfigError: the task does not ask for the next symbol, or the model does not decode.
    """

    def __init__(self, trained: Trained, drawing: Drawing) -> None:
        self.run = trained.run
        if not data.looks_ahead(self.run.task):
            raise ConfigError(f"{self.run.task.name}: does not ask for the symbol that follows")
        learned = trained.learned
        self.model: Model = nnx.merge(learned.graph, learned.params, learned.rest, copy=True)
        decoding.refuse(self.model)
        self.drawing, self.seconds = drawing, [0.0, 0.0]
        self.state_bytes = 0

    def __call__(self, prompt: np.ndarray, count: int) -> Iterator[int]:
        """`count` ids that follow the prompt's, int [N]. `seconds` are then those to the first one, compiled before,
        and those of all others.

        Raises:
            ConfigError: the prompt is empty, or the model's positions end before that.
        """
        if not len(prompt):
            raise ConfigError("--prompt: at least one symbol")
        step, learned = decoding.stepping(self.model)
        drawing = self.drawing

        @jax.jit
        def read(learned: Any, state: decoding.State, ids: jax.Array) -> tuple[decoding.State, jax.Array]:
            state, logits = step(learned, state, ids)
            return state, drawing.next(logits, state.place)

        state = decoding.init_state(self.model, 1, len(prompt) + count)
        self.state_bytes = decoding.state_bytes(state)
        first, one = jnp.asarray(prompt, jnp.int32)[None], jnp.ones((1, 1), jnp.int32)
        begin, go_on = (partial(read.lower(learned, state, ids).compile(), learned) for ids in (first, one))
        watch = Stopwatch()
        state, ids = begin(state, first)
        yield int(ids[0])
        self.seconds[0] = watch.seconds
        watch = Stopwatch()
        for _ in range(count - 1):
            state, ids = go_on(state, ids[:, None])
            yield int(ids[0])
            self.seconds[1] = watch.seconds
