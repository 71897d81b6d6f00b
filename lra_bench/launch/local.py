"""Start runs on this machine, each in a process of its own, one after another or several at once."""

from __future__ import annotations

import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from lra_bench.config import Local, Run
from lra_bench.errors import ConfigError, RunFailed, refusal
from lra_bench.launch import grace, variables
from lra_bench.launch.engine import Engine, Order, Stopped, Tell
from lra_bench.launch.place import KEEP_MEMORY, WHOLE, Place, dealt, on, places
from lra_bench.launch.process_group import Child, blamed, start
from lra_bench.launch.provenance import commit
from lra_bench.launch.watch import FREE, Terms, Watch, watched
from lra_bench.measure.asked import Asked
from lra_bench.measure.memory_limit import JOBS
from lra_bench.records import store
from lra_bench.records.schema import Result

INTERRUPTED = 130
LOG = 2**16  # characters that are kept of what a process wrote before it died
PYTHON = (sys.executable, "-P", "-m")  # no file of the working folder stands for a library's module


class ProcessPool(Engine):
    """The processes of runs that run at once, on a share of the machine each. Ctrl-C is for all of them."""

    def __init__(self, order: Order, places: Sequence[Place]) -> None:
        """`places` are the shares of the machine, one for each run that runs at once."""
        super().__init__(len(places))
        self._order = order
        self._notes = [*([note] if (note := dealt(places)) else []), *variables.left_out(dict(os.environ))]
        self._children: set[Child] = set()
        self._lock = threading.RLock()  # a signal's handler may ask for the end amid our own hold
        self._places: queue.Queue[Place] = queue.Queue()
        for place in places:
            self._places.put(place)

    def run(self, run: Run, tell: Tell) -> Result:
        """Execute the run in a process of its own, on its share of the machine."""
        with self._lock:
            notes, self._notes = self._notes, []
        for note in notes:
            tell({"event": "note", "said": note})
        return execute(run, self._order, tell, self)

    @contextmanager
    def share(self) -> Iterator[Place]:
        """What one run has for itself while it runs."""
        place = self._places.get()
        try:
            yield place
        finally:
            self._places.put(place)

    @contextmanager
    def member(self, child: Child) -> Iterator[None]:
        """A process that is told when the pool is to end."""
        with self._lock:
            self._children.add(child)
        if self.ended:
            child.send_signal(signal.SIGINT)
        try:
            yield
        finally:
            with self._lock:
                self._children.discard(child)

    def end(self) -> None:
        """Ask all to save and stop, once; those that have not, after a while, are killed."""
        if not self.ended:
            self.ended = True
            self._send(signal.SIGINT)
            grace.then(self.kill).start()

    def kill(self) -> None:
        """End all at once."""
        self._send(signal.SIGKILL)

    def wait(self) -> None:
        """Until none runs."""
        with self._lock:
            children = list(self._children)
        for child in children:
            child.wait()

    def _send(self, what: signal.Signals) -> None:
        with self._lock:
            for child in self._children:
                child.send_signal(what)


@contextmanager
def opened(settings: Local, runs: Sequence[Run], order: Order) -> Iterator[ProcessPool]:
    """A pool on all of this machine."""
    yield ProcessPool(order, places(order.jobs or settings.jobs, order.processes))


def machine(place: Place = WHOLE, seconds: float | None = None) -> dict[str, Any]:
    """Where a run would run: a result's columns of the place, and `available_bytes`, asked in a process of its own,
    which may take so many seconds.

    Raises:
        ConfigError: it has no such device as is asked for.
        RunFailed: the process died, or took longer.
    """
    command, ours = [*PYTHON, "lra_bench.measure.machine"], place.environment()
    try:
        with on(place.cores):
            asked = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", env=ours, timeout=seconds
            )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"{command[-1]} opened no device in {seconds:.0f} s") from None
    said = dict(json.loads(asked.stdout)) if asked.stdout else {}
    if said.get("event") == "refused":
        raise refusal(said)
    if asked.returncode:
        raise RunFailed(f"{command[-1]} ended with code {asked.returncode}: {_last(asked.stderr)}")
    return said


def ordinals(place: Place, processes: int) -> list[int]:
    """Of the GPUs that a run sees, those that its processes are dealt, as many to each; none where nothing is dealt.

    Raises:
        ConfigError: there are not as many as processes.
    """
    if processes == 1:
        return []
    return list(range(len(place.gpus.names))) if place.gpus else gpus(processes)


@cache
def gpus(processes: int) -> list[int]:
    """This machine's GPUs, as many for each process, where several train a run together; none if it has none.

    Raises:
        ConfigError: there are not as many.
    """
    if processes == 1 or os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    place = machine()
    if place["platform"] == "cpu":
        return []
    if place["platform"] != "gpu" or place["devices"] < processes:
        raise ConfigError(f"--processes {processes}: of this machine's {place['devices']} {place['device']}, one each")
    return list(range(place["devices"] // processes * processes))


def execute(run: Run, order: Order, tell: Tell, pool: ProcessPool) -> Result:
    """Execute the run as one of a pool and wait; its result, which stands in the results folder too.

    Raises:
        Stopped: Ctrl-C; the run has saved its state.
        ConfigError: the run refused what the user asked for.
        PlaceError: a disk is full, or a place cannot be used.
    """
    results, fresh, minutes = order.results, order.fresh, order.minutes
    folder = store.folder(results, run)
    store.write_json(folder / "run.json", run.model_dump())
    if fresh:
        (folder / "result.json").unlink(missing_ok=True)
    asked = command(folder, pool.at_once, fresh=fresh)
    with pool.share() as place:
        devices = ordinals(place, order.processes)
        tell({"event": "starting"})
        child = start(asked, folder, place.environment(), order.processes, place.cores, devices)
        with pool.member(child), grace.timed(child, minutes) as late:
            last = _listen(child, tell)
    if child.returncode == 0:
        result = store.get(results, run)
        assert result is not None, "a run that ends well has left its result"
        return result
    if last.get("event") == "refused":
        raise refusal(last)
    if (child.returncode == INTERRUPTED and not late.is_set()) or (pool.ended and child.returncode < 0):
        raise Stopped
    result = _failed(run, child.returncode, minutes if late.is_set() else None, *blamed(child, folder))
    store.save(results, run, result)
    return result


def command(folder: Path, jobs: int, *, fresh: bool = False) -> list[str]:
    """What runs the run whose run.json lies in a folder, beside `jobs` - 1 others."""
    head, dirty = commit()
    asked = [*PYTHON, "lra_bench.runs.execute", str(folder), "--jobs", str(jobs)]
    return [
        *asked, *(["--overwrite"] if fresh else []), *(["--commit", head] if head else []),
        *(["--dirty"] if dirty else []),
    ]  # fmt: skip


def line(run: Run, results: Path, jobs: int) -> str:
    """A line of a shell that runs the run by itself, whose run.json is put where it will lie."""
    folder = store.folder(results.resolve(), run)
    store.write_json(folder / "run.json", run.model_dump())
    given = KEEP_MEMORY | ({JOBS: jobs} if jobs > 1 else {})
    unset = [word for name in variables.NUMBERS for word in ("-u", name)]
    return shlex.join(["env", *unset, *(f"{key}={value}" for key, value in given.items()), *command(folder, jobs)])


def measure(
    runs: Sequence[Run],
    asked: Asked,
    tell: Callable[[dict[str, Any]], None],
    place: Place = WHOLE,
    terms: Terms = FREE,
) -> list[dict[str, Any]]:
    """Compile the runs' steps and time them in turn, in one process; what is known of each, in order.

    Raises:
        Stopped, ConfigError, RunFailed: as `answers` does.
    """
    return answers("lra_bench.speed", runs, asked._asdict(), tell, place, terms)


def answers(
    module: str,
    runs: Sequence[Run],
    asked: dict[str, Any],
    tell: Callable[[dict[str, Any]], None],
    place: Place = WHOLE,
    terms: Terms = FREE,
) -> list[dict[str, Any]]:
    """What a module says of the runs in a process of its own, in that place: the facts of each, in order.

    Where `tell` raises, the process is ended, and what it raised goes on.

    Raises:
        Stopped: Ctrl-C.
        ConfigError: a run refused what the user asked for.
        PlaceError: a disk is full, or a place cannot be used.
        RunFailed: the process died, or was ended by the terms that it is held to.
    """
    with tempfile.TemporaryDirectory() as folder:
        files, log = (Path(folder) / "runs.json", Path(folder) / "asked.json"), Path(folder) / "log.txt"
        store.write_json(files[0], [run.model_dump() for run in runs])
        store.write_json(files[1], asked)
        command = [*PYTHON, module, *map(str, files)]
        tell({"event": "starting"})
        with log.open("wb") as stderr:
            with on(place.cores):
                child = subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    encoding="utf-8",
                    errors="replace",
                    env=place.environment(),
                )
            try:
                with watched(child, terms) as watch:
                    last = _listen(child, _heard(watch, tell))
            finally:
                if child.poll() is None:
                    child.kill()
                    child.wait()
        if last.get("event") == "refused":
            raise refusal(last)
        if child.returncode in (-signal.SIGINT, INTERRUPTED):
            raise Stopped
        if last.get("event") != "facts":
            said = f"{module} {watch.why or f'ended with code {child.returncode}'}: {_last_line(log)}"
            _keep(log, terms.log, said)
            raise RunFailed(said)
    facts: list[dict[str, Any]] = last["facts"]
    return facts


def _heard(watch: Watch, tell: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """`tell`, of events that are also signs of life."""

    def told(event: dict[str, Any]) -> None:
        watch.heard()
        tell(event)

    return told


def _keep(log: Path, kept: Path | None, said: str) -> None:
    """Add the end of what a process wrote to stderr to what is kept of others."""
    if kept is None:
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("a", encoding="utf-8") as file:
        file.write(f"{said}\n{log.read_text(encoding='utf-8', errors='replace')[-LOG:]}\n")


def _listen(child: Child, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Pass on events until the child ends; the last one. Ctrl-C asks it to save and stop, a second one ends it."""
    assert child.stdout is not None
    last: dict[str, Any] = {}
    asked = False
    killer = grace.then(child.send_signal, signal.SIGKILL)
    try:
        while True:
            try:
                line = child.stdout.readline()
                if not line:
                    child.wait()
                    return last
                if line.startswith('{"event"'):
                    last = json.loads(line)
                    tell(last)
            except KeyboardInterrupt:
                child.send_signal(signal.SIGKILL if asked else signal.SIGINT)
                if not asked:
                    killer.start()
                asked = True
                tell({"event": "stopping"})
    finally:
        killer.cancel()


def _failed(run: Run, code: int, minutes: float | None, who: str, log: Path) -> Result:
    if minutes is not None:
        killed = f", killed as it did not in {grace.SECONDS:g} s" if code == -signal.SIGKILL else ""
        return store.blank(run, "timeout", f"stopped after {minutes:g} minutes{killed}; the same command resumes")
    if code == -signal.SIGKILL:
        return store.blank(run, "oom", f"{who}killed by the system (signal 9): most likely out of memory")
    return store.blank(run, "error", f"{who}ended with code {code}: {_last_line(log)}"[:300])


def _last_line(log: Path) -> str:
    return _last(log.read_text(encoding="utf-8", errors="replace"))


def _last(text: str) -> str:
    """The last line that says something."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no word")
