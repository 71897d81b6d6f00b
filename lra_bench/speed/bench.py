"""One run's step, ready to be run again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lra_bench import data
from lra_bench.config import Run
from lra_bench.measure.clocks import StepTimer
from lra_bench.metrics import METRICS
from lra_bench.shapes import Batch
from lra_bench.training.program import Program
from lra_bench.training.step import State

EMPTY = 20  # runs of a step that does nothing, of which the median is the time to dispatch one

Call = Callable[[], Any]


class Bench:
    """A training step, or to `infer` a forward pass, of random examples; `laps` are its times."""

    def __init__(self, run: Run, program: Program, *, infer: bool = False) -> None:
        self.laps = StepTimer()
        self._run, self._nothing = (
            _forward(program, random_batch(run)) if infer else _training(program, random_batches(run, program))
        )

    def once(self) -> None:
        """Call it and wait for it."""
        self.laps.start()
        jax.block_until_ready(self._run())
        self.laps.lap()

    def dispatch_ms(self) -> float | None:
        """Milliseconds until a step with the same arguments and results, that does nothing, is there: what a step takes
        at the least, whatever the device does."""
        laps = StepTimer()
        laps.start()
        for _ in range(1 + EMPTY):
            jax.block_until_ready(self._nothing())
            laps.lap()
        return laps.percentile(50)


def _training(program: Program, batches: Sequence[Batch]) -> tuple[Call, Call]:
    fed, state = program.feed(*batches), program.init
    nothing = partial(_compiled(_kept, (program.given, state, *fed), donate=1), program.given)

    def once(step: Callable[..., Any]) -> Any:
        nonlocal state
        state, loss = step(state, *fed)
        return state, loss

    return lambda: once(program.training.step), lambda: once(nothing)


def _forward(program: Program, batch: Batch) -> tuple[Call, Call]:
    arguments = (program.kept(program.init.params), program.init.rest, *program.show(batch))
    nothing = partial(_compiled(_zeros, (program.given, *arguments)), program.given)
    return lambda: program.forward(*arguments), lambda: nothing(*arguments)


def _kept(given: Any, state: State, *fed: Any) -> tuple[State, jax.Array]:
    """A training step that trains nothing."""
    return state, jnp.float32(0)


def _zeros(given: Any, kept: Any, rest: Any, tokens: jax.Array, mask: jax.Array, label: jax.Array) -> jax.Array:
    """A forward pass that scores nothing."""
    return jnp.zeros(len(tokens), jnp.float32)


def _compiled(function: Callable[..., Any], arguments: Sequence[Any], donate: int | None = None) -> Callable[..., Any]:
    """With all arguments as they are: those that nobody reads too."""
    return jax.jit(function, donate_argnums=donate, keep_unused=True).lower(*arguments).compile()


def random_batches(run: Run, program: Program) -> list[Batch]:
    """A training batch of each task that the run is trained on."""
    each = zip(run.trains_on, program.parts, strict=True)
    return [random_batch(one, part.micro_batches * part.size) for one, part in each]


def random_batch(run: Run, count: int | None = None) -> Batch:
    """So many full-length examples of random symbols, or a whole batch, from the run's seed."""
    shape = (count or run.recipe.training.batch, run.task.streams, run.task.length)
    metric, draw = METRICS[run.task.metric], np.random.default_rng(run.seed)
    label, kind = metric.shape(run.task.classes, run.task.length), np.float32 if metric.real else np.int32
    return Batch(
        tokens=draw.integers(1, len(data.vocabulary(run.task)), shape, dtype=np.int32),
        mask=np.ones(shape, bool),
        label=draw.integers(0, 2 if label else run.task.classes, (shape[0], *label), dtype=np.int32).astype(kind),
        weight=np.ones(shape[:1], np.float32),
    )
