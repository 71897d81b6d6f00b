"""The time that a machine is lent for, and the folder of what was found there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from lra_bench.config import Run
from lra_bench.records import store


class OutOfTime(Exception):
    """The lease is over; what was found is kept."""


@dataclass
class Lease:
    """So many seconds from now on; `out` is kept."""

    out: Path
    seconds: float
    begun: float = field(default_factory=time.monotonic)
    lock: Lock = field(default_factory=Lock)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.begun)

    def tell(self, run: Run, event: Mapping[str, Any]) -> None:
        """Called with each event of a process, which is ended where this raises.

        Raises:
            OutOfTime: it is over.
        """
        if self.left <= 0:
            raise OutOfTime

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
