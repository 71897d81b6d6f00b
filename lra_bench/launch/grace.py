"""A process that is asked to save and stop has a while in which to do so; then it is killed.

It sees the signal between two steps of training: not while it compiles, makes examples or is tested.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lra_bench.launch.process_group import Child

SECONDS = 60.0  # that it has


def then(call: Callable[..., Any], *arguments: Any) -> threading.Timer:
    """What makes the call when the time is over, not started."""
    return _after(SECONDS, call, *arguments)


@contextmanager
def timed(child: Child, minutes: float | None) -> Iterator[threading.Event]:
    """After so many minutes, if any, the child is asked to save and stop. The event: it was asked."""
    late = threading.Event()

    def ring() -> None:
        late.set()
        child.send_signal(signal.SIGTERM)

    seconds = (minutes or 0) * 60
    timers = [_after(seconds, ring), _after(seconds + SECONDS, child.send_signal, signal.SIGKILL)]
    for timer in timers if minutes is not None else ():
        timer.start()
    try:
        yield late
    finally:
        for timer in timers:
            timer.cancel()


def _after(seconds: float, call: Callable[..., Any], *arguments: Any) -> threading.Timer:
    timer = threading.Timer(seconds, call, arguments)
    timer.daemon = True  # it does not keep us alive
    return timer
