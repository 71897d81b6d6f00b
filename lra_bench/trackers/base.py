"""The door between the events of runs and the trackers: they wait for no tracker, and no tracker can harm them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from lra_bench.config import Run
from lra_bench.records import store
from lra_bench.records.schema import Result

PATIENCE = 60.0  # seconds that trackers may take to send the rest
CURVE = ("train_loss", "val_score")

Tell = Callable[[Run, Mapping[str, Any]], None]
Event = tuple[Run, Mapping[str, Any]]


class TrackedRun(Protocol):
    """One run's run as a tracker has it; see the package."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def end(self, result: Result | None) -> None: ...


Make = Callable[[Path, Run], TrackedRun]


class Tracked:
    """What one tracker has been told of the runs of a results folder."""

    def __init__(self, make: Make, results: Path) -> None:
        self._make, self._results = make, results
        self._runs: dict[str, TrackedRun] = {}
        self._not_ours: set[str] = set()  # runs that were done before, or that another process runs

    def __call__(self, run: Run, event: Mapping[str, Any]) -> None:
        """Pass on what there is to tell."""
        what = event["event"]
        if what in ("already", "wait"):
            self._not_ours.add(run.id)
        elif what == "start":
            self._not_ours.discard(run.id)
            self._run(run)
        elif what == "val":
            self._run(run).log(event["step"], {name: event[name] for name in CURVE})
        elif what == "ended" and run.id not in self._not_ours:
            self._run(run).end(store.get(self._results, run))
            del self._runs[run.id]

    def _run(self, run: Run) -> TrackedRun:
        if run.id not in self._runs:
            self._runs[run.id] = self._make(self._results, run)
        return self._runs[run.id]

    def close(self) -> None:
        """End what was stopped."""
        for run in self._runs.values():
            run.end(None)


@contextmanager
def opened(makers: Mapping[str, Make], results: Path, warn: Callable[[str], None]) -> Iterator[Tell]:
    """Tells the trackers, by name, of events, in a thread of its own; at the end they have `PATIENCE` for the rest.

    `warn` gets one line of a tracker that fails, which is told nothing more.
    """
    if not makers:
        yield lambda run, event: None
        return
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    told = {name: Tracked(make, results) for name, make in makers.items()}
    thread = threading.Thread(target=_listen, args=(events, told, warn), name="trackers", daemon=True)
    thread.start()
    try:
        yield lambda run, event: events.put((run, event))
    finally:
        events.put(None)
        thread.join(PATIENCE)
        if thread.is_alive():
            warn(f"{', '.join(told)}: still busy after {PATIENCE:.0f} s; what was not sent by now is not")


def _listen(events: queue.SimpleQueue[Event | None], told: dict[str, Tracked], warn: Callable[[str], None]) -> None:
    while (event := events.get()) is not None:
        _each(told, lambda tracked, e=event: tracked(*e), warn)  # type: ignore[misc]
    _each(told, Tracked.close, warn)


def _each(told: dict[str, Tracked], do: Callable[[Tracked], None], warn: Callable[[str], None]) -> None:
    """Do it to every tracker; one that fails is left out from then on."""
    for name in list(told):
        try:
            do(told[name])
        except Exception as error:
            del told[name]
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            warn(f"--track {name}: {what}; the runs continue without it")
