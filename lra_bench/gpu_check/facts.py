"""What is known of runs, kept in a file of the lease's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

from lra_bench.config import Run
from lra_bench.gpu_check.lease import Lease
from lra_bench.records import fingerprint

OK = "ok"
TRIES = 2  # of what fails, with one code


class Facts:
    """A fact a run. One whose mixer or kernels have changed since is found out again; one that failed is tried again in
    a later lease."""

    def __init__(self, lease: Lease, name: str) -> None:
        self._lease, self._name = lease, name
        self._of = {fact["run"]: fact for fact in lease.kept(name)}
        self._lock = Lock()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._of.values())

    @property
    def known(self) -> int:
        """How many are."""
        return sum(fact["status"] == OK for fact in self)

    def get(self, run: Run) -> dict[str, Any] | None:
        """That of a run, if there is one."""
        return self._of.get(run.id)

    def left(self, runs: Iterable[Run]) -> list[Run]:
        """Those of which nothing is known yet that will not be found out again."""
        return [run for run in runs if self._is_left(run)]

    def keep(self, runs: Sequence[Run], found: Sequence[Mapping[str, Any]]) -> None:
        """A fact for each of the runs."""
        for run, fact in zip(runs, found, strict=True):
            code = fingerprint.of(run)
            tries = {} if fact["status"] == OK else {"tries": 1 + self._failed(run, code)}
            with self._lock:
                self._of[run.id] = {"run": run.id, "model": run.model, **fact, **code, **tries}
            if tries:
                where = f"{run.model}, L = {run.task.length:,}, {run.recipe.backbone.dtype}"
                self._lease.say(f"{self._name}: {where}: {fact['status']}: {fact['error']}")
        self.save()

    def save(self) -> None:
        """Into the file."""
        with self._lock:
            self._lease.keep(self._name, list(self))

    def _is_left(self, run: Run) -> bool:
        fact = self.get(run)
        if fact is None or fact.get("parts_hash") != (code := fingerprint.of(run))["parts_hash"]:
            return True
        return fact["status"] != OK and self._failed(run, code) < TRIES

    def _failed(self, run: Run, code: Mapping[str, str]) -> int:
        """How often it failed as the code is now."""
        fact = self.get(run)
        return fact.get("tries", 0) if fact is not None and fingerprint.apart(code, fact) is None else 0
