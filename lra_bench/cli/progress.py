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

    def __init__(self, progress: Progress | None, runs: int = 1) -> None:
        self._progress, self._runs, self._ended = progress, runs, 0
        self._before: dict[str, str] = {}  # what is to be said of runs that were done before
        self._making: set[tuple[str, str]] = set()  # what is made for a run, and was said
        self._bars: dict[str, TaskID] = {}
        self._said: dict[str, dict[str, str]] = {}
        self._whole = progress.add_task("runs", total=runs, said="") if progress and runs > 1 else None

    def __call__(self, run: Run, event: Mapping[str, Any]) -> None:
        """Show one event of a run."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(run, event)

    def _line(self, run: Run, text: str) -> None:
        seed = f", seed {run.seed}" if run.seed else ""
        applied = f" + {words}" if (words := run.techniques.words) else ""
        line = f"{run.model}{applied} on {run.task_name}{seed}: {text}"
        err.print(line, highlight=False, markup=False, soft_wrap=True)

    def _remove(self, run: Run) -> None:
        bar = self._bars.pop(run.id, None)
        if self._progress is not None and bar is not None:
            self._progress.remove_task(bar)

    def _advance(self, run: Run, what: str, done: int, total: int) -> None:
        if self._progress is None:
            return
        if run.id not in self._bars:
            self._bars[run.id] = self._progress.add_task("", total=total, said="")
        self._progress.update(
            self._bars[run.id], description=shown(what), completed=done, total=total, said=self._words(run)
        )

    def _pulse(self, run: Run, what: str) -> None:
        """A bar that says that something is done, and not how long it takes."""
        self._remove(run)
        if self._progress is not None:
            said = f"{run.model} on {run.task_name}: {what}"
            self._bars[run.id] = self._progress.add_task(shown(said), total=None, said="")

    def _begins(self, run: Run, what: str) -> None:
        """Of what is done beside training: a bar; a line where there are none."""
        self._pulse(run, what)
        if self._progress is None:
            self._line(run, what)

    def _says(self, run: Run) -> dict[str, str]:
        return self._said.setdefault(run.id, {})

    def _words(self, run: Run) -> str:
        return "  ".join(f"{key} {value}" for key, value in self._says(run).items())

    def _on_ended(self, run: Run, event: Mapping[str, Any]) -> None:
        self._remove(run)
        self._ended += 1
        if self._whole is not None and self._progress is not None:
            self._progress.update(self._whole, completed=self._ended)
        if self._runs > 1:
            before = self._before.pop(run.id, "")
            self._line(run, f"{_outcome(run, event)} ({self._ended}/{self._runs}){before and ', '}{before}")

    def _on_already(self, run: Run, event: Mapping[str, Any]) -> None:
        other = f", by other code: {code}" if (code := event.get("code")) else ""
        said = f"done before{other}; --overwrite does it again"
        if self._runs > 1:
            self._before[run.id] = said
        else:
            self._line(run, said)

    def _on_starting(self, run: Run, event: Mapping[str, Any]) -> None:
        self._begins(run, "starting, importing JAX")

    def _on_wait(self, run: Run, event: Mapping[str, Any]) -> None:
        self._line(run, "another process runs this run; waiting for it")

    def _on_note(self, run: Run, event: Mapping[str, Any]) -> None:
        self._line(run, event["said"])

    def _on_data(self, run: Run, event: Mapping[str, Any]) -> None:
        if (run.id, event["what"]) not in self._making:
            self._making.add((run.id, event["what"]))
            self._begins(run, f"{event['what']}, {event['total']:,}")
            self._remove(run)
        self._advance(run, f"{run.task_name}: {event['what']}", event["done"], event["total"])

    def _on_compile(self, run: Run, event: Mapping[str, Any]) -> None:
        self._remove(run)
        self._line(run, f"compiling, L = {event['length']:,}")
        self._pulse(run, "compiling")

    def _on_compiled(self, run: Run, event: Mapping[str, Any]) -> None:
        self._advance(run, f"compiled, L = {run.task.length:,}", event["done"], event["total"])
        if event["done"] == event["total"]:
            self._remove(run)

    def _on_matched(self, run: Run, event: Mapping[str, Any]) -> None:
        self._advance(run, "widths solved for", event["done"], event["total"])
        if event["done"] == event["total"]:
            self._remove(run)

    def _on_unmatched(self, run: Run, event: Mapping[str, Any]) -> None:
        self._line(run, f"left out, it cannot be made so small; {event['why']}")

    def _on_largest(self, run: Run, event: Mapping[str, Any]) -> None:
        self._line(run, f"looking for the largest batch, L = {event['length']}")

    def _on_timing_largest(self, run: Run, event: Mapping[str, Any]) -> None:
        self._begins(run, f"timing a batch of {event['batch']:,}")

    def _on_short(self, run: Run, event: Mapping[str, Any]) -> None:
        self._line(run, f"{event['why']}; the same batch in more micro-batches is tried")

    def _on_start(self, run: Run, event: Mapping[str, Any]) -> None:
        if event["step"]:
            self._line(run, f"resuming from step {event['step']}")
        self._remove(run)

    def _on_step(self, run: Run, event: Mapping[str, Any]) -> None:
        self._says(run)["loss"] = f"{event['loss']:.3f}"
        self._advance(run, f"{run.model} on {run.task_name}", event["step"], event["steps"])

    def _on_val(self, run: Run, event: Mapping[str, Any]) -> None:
        unit = "%" if named(run.task.metric).share else ""
        self._says(run)["val"] = f"{score(event['val_score'], run.task.metric)}{unit}"
        if self._progress is None:
            steps = f"step {event['step']}/{run.recipe.training.steps}"
            left = f"{event['left_s'] / 60:.1f} min left"
            loss = "" if event["train_loss"] is None else f"loss {event['train_loss']:.3f}  "
            self._line(run, f"{steps}  {loss}val {self._says(run)['val']}  {left}")

    def _on_evaluate(self, run: Run, event: Mapping[str, Any]) -> None:
        if self._progress is not None and run.id in self._bars:
            evaluating = f"evaluating {event['done']}/{event['total']}"
            self._progress.update(self._bars[run.id], said=f"{self._words(run)}  {evaluating}")

    def _on_test(self, run: Run, event: Mapping[str, Any]) -> None:
        self._begins(run, f"evaluating test, {event['n']:,} examples")

    def _on_timing(self, run: Run, event: Mapping[str, Any]) -> None:
        self._begins(run, "timing the forward pass")

    def _on_round(self, run: Run, event: Mapping[str, Any]) -> None:
        self._advance(run, f"timed rounds, L = {run.task.length:,}", event["done"], event["total"])
        if self._progress is None:
            err.print(f"L = {run.task.length}: timed round {event['done']}/{event['total']}", highlight=False)

    def _on_stopping(self, run: Run, event: Mapping[str, Any]) -> None:
        self._line(run, "saving; Ctrl-C again ends it at once")


def _outcome(run: Run, event: Mapping[str, Any]) -> str:
    """A line's worth of a run's result."""
    metric = run.metric
    unit = " %" if metric.share else ""
    for split in ("test", "val"):
        if (value := event.get(f"{split}_score")) is not None:
            learned = ", at chance" if event["status"] == "at-chance" else ""
            return f"{split} {score(value, metric.name)}{unit}{learned}"
    return f"{event['status']}: {event['error']}" if event.get("error") else str(event["status"])


@contextmanager
def watching(runs: int = 1) -> Iterator[Watch]:
    """A watch of so many runs, with a live display where stderr is a terminal."""
    if not err.is_terminal:
        yield Watch(None, runs)
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
        yield Watch(progress, runs)


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
