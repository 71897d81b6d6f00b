"""A run as a job that submitit runs, and queues again when it is preempted or out of time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lra_bench.launch.engine import Order
from lra_bench.launch.local import ProcessPool
from lra_bench.launch.place import Place
from lra_bench.launch.remote_task import RemoteTask
from lra_bench.records import store


@dataclass
class Job:
    """Called by submitit where the job runs; its output is the run's events, a line of JSON each."""

    remote: RemoteTask
    grace: float  # seconds in which the signal to queue again follows another that has stopped the run
    beside: int  # runs that run at once on the machine
    _pool: ProcessPool | None = field(default=None, init=False)

    def __call__(self) -> dict[str, Any]:
        """Do the remote task; the outcome."""
        outcome = self.remote.do(self._make_executor, lambda event: print(store.as_json(event, None), flush=True))
        if "stopped" in outcome:
            time.sleep(self.grace)
        return outcome

    def checkpoint(self) -> Any:
        """Called by submitit when the job must go: once the run has saved, what to run next time."""
        from submitit.helpers import DelayedSubmission

        if self._pool is not None:
            self._pool.end()
            self._pool.wait()
        return DelayedSubmission(Job(self.remote, self.grace, self.beside))

    def _make_executor(self, order: Order) -> ProcessPool:
        self._pool = ProcessPool(order, [Place(jobs=self.beside)] * self.beside)
        return self._pool


class Log:
    """The events in a job's output, as they come."""

    def __init__(self, path: Path) -> None:
        self.path, self._read = path, 0

    def news(self) -> Iterator[dict[str, Any]]:
        """Those since the last look."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if line.startswith(b'{"event"'):
                yield json.loads(line)
