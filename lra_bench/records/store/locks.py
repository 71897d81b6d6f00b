"""Locks of runs' folders against other processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from lra_bench.errors import LOCKS, PlaceError, using


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the run's folder against other processes; wait for one that has it. A killed holder lets go."""
    with using(path):
        path.mkdir(parents=True, exist_ok=True)
    with (path / "run.lock").open("wb") as file:
        lock(file.fileno(), path)
        yield


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Of the processes that come here with a folder one at a time, where its file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Does another process run this run now?"""
    held = path / "run.lock"
    if not held.exists():
        return False
    with held.open("wb") as file:
        try:
            lock(file.fileno(), path, wait=False)
        except BlockingIOError:
            return True
    return False


def lock(handle: int, path: Path, *, wait: bool = True) -> None:
    """Lock an open file of `path` against other processes, until it is closed.

    Raises:
        BlockingIOError: another has it, and it is not waited for.
        PlaceError: the file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        raise PlaceError(f"{path}: its file system has no locks ({error.strerror}): {LOCKS}") from None
