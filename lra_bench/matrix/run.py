"""What is done with cells: run those that are not done, plan them, time their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lra_bench import store
from lra_bench.config import Cell
from lra_bench.errors import ConfigError
from lra_bench.launch import local
from lra_bench.matrix.request import Request, cells
from lra_bench.rows import Row

PLAN_ROUNDS = 3  # timed steps behind an estimate


def run(
    every: Sequence[Cell],
    results: Path,
    tell: Callable[[Cell, dict[str, Any]], None],
    *,
    fresh: bool = False,
    minutes: float | None = None,
) -> list[Row]:
    """Run the cells that are not done, one after another; their rows. One that fails spares the rest.

    Raises:
        Stopped: Ctrl-C; what ran is saved.
        ConfigError: the only cell refused what the user asked for.
    """
    rows = []
    for cell in every:
        row = None if fresh else store.done(results, cell)
        if row is not None:
            tell(cell, {"event": "already"})
        else:
            row = _run(cell, results, tell, fresh, minutes, alone=len(every) == 1)
        rows.append(row)
    return rows


def plan(every: Sequence[Cell], results: Path, tell: Callable[[Cell, dict[str, Any]], None]) -> list[dict[str, Any]]:
    """What running the cells would take: which are done, size, cost, hours. Steps are compiled; nothing is trained."""
    return [_plan(cell, results, tell) for cell in every]


def _plan(cell: Cell, results: Path, tell: Any) -> dict[str, Any]:
    row = store.done(results, cell)
    state = "done" if row else "begun" if (store.folder(results, cell) / "checkpoints").is_dir() else "new"
    known = row.as_dict() if row else local.measure([cell], PLAN_ROUNDS, partial(tell, cell))[0]
    columns = ("params", "params_ratio", "planned_bytes", "flops_per_step", "compile_s", "step_ms_p50", "error")
    asked: dict[str, Any] = {"cell": cell.id, "model": cell.model, "task": cell.task.name, "recipe": cell.recipe_name}
    asked |= {"mark": cell.mark, "length": cell.task.length, "seed": cell.seed, "state": state}
    hours = 0.0 if row else _hours(cell, known.get("step_ms_p50"), known.get("compile_s"))
    return asked | {column: known.get(column) for column in columns} | {"hours": hours}


def _hours(cell: Cell, step_ms: float | None, compile_s: float | None) -> float | None:
    """An estimate from the time of a step: a forward pass counts a third of one, a checkpoint nothing."""
    if step_ms is None or compile_s is None:
        return None
    t, sizes = cell.recipe.training, {k: min(n, cell.limit or n) for k, n in cell.task.splits.items()}
    looks = -(-t.steps // t.eval_every) * sizes["val"] + sizes["test"]
    steps = t.steps + looks / t.batch / 3
    return (steps * step_ms / 1e3 + 2 * compile_s) / 3600


def bench(
    request: Request, lengths: Sequence[int], rounds: int, tell: Callable[[Cell, dict[str, Any]], None]
) -> Iterator[list[dict[str, Any]]]:
    """Time the training steps of a request's cells at each length, those of one length in turn in one process.

    Yields what is known of the cells of a length, as soon as it is.
    """
    for length in lengths:
        every = cells(replace(request, length=length))
        yield local.measure(every, rounds, partial(_tell_of, every, tell))


def supply(
    every: Sequence[Cell], rounds: int, tell: Callable[[Cell, dict[str, Any]], None]
) -> Iterator[dict[str, Any]]:
    """How fast each cell's examples are made and cut into batches, and how fast its step eats them, one by one.

    One whose examples cannot be had spares the rest: its `error` says why.
    """
    for cell in every:
        asked: dict[str, Any] = {"task": cell.task.name, "variant": cell.task.variant, "model": cell.model}
        asked |= {"length": cell.task.length, "batch": cell.recipe.training.batch}
        try:
            yield asked | local.measure([cell], rounds, partial(tell, cell), fed=True)[0]
        except ConfigError as error:
            yield asked | {"error": str(error)}


def _tell_of(every: Sequence[Cell], tell: Callable[[Cell, dict[str, Any]], None], event: dict[str, Any]) -> None:
    """Pass on an event of the cell that it names; of the last one, if it names none."""
    tell(next((cell for cell in every if cell.id == event.get("cell")), every[-1]), event)


def _run(cell: Cell, results: Path, tell: Any, fresh: bool, minutes: float | None, *, alone: bool) -> Row:
    try:
        return local.run(results, cell, partial(tell, cell), fresh=fresh, minutes=minutes)
    except ConfigError as error:
        if alone:
            raise
        row = store.blank(cell, "error", str(error))
        store.put(results, cell, row)
        return row
