"""A process that answers is ended when its time is over, and when it has said nothing for too long."""

from __future__ import annotations

import math
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

LOOK = 0.2  # seconds between two looks at it


class Terms(NamedTuple):
    """What a process is held to, and what is left of it if it dies."""

    seconds: float = math.inf  # that it may take
    silence: float = math.inf  # seconds from one of its events to the next
    log: Path | None = None  # to which what it wrote to stderr is added


FREE = Terms()


class Watch:
    """One process under such terms; `why` it was ended, once it was."""

    def __init__(self, child: subprocess.Popen[str], terms: Terms) -> None:
        self.why: str | None = None
        self._child, self._terms = child, terms
        self._begun = self._heard = time.monotonic()

    def heard(self) -> None:
        """It has said something."""
        self._heard = time.monotonic()

    def look(self) -> None:
        """End it where it is time."""
        now = time.monotonic()
        if now - self._begun >= self._terms.seconds:
            self.why = "ended, as its time was over"
        elif now - self._heard >= self._terms.silence:
            self.why = f"ended, as it had said nothing for {self._terms.silence:g} s"
        else:
            return
        self._child.kill()


@contextmanager
def watched(child: subprocess.Popen[str], terms: Terms) -> Iterator[Watch]:
    """Meanwhile the process is held to the terms."""
    watch = Watch(child, terms)
    with every(LOOK, watch.look):
        yield watch


@contextmanager
def every(seconds: float, look: Callable[[], object]) -> Iterator[None]:
    """Meanwhile, look again and again, on a thread of its own."""
    over = threading.Event()

    def looking() -> None:
        while not over.wait(seconds):
            look()

    thread = threading.Thread(target=looking, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
