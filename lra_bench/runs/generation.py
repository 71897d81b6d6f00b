"""What a trained model writes: a prompt, or a source, is read at once, and each further symbol is drawn from the answer
to the one before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lra_bench import data
from lra_bench.errors import ConfigError
from lra_bench.measure.clocks import Stopwatch
from lra_bench.model import EncoderDecoder, Model, decoding, writing
from lra_bench.runs.loaded import Trained
from lra_bench.training.precision import within

# A function of arrays, (weights, state, tokens) -> state, the logits at the last place; and the model's weights.
Stepping = tuple[Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]], Any]


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


class Writing:
    """Symbols after symbols. `seconds` are those to the first one, compiled before, and those of all others."""

    def __init__(self, trained: Trained, drawing: Drawing) -> None:
        self.run, learned = trained.run, trained.learned
        if not data.looks_ahead(self.run.task):
            raise ConfigError(f"{self.run.task.name}: does not ask for the symbol that follows")
        quantize = self.run.techniques.quantize
        if quantize and quantize.activations < 32:
            raise ConfigError(f"{quantize.words}: it is not written with activations of {quantize.activations} bits")
        self.drawn: Any = nnx.merge(learned.graph, learned.params, learned.rest, copy=True)
        self.drawing, self.seconds = drawing, [0.0, 0.0]
        self.state_bytes = 0

    def onward(self, stepping: Stepping, state: Any, begun: np.ndarray, count: int) -> Iterator[int]:
        """`count` ids that follow those of `begun`, int [N], which is read first."""
        drawing, (step, learned) = self.drawing, stepping

        @decoding.in_place
        def read(learned: Any, state: Any, ids: jax.Array) -> tuple[Any, jax.Array]:
            with within(self.run.recipe.backbone.matmul):
                state, logits = step(learned, state, ids)
            return state, drawing.next(logits, state.place)

        self.state_bytes = decoding.state_bytes(state)
        first, one = jnp.asarray(begun, jnp.int32)[None], jnp.ones((1, 1), jnp.int32)
        begin, go_on = (partial(read.lower(learned, state, ids).compile(), learned) for ids in (first, one))
        watch = Stopwatch()
        state, ids = begin(state, first)
        symbol = int(ids[0])
        self.seconds[0] = watch.seconds
        yield symbol
        for _ in range(count - 1):
            watch = Stopwatch()
            state, ids = go_on(state, ids[:, None])
            symbol = int(ids[0])
            self.seconds[1] += watch.seconds
            yield symbol


class Writer(Writing):
    """A run's model that writes on.

    Raises:
        ConfigError: the task does not ask for the next symbol, has a source, or the model does not decode.
    """

    def __init__(self, trained: Trained, drawing: Drawing) -> None:
        super().__init__(trained, drawing)
        if self.run.task.crosses:
            raise ConfigError(
                f"--prompt: {self.run.task.name} has a source, and what is written is its target: --source"
            )
        self.model: Model = self.drawn
        decoding.refuse(self.model)

    def __call__(self, prompt: np.ndarray, count: int) -> Iterator[int]:
        """`count` ids that follow the prompt's, int [N].

        Raises:
            ConfigError: the prompt is empty, or the model's positions end before that.
        """
        if not len(prompt):
            raise ConfigError("--prompt: at least one symbol")
        decoding.lengthen(self.model, len(prompt) + count)
        state = decoding.init_state(self.model, 1, len(prompt) + count)
        return self.onward(decoding.stepping(self.model), state, prompt, count)


class TargetWriter(Writing):
    """A run's model that writes the target of a source, from the task's start symbol to its end symbol.

    Raises:
        ConfigError: the task's targets are not written symbol by symbol, or the model does not decode.
    """

    def __init__(self, trained: Trained, drawing: Drawing) -> None:
        super().__init__(trained, drawing)
        if not self.run.task.crosses:
            raise ConfigError(f"--source: {self.run.task.name} has none, but a text that is continued: --prompt")
        self.model: EncoderDecoder = self.drawn
        writing.refuse(self.model)
        source: Any = data.of(self.run.task)
        self.start, self.end = int(source.START), int(source.END)

    def __call__(self, source: np.ndarray, count: int) -> Iterator[int]:
        """The target's ids, at most `count` and at most as many as the model was trained on, of a source, int [N];
        without its start and its end.

        Raises:
            ConfigError: the source is empty or longer than the model reads.
        """
        length = self.run.task.length
        count = min(count, length)
        if not 0 < len(source) <= length:
            raise ConfigError(f"--source: {len(source):,} symbols; the model reads 1 to {length:,}")
        tokens = np.zeros((1, length), np.int32)
        tokens[0, : len(source)] = source
        ids = jnp.asarray(tokens)
        state = jax.jit(lambda: writing.init_state(self.model, ids, ids > 0, count))()
        begun = np.array([self.start], np.int32)
        return takewhile(lambda one: one != self.end, self.onward(writing.stepping(self.model), state, begun, count))
