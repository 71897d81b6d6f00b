"""Who has a cell: held against other processes."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the cell's folder against other processes; wait for one that has it. A killed holder lets go."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / "cell.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_claimed(path: Path) -> bool:
    """Does another process run this cell now?"""
    lock = path / "cell.lock"
    if not lock.exists():
        return False
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
