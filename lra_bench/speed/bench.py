"""One cell's step, ready to be run again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lra_bench import data
from lra_bench.config import Cell
from lra_bench.measure.clocks import Laps
from lra_bench.metrics import METRICS
from lra_bench.shapes import Batch
from lra_bench.train.program import Program


class Bench:
    """A training step, or to `infer` a forward pass, of random examples; `laps` are its times."""

    def __init__(self, cell: Cell, program: Program, *, infer: bool = False) -> None:
        self.laps = Laps()
        self._run = (
            _forward(program, random_batch(cell)) if infer else _training(program, random_batches(cell, program))
        )

    def once(self) -> None:
        """Run it and wait for it."""
        self.laps.start()
        jax.block_until_ready(self._run())
        self.laps.lap()


def _training(program: Program, batches: Sequence[Batch]) -> Callable[[], Any]:
    fed, state = program.feed(*batches), program.init

    def run() -> Any:
        nonlocal state
        state, loss = program.training.step(state, *fed)
        return state, loss

    return run


def _forward(program: Program, batch: Batch) -> Callable[[], Any]:
    shown, kept, rest = program.show(batch), program.kept(program.init.params), program.init.rest
    return lambda: program.forward(kept, rest, *shown)


def random_batches(cell: Cell, program: Program) -> list[Batch]:
    """A training batch of each task that the cell is trained on."""
    each = zip(cell.trains_on, program.parts, strict=True)
    return [random_batch(one, part.slices * part.size) for one, part in each]


def random_batch(cell: Cell, count: int | None = None) -> Batch:
    """So many full-length examples of random symbols, or a whole batch, from the cell's seed."""
    shape = (count or cell.recipe.training.batch, cell.task.streams, cell.task.length)
    metric, draw = METRICS[cell.task.metric], np.random.default_rng(cell.seed)
    label, kind = metric.shape(cell.task.classes, cell.task.length), np.float32 if metric.real else np.int32
    return Batch(
        tokens=draw.integers(1, len(data.vocabulary(cell.task)), shape, dtype=np.int32),
        mask=np.ones(shape, bool),
        label=draw.integers(0, 2 if label else cell.task.classes, (shape[0], *label), dtype=np.int32).astype(kind),
        weight=np.ones(shape[:1], np.float32),
    )
