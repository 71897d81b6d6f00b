"""Time and memory of training steps, without data.   `python -m lra_bench.speed CELLS`, a JSON list of cells.

The cells' steps are compiled by the code that trains, fed random tokens, and run in turn, round after round, so that
what disturbs the machine disturbs them all. `--fed` measures the input besides: how fast the cells' examples are made,
if they are not there yet, and how fast batches of them are. One event a line on stdout, as a cell's process does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lra_bench import data, store
from lra_bench.assembly import compiled, fitting, lacking
from lra_bench.cell import failures, tell
from lra_bench.config import Cell
from lra_bench.data.batches import batch_at
from lra_bench.errors import CellFailed, LraError
from lra_bench.measure.clocks import Laps, Stopwatch
from lra_bench.metrics import METRICS
from lra_bench.shapes import Batch
from lra_bench.train.program import Program, State

BATCHES = 50  # that are timed


class Bench:
    """One cell's step, ready to be run again and again."""

    def __init__(self, cell: Cell, program: Program) -> None:
        self._step: Callable[..., tuple[State, jax.Array]] = program.training.step
        self._batch = program.feed(random_batch(cell))
        self._state = program.init
        self.laps = Laps()

    def once(self) -> None:
        """Run one step and wait for it."""
        self.laps.start()
        self._state, loss = self._step(self._state, *self._batch)
        jax.block_until_ready((self._state, loss))
        self.laps.lap()


def random_batch(cell: Cell) -> Batch:
    """Full-length examples of random symbols, from the cell's seed."""
    shape = (cell.recipe.training.batch, cell.task.streams, cell.task.length)
    metric, draw = METRICS[cell.task.metric], np.random.default_rng(cell.seed)
    label, kind = metric.shape(cell.task.classes, cell.task.length), np.float32 if metric.real else np.int32
    return Batch(
        tokens=draw.integers(1, len(data.vocabulary(cell.task)), shape, dtype=np.int32),
        mask=np.ones(shape, bool),
        label=draw.integers(0, 2 if label else cell.task.classes, (shape[0], *label), dtype=np.int32).astype(kind),
        weight=np.ones(shape[:1], np.float32),
    )


def supplied(cell: Cell, program: Program) -> dict[str, Any]:
    """How fast the cell's examples are made, if they are not there yet, and batches of them put on the devices.

    Raises:
        LraError: they cannot be had.
    """
    watch = Stopwatch()
    dataset = data.prepare(cell.task, lambda what, done, total: tell("data", what=what, done=done, total=total))
    made_s, laps, train = watch.seconds, Laps(), dataset.splits["train"]
    laps.start()
    for step in range(BATCHES):
        jax.block_until_ready(program.feed(batch_at(train, cell.recipe.training.batch, cell.seed, step)))
        laps.lap()
    every = sum(len(split) for split in dataset.splits.values())
    return {"input_ms_p50": laps.percentile(50), "made_per_s": every / made_s if dataset.fresh else None}


def measure(cells: Sequence[Cell], rounds: int, fed: bool, fit: bool) -> list[dict[str, Any]]:
    """Compile all, run `rounds` interleaved rounds of those that fit; what is known of each cell, in order.

    `fit`: one that does not is changed until it does, as in training.
    """
    facts: list[dict[str, Any]] = []
    benches: list[Bench | None] = []
    for cell in cells:
        tell("compile", cell=cell.id, length=cell.task.length)
        bench = None
        known: dict[str, Any] = {}
        with failures(cell) as failed:
            program, known = compiled(cell)
            if short := lacking(program):
                if not fit:
                    raise CellFailed(str(short), "oom")
                program, changed, _ = fitting(cell, None, None, tell)
                known |= changed
            known |= supplied(cell, program) if fed else {}
            bench = Bench(cell, program)
            bench.once()
        problem = {"status": failed[0].status, "error": failed[0].error} if failed else {"status": "ok", "error": None}
        facts.append(
            {"cell": cell.id, "model": cell.model, "knobs": cell.knobs, "length": cell.task.length} | known | problem
        )
        benches.append(bench)
    for done in range(rounds):
        for bench in benches:
            if bench is not None:
                bench.once()
        tell("round", done=done + 1, total=rounds)
    for fact, bench in zip(facts, benches, strict=True):
        laps = bench.laps if bench else Laps()
        fact |= {f"step_ms_p{q}": laps.percentile(q) for q in (10, 50, 90)}
    return facts


def main(arguments: list[str] | None = None) -> int:
    """Measure the cells of a file; the facts are the last event."""
    parser = argparse.ArgumentParser(prog="python -m lra_bench.speed", description=__doc__)
    parser.add_argument("cells", type=Path, help="a JSON list of cells")
    parser.add_argument("--rounds", type=int, required=True, help="timed steps of each cell")
    parser.add_argument("--fed", action="store_true", help="the cells' examples are made and cut into batches, too")
    parser.add_argument("--fitting", action="store_true", help="a step that does not fit is changed until it does")
    args = parser.parse_args(arguments)
    cells = [Cell.model_validate(values) for values in store.read_json(args.cells)]
    try:
        tell("facts", facts=measure(cells, args.rounds, args.fed, args.fitting))
    except LraError as error:
        tell("refused", message=str(error), exit_code=error.exit_code)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
