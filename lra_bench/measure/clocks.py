"""Time: a stopwatch that can pause, and the laps of a loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np


class Stopwatch:
    """Seconds since it was made, and those that are added: of earlier sessions."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def add(self, seconds: float) -> None:
        """Count so many more."""
        self._start -= seconds

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start


class StepTimer:
    """Milliseconds between laps, without the pauses; the last `keep` of them.

    A lap ends when its result is there: call `lap` after waiting for the device. The first lap after `skip` holds
    allocation and first touch, so it is not kept.
    """

    def __init__(self, before: Iterable[float] = (), keep: int = 2000) -> None:
        self.ms: deque[float] = deque(before, keep)
        self._since: float | None = None
        self._skip = True

    def start(self) -> None:
        """Begin a lap that ends with the next `lap`."""
        self._since = time.perf_counter()

    def lap(self, steps: int = 1) -> None:
        """End a lap and begin the next one; of several steps, what one takes on average is kept."""
        now = time.perf_counter()
        if self._since is not None and not self._skip:
            self.ms.append((now - self._since) * 1e3 / steps)
        self._skip = False
        self._since = now

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside is not part of a lap."""
        try:
            yield
        finally:
            self.start()

    def percentile(self, q: float) -> float | None:
        """The `q`-th percentile, milliseconds; None before a lap was kept."""
        return float(np.percentile(np.asarray(self.ms), q)) if self.ms else None


@contextmanager
def lapped(into: deque[float]) -> Iterator[None]:
    """Append the milliseconds that the block takes to `into`."""
    start = time.perf_counter()
    yield
    into.append((time.perf_counter() - start) * 1e3)
