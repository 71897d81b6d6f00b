"""The progress of runs and of data, live where stderr is a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lra_bench.cli.screen import err, score
from lra_bench.config import Cell
from lra_bench.metrics import named


class Watch:
    """Live progress of cells on stderr: a bar with an ETA on a terminal, a line an evaluation elsewhere."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._bar: TaskID | None = None
        self._cell: Cell | None = None
        self._said: dict[str, str] = {}

    def __call__(self, cell: Cell, event: Mapping[str, Any]) -> None:
        """Show one event of a cell."""
        if cell is not self._cell:
            self._cell, self._said = cell, {}
            self._remove()
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(cell, event)

    def _line(self, cell: Cell, text: str) -> None:
        err.print(f"{cell.model} on {cell.task.name}: {text}", highlight=False, markup=False, soft_wrap=True)

    def _remove(self) -> None:
        if self._progress is not None and self._bar is not None:
            self._progress.remove_task(self._bar)
        self._bar = None

    def _advance(self, what: str, done: int, total: int) -> None:
        if self._progress is None:
            return
        if self._bar is None:
            self._bar = self._progress.add_task("", total=total, said="")
        self._progress.update(self._bar, description=what, completed=done, total=total, said=self._words())

    def _words(self) -> str:
        return "  ".join(f"{key} {value}" for key, value in self._said.items())

    def _on_already(self, cell: Cell, event: Mapping[str, Any]) -> None:
        self._line(cell, "done before; --fresh does it again")

    def _on_wait(self, cell: Cell, event: Mapping[str, Any]) -> None:
        self._line(cell, "another process runs this cell; waiting for it")

    def _on_data(self, cell: Cell, event: Mapping[str, Any]) -> None:
        self._advance(f"{cell.task.name}: {event['what']}", event["done"], event["total"])

    def _on_compile(self, cell: Cell, event: Mapping[str, Any]) -> None:
        self._remove()
        self._line(cell, f"compiling, L = {event['length']}")

    def _on_start(self, cell: Cell, event: Mapping[str, Any]) -> None:
        if event["step"]:
            self._line(cell, f"going on from step {event['step']}")
        self._remove()

    def _on_step(self, cell: Cell, event: Mapping[str, Any]) -> None:
        self._said["loss"] = f"{event['loss']:.3f}"
        self._advance(f"{cell.model} on {cell.task.name}", event["step"], event["steps"])

    def _on_val(self, cell: Cell, event: Mapping[str, Any]) -> None:
        unit = "%" if named(cell.task.metric).share else ""
        self._said["val"] = f"{score(event['val_score'], cell.task.metric)}{unit}"
        if self._progress is None:
            steps = f"step {event['step']}/{cell.recipe.training.steps}"
            left = f"{event['left_s'] / 60:.1f} min left"
            self._line(cell, f"{steps}  loss {event['train_loss']:.3f}  val {self._said['val']}  {left}")

    def _on_evaluate(self, cell: Cell, event: Mapping[str, Any]) -> None:
        if self._progress is not None and self._bar is not None:
            self._said["looking"] = f"{event['done']}/{event['total']}"
            self._progress.update(self._bar, said=self._words())
            self._said.pop("looking")

    def _on_round(self, cell: Cell, event: Mapping[str, Any]) -> None:
        self._advance(f"timed rounds, L = {cell.task.length:,}", event["done"], event["total"])
        if self._progress is None:
            err.print(f"L = {cell.task.length}: timed round {event['done']}/{event['total']}", highlight=False)

    def _on_stopping(self, cell: Cell, event: Mapping[str, Any]) -> None:
        self._line(cell, "saving; Ctrl-C again ends it at once")


@contextmanager
def watching() -> Iterator[Watch]:
    """A watch, with a live display where stderr is a terminal."""
    if not err.is_terminal:
        yield Watch(None)
        return
    said = TextColumn("{task.fields[said]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), said, TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        yield Watch(progress)


@contextmanager
def counting(title: str) -> Iterator[Any]:
    """A `data.Progress` that shows a bar with an ETA on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def count(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(f"{title}: {what}", total=total)
            progress.update(bars[what], completed=done, total=total)

        yield count
