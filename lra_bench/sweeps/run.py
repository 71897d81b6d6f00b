"""What is done with runs: run those that are not done, time their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lra_bench.config import Launcher, Run
from lra_bench.errors import ConfigError, PlaceError
from lra_bench.launch import local
from lra_bench.launch.engine import Engine, Order, Stopped, opened
from lra_bench.launch.refusals import Refusal, refusal
from lra_bench.measure.asked import Asked
from lra_bench.records import fingerprint, store
from lra_bench.records.schema import SCORED, Result

MOMENT = 0.5  # seconds between two checks: a Ctrl-C that comes as we fall asleep is seen at the next


def run(
    every: Sequence[Run],
    launcher: Launcher,
    order: Order,
    tell: Callable[[Run, dict[str, Any]], None],
    *,
    fail_fast: bool = False,
) -> list[Result]:
    """Have the launcher's engine run the runs that are not done, those that they need first; their results, in order.

    One that fails spares the rest; with `fail_fast` no further one starts, those that run are saved, and the results
    are those that there are.

    Raises:
        Stopped: Ctrl-C; says what became of the runs.
        ConfigError: the only run refused what the user asked for, or the engine cannot be had.
    """
    asked = {run.id for run in every}
    found = {run.id: result for run in every if not order.fresh and (result := store.done(order.results, run))}
    needed = [run for run in with_needs(every) if run.id in asked or store.done(order.results, run) is None]
    left = [run for run in needed if run.id not in found]
    for run in needed:
        if run.id in found:
            _already(run, found[run.id], tell)
        elif not order.fresh:
            _of_other_data(run, order.results, tell)
    for run in with_needs(every):
        if run not in needed:
            _depended_on(run, order.results, tell)
    if left:
        with opened(launcher, left, order) as engine:
            found |= Scheduler(engine, order, tell, fail_fast, alone=len(every) == 1).work(left)
    return [found[run.id] for run in every if run.id in found]


def able(every: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs that can be, with what they depend on; and of each model that cannot on a task, why.

    Raises:
        ConfigError: none can be.
    """
    left, said = list[Run](), dict[str, Refusal]()
    for run in every:
        if why := next(filter(None, map(refusal, (*run.needs, run))), None):
            said[f"left out: {run.model} on {run.task_name}: {why.reason}"] = why
        else:
            left.append(run)
    if said and not left:
        raise ConfigError(str(next(iter(said.values()))))
    return left, list(said)


def with_needs(every: Sequence[Run]) -> list[Run]:
    """The runs, and before each those that are to be trained before it."""
    return list({run.id: run for asked in every for run in (*asked.needs, asked)}.values())


def of_other_code(every: Sequence[Run], results: Sequence[Result]) -> dict[str, str]:
    """By the ids of those runs whose results were made by code that is not what stands here: by which."""
    by_id = {run.id: run for run in every}
    found = {result.run: fingerprint.since(result, by_id[result.run]) for result in results if result.run in by_id}
    return {run: code for run, code in found.items() if code}


def _already(run: Run, result: Result, tell: Callable[[Run, dict[str, Any]], None]) -> None:
    tell(run, {"event": "already", "code": fingerprint.since(result, run)})
    tell(run, _ended(result))


def _ended(result: Result) -> dict[str, Any]:
    return {"event": "ended", "status": result.status, "test_score": result.test_score, "error": result.error}


def _depended_on(run: Run, results: Path, tell: Callable[[Run, dict[str, Any]], None]) -> None:
    """Say so if a run that others depend on was made by other code."""
    result = store.done(results, run)
    if result is not None and (code := fingerprint.since(result, run)):
        tell(run, {"event": "note", "said": f"others depend on it, and it was made by other code: {code}"})


def _of_other_data(run: Run, results: Path, tell: Callable[[Run, dict[str, Any]], None]) -> None:
    """Say so if there is such a run, on what the files held before: it is not reused."""
    for folder in store.on_other_data(results, run):
        where = ", ".join(sorted({task.folder for task in run.every_task if task.folder}))
        said = f"{folder.name} is not reused: what it was trained on has changed since, in {where}"
        tell(run, {"event": "note", "said": said})


@dataclass
class Scheduler:
    """Runs that an engine works through, a thread each of those that it has at once."""

    engine: Engine
    order: Order
    tell: Callable[[Run, dict[str, Any]], None]
    fail_fast: bool
    alone: bool  # there is one run, and what it refuses is the user's to see
    failed: bool = False
    _futures: dict[str, Future[Result | None]] = field(default_factory=dict, init=False)

    def work(self, runs: Sequence[Run]) -> dict[str, Result]:
        """The results of the runs that have one at the end, by the runs' ids.

        Raises:
            Stopped: Ctrl-C, or somebody stopped a run.
            ConfigError: the only run refused what the user asked for.
            PlaceError: a disk is full, or a place cannot be used.
        """
        with ThreadPoolExecutor(self.engine.at_once, "run") as pool:
            futures, asked = self._waited(pool, runs)
        results = [_outcome(future) for future in futures]
        if asked or (self.engine.ended and not self.failed):
            raise Stopped(self.engine.parting())
        return {run.id: result for run, result in zip(runs, results, strict=True) if result is not None}

    def _one(self, run: Run) -> Result | None:
        if self.engine.ended:
            return None
        result = None if self.order.fresh else store.done(self.order.results, run)
        if result is not None:  # by another command, meanwhile
            _already(run, result, self.tell)
            return result
        lacking = self._lacking(run)
        if self.engine.ended:
            return None
        try:
            result = self._run(run, lacking)
        except Stopped:
            self.engine.leave()  # Ctrl-C reaches a run before it reaches us
            raise
        except PlaceError:
            self.engine.end()  # what other runs leave would find no room either
            raise
        self.tell(run, _ended(result))
        if self.fail_fast and result.status not in SCORED:
            self.failed = True
            self.engine.end()
        return result

    def _run(self, run: Run, lacking: str | None) -> Result:
        if lacking:
            result = store.blank(run, "error", lacking)
            store.save(self.order.results, run, result)
            return result
        try:
            return self.engine.run(run, partial(self.tell, run))
        except ConfigError as error:
            if self.alone:
                raise
            result = store.blank(run, "error", str(error))
            store.save(self.order.results, run, result)
            return result

    def _lacking(self, run: Run) -> str | None:
        """Once all that the run depends on has ended, what of it has no result."""
        for needed in run.needs:
            if needed.id in self._futures:  # begun before it, so it is never one that waits for us
                wait([self._futures[needed.id]])
            result = store.done(self.order.results, needed)
            if result is None or result.status not in SCORED:
                why = result.status if result else "it failed"
                return f"{needed.folder}, which it depends on, has no result: {why}"
        return None

    def _waited(self, pool: ThreadPoolExecutor, runs: Sequence[Run]) -> tuple[list[Future[Result | None]], bool]:
        """Hand out all and wait; did the user ask to stop? A first Ctrl-C leaves the engine, a second kills."""
        futures: list[Future[Result | None]] = []
        asked = told = False
        while True:
            try:
                for run in runs[len(futures) :]:
                    futures.append(pool.submit(self._one, run))
                    self._futures[run.id] = futures[-1]
                while wait(futures, MOMENT).not_done:
                    if asked and not told:
                        self.tell(runs[-1], {"event": "stopping"})
                        told = True
                return futures, asked
            except KeyboardInterrupt:
                (self.engine.kill if asked else self.engine.leave)()
                asked = True


def _outcome(future: Future[Result | None]) -> Result | None:
    try:
        return future.result()
    except Stopped:
        return None


def supply(every: Sequence[Run], rounds: int, tell: Callable[[Run, dict[str, Any]], None]) -> Iterator[dict[str, Any]]:
    """How fast each run's examples are made and cut into batches, and how fast its step consumes them, one by one.

    One whose examples cannot be had spares the rest: its `error` says why.
    """
    for run in every:
        asked: dict[str, Any] = {"task": run.task_name, "variant": run.task.variant, "model": run.model}
        asked |= {"length": run.task.length, "batch": run.recipe.training.batch}
        try:
            yield asked | local.measure([run], Asked(rounds, fed=True), partial(tell, run))[0]
        except ConfigError as error:
            yield asked | {"error": str(error)}
