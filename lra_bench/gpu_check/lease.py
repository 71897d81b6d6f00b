"""The time that a machine is lent for, and the folder of what was found there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import lra_bench
from lra_bench.config import Run
from lra_bench.launch import local
from lra_bench.launch.watch import Terms
from lra_bench.records import store

SILENCE = 120.0  # seconds: a process that says nothing for so long hangs
NOTES = "notes.json"


class OutOfTime(Exception):
    """The lease is over; what was found is kept."""


@dataclass
class Lease:
    """So many seconds from now on; `out` is kept."""

    out: Path
    seconds: float
    silence: float = SILENCE
    begun: float = field(default_factory=time.monotonic)
    lock: Lock = field(default_factory=Lock)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.begun)

    @cached_property
    def here(self) -> dict[str, Any]:
        """The machine, asked once.

        Raises:
            ConfigError, RunFailed: as `local.machine`.
        """
        return local.machine(seconds=max(self.left, 0))

    def terms(self) -> Terms:
        """What a process that begins now is held to."""
        return Terms(max(self.left, 0), self.silence, self.out / "log.txt")

    def go_on(self) -> None:
        """Is there time for more?

        Raises:
            OutOfTime: it is over.
        """
        if self.left <= 0:
            raise OutOfTime

    def hear(self, run: Run, event: Mapping[str, Any]) -> None:
        """Say and keep what a process notes of a run, once, however many processes note it."""
        if event["event"] != "note":
            return
        note = {"model": run.model, "said": event["said"]}
        with self.lock:
            known = self.kept(NOTES)
            if note in known:
                return
            store.write_json(self.out / NOTES, [*known, note])
        self.say(f"{run.model}: {event['said']}")

    def tell(self, run: Run, event: Mapping[str, Any]) -> None:
        """Called with each event of a process, which is ended where this raises.

        Raises:
            OutOfTime: it is over.
        """
        self.hear(run, event)
        self.go_on()

    def kept(self, name: str) -> list[dict[str, Any]]:
        """What is known already of a part."""
        path = self.out / name
        return list(store.read_json(path)) if path.exists() else []

    def keep(self, name: str, facts: list[dict[str, Any]]) -> None:
        """What is known of a part now."""
        with self.lock:
            store.write_json(self.out / name, facts)

    def say(self, line: str) -> None:
        """A line for who watches, with the seconds since the beginning."""
        with self.lock:
            print(f"{time.monotonic() - self.begun:6.0f} s  {line}", flush=True)

    def environment(self) -> dict[str, str]:
        """Where its processes find this package, and where they keep what they make: below `out`, if the user has named
        no other place."""
        cache, package = (self.out / "cache").absolute(), Path(lra_bench.__file__).parent.parent
        places = {"LRA_CACHE": str(cache), "JAX_COMPILATION_CACHE_DIR": str(cache / "compiled")}
        there = {name: os.environ.get(name) or place for name, place in places.items()}
        found = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
        return there | {"PYTHONPATH": found}


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process, and of those that are begun meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
