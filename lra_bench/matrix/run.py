"""What is done with cells: run those that are not done, time their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from lra_bench import store
from lra_bench.config import Cell
from lra_bench.errors import ConfigError
from lra_bench.launch import local
from lra_bench.measure.asked import Asked
from lra_bench.rows import SCORED, Row


def run(
    every: Sequence[Cell],
    results: Path,
    tell: Callable[[Cell, dict[str, Any]], None],
    *,
    fresh: bool = False,
    minutes: float | None = None,
    jobs: int = 1,
    processes: int = 1,
    fail_fast: bool = False,
) -> list[Row]:
    """Run the cells that are not done, `jobs` at once, on a share of the cores each; their rows, in order.
    `processes` of this machine train a cell together.

    One that fails spares the rest; with `fail_fast` no further one starts, those that run are saved, and the rows are
    those that there are.

    Raises:
        Stopped: Ctrl-C; what ran is saved.
        ConfigError: the only cell refused what the user asked for.
    """
    crew, failed = local.Crew(jobs, processes), list[Cell]()

    def one(cell: Cell) -> Row | None:
        if crew.ended:
            return None
        row = None if fresh else store.done(results, cell)
        if row is not None:
            tell(cell, {"event": "already"})
        else:
            try:
                row = _run(cell, results, tell, crew, fresh, minutes, alone=len(every) == 1)
            except local.Stopped:
                crew.end()  # Ctrl-C reaches a cell before it reaches us
                raise
        tell(cell, {"event": "ended", "status": row.status})
        if fail_fast and row.status not in SCORED:
            failed.append(cell)
            crew.end()
        return row

    with ThreadPoolExecutor(jobs, "cell") as pool:
        futures = [pool.submit(one, cell) for cell in every]
        asked = _waited(futures, crew, lambda: tell(every[-1], {"event": "stopping"}))
    found = [_outcome(future) for future in futures]
    if asked or (crew.ended and not failed):
        raise local.Stopped
    return [row for row in found if row is not None]


def _waited(futures: Sequence[Future[Row | None]], crew: local.Crew, stopping: Callable[[], None]) -> bool:
    """Wait for all; did the user ask to stop? Ctrl-C asks the cells to save and stop, a second one ends them."""
    asked = False
    while True:
        try:
            wait(futures)
            return asked
        except KeyboardInterrupt:
            (crew.kill if asked else crew.end)()
            asked = True
            stopping()


def _outcome(future: Future[Row | None]) -> Row | None:
    try:
        return future.result()
    except local.Stopped:
        return None


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
            yield asked | local.measure([cell], Asked(rounds, fed=True), partial(tell, cell))[0]
        except ConfigError as error:
            yield asked | {"error": str(error)}


def _run(
    cell: Cell, results: Path, tell: Any, crew: local.Crew, fresh: bool, minutes: float | None, *, alone: bool
) -> Row:
    try:
        return local.run(results, cell, partial(tell, cell), crew, fresh=fresh, minutes=minutes)
    except ConfigError as error:
        if alone:
            raise
        row = store.blank(cell, "error", str(error))
        store.put(results, cell, row)
        return row
