"""The progress of runs and of data, live where stderr is a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lra_bench.cli.screen import err, score
from lra_bench.cli.streams import shown
from lra_bench.config import Run
from lra_bench.metrics import named


class Watch:
    """Live progress of runs on stderr: a bar with an ETA for each that runs; a line an evaluation elsewhere.

    Runs that run at once each call it from a thread of their own.
    """

    def __init__(self, progress: Progress | None, cells: int = 1) -> None:
        self._progress, self._cells, self._ended = progress, cells, 0
        self._before: dict[str, str] = {}  # what is to be said of runs that were done before
        self._making: set[tuple[str, str]] = set()  # what is made for a run, and was said
        self._bars: dict[str, TaskID] = {}
        self._said: dict[str, dict[str, str]] = {}
        self._whole = progress.add_task("cells", total=cells, said="") if progress and cells > 1 else None

    def __call__(self, cell: Run, event: Mapping[str, Any]) -> None:
        """Show one event of a cell."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(cell, event)

    def _line(self, cell: Run, text: str) -> None:
        seed = f", seed {cell.seed}" if cell.seed else ""
        pulled = f" + {words}" if (words := cell.techniques.words) else ""
        line = f"{cell.model}{pulled} on {cell.task_name}{seed}: {text}"
        err.print(line, highlight=False, markup=False, soft_wrap=True)

    def _remove(self, cell: Run) -> None:
        bar = self._bars.pop(cell.id, None)
        if self._progress is not None and bar is not None:
            self._progress.remove_task(bar)

    def _advance(self, cell: Run, what: str, done: int, total: int) -> None:
        if self._progress is None:
            return
        if cell.id not in self._bars:
            self._bars[cell.id] = self._progress.add_task("", total=total, said="")
        self._progress.update(
            self._bars[cell.id], description=shown(what), completed=done, total=total, said=self._words(cell)
        )

    def _pulse(self, cell: Run, what: str) -> None:
        """A bar that says that something is done, and not how long it takes."""
        self._remove(cell)
        if self._progress is not None:
            said = f"{cell.model} on {cell.task_name}: {what}"
            self._bars[cell.id] = self._progress.add_task(shown(said), total=None, said="")

    def _begins(self, cell: Run, what: str) -> None:
        """Of what is done beside training: a bar; a line where there are none."""
        self._pulse(cell, what)
        if self._progress is None:
            self._line(cell, what)

    def _says(self, cell: Run) -> dict[str, str]:
        return self._said.setdefault(cell.id, {})

    def _words(self, cell: Run) -> str:
        return "  ".join(f"{key} {value}" for key, value in self._says(cell).items())

    def _on_ended(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._remove(cell)
        self._ended += 1
        if self._whole is not None and self._progress is not None:
            self._progress.update(self._whole, completed=self._ended)
        if self._cells > 1:
            before = self._before.pop(cell.id, "")
            self._line(cell, f"{_outcome(cell, event)} ({self._ended}/{self._cells}){before and ', '}{before}")

    def _on_already(self, cell: Run, event: Mapping[str, Any]) -> None:
        other = f", by other code: {code}" if (code := event.get("code")) else ""
        said = f"done before{other}; --overwrite does it again"
        if self._cells > 1:
            self._before[cell.id] = said
        else:
            self._line(cell, said)

    def _on_starting(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._begins(cell, "starting, importing JAX")

    def _on_wait(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._line(cell, "another process runs this run; waiting for it")

    def _on_note(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._line(cell, event["said"])

    def _on_data(self, cell: Run, event: Mapping[str, Any]) -> None:
        if (cell.id, event["what"]) not in self._making:
            self._making.add((cell.id, event["what"]))
            self._begins(cell, f"{event['what']}, {event['total']:,}")
            self._remove(cell)
        self._advance(cell, f"{cell.task_name}: {event['what']}", event["done"], event["total"])

    def _on_compile(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._remove(cell)
        self._line(cell, f"compiling, L = {event['length']:,}")
        self._pulse(cell, "compiling")

    def _on_compiled(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._advance(cell, f"compiled, L = {cell.task.length:,}", event["done"], event["total"])
        if event["done"] == event["total"]:
            self._remove(cell)

    def _on_matched(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._advance(cell, "widths solved for", event["done"], event["total"])
        if event["done"] == event["total"]:
            self._remove(cell)

    def _on_unmatched(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._line(cell, f"left out, it cannot be made so small; {event['why']}")

    def _on_largest(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._line(cell, f"looking for the largest batch, L = {event['length']}")

    def _on_short(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._line(cell, f"{event['why']}; the same batch in more slices is tried")

    def _on_start(self, cell: Run, event: Mapping[str, Any]) -> None:
        if event["step"]:
            self._line(cell, f"going on from step {event['step']}")
        self._remove(cell)

    def _on_step(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._says(cell)["loss"] = f"{event['loss']:.3f}"
        self._advance(cell, f"{cell.model} on {cell.task_name}", event["step"], event["steps"])

    def _on_val(self, cell: Run, event: Mapping[str, Any]) -> None:
        unit = "%" if named(cell.task.metric).share else ""
        self._says(cell)["val"] = f"{score(event['val_score'], cell.task.metric)}{unit}"
        if self._progress is None:
            steps = f"step {event['step']}/{cell.recipe.training.steps}"
            left = f"{event['left_s'] / 60:.1f} min left"
            loss = "" if event["train_loss"] is None else f"loss {event['train_loss']:.3f}  "
            self._line(cell, f"{steps}  {loss}val {self._says(cell)['val']}  {left}")

    def _on_evaluate(self, cell: Run, event: Mapping[str, Any]) -> None:
        if self._progress is not None and cell.id in self._bars:
            evaluating = f"evaluating {event['done']}/{event['total']}"
            self._progress.update(self._bars[cell.id], said=f"{self._words(cell)}  {evaluating}")

    def _on_test(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._begins(cell, f"evaluating test, {event['n']:,} examples")

    def _on_timing(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._begins(cell, "timing the forward pass")

    def _on_round(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._advance(cell, f"timed rounds, L = {cell.task.length:,}", event["done"], event["total"])
        if self._progress is None:
            err.print(f"L = {cell.task.length}: timed round {event['done']}/{event['total']}", highlight=False)

    def _on_stopping(self, cell: Run, event: Mapping[str, Any]) -> None:
        self._line(cell, "saving; Ctrl-C again ends it at once")


def _outcome(cell: Run, event: Mapping[str, Any]) -> str:
    """A line's worth of a run's result."""
    metric = cell.metric
    unit = " %" if metric.share else ""
    for split in ("test", "val"):
        if (value := event.get(f"{split}_score")) is not None:
            learned = ", at chance" if event["status"] == "at-chance" else ""
            return f"{split} {score(value, metric.name)}{unit}{learned}"
    return f"{event['status']}: {event['error']}" if event.get("error") else str(event["status"])


@contextmanager
def watching(cells: int = 1) -> Iterator[Watch]:
    """A watch of so many runs, with a live display where stderr is a terminal."""
    if not err.is_terminal:
        yield Watch(None, cells)
        return
    said = TextColumn("{task.fields[said]}", markup=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        said,
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        yield Watch(progress, cells)


@contextmanager
def counting(title: str) -> Iterator[Any]:
    """A `data.Progress` that shows a bar with an ETA on a terminal."""
    description = TextColumn("{task.description}", markup=False)
    columns = (description, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def count(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(shown(f"{title}: {what}"), total=total)
            progress.update(bars[what], completed=done, total=total)

        yield count
