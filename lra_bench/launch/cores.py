"""Cores of this machine, held by one run against the others that an engine puts beside it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def held(count: int) -> Iterator[list[int]]:
    """So many cores that no other process holds, let go at the end or with its death; none, if too few are left or
    there are no locks to hold them by."""
    folder = Path(tempfile.gettempdir()) / f"lra-cores-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        ours: list[int] = []
        for core in sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []:
            if len(ours) < count and _taken(stack, folder / str(core)):
                ours.append(core)
        if len(ours) < count:
            stack.close()
            ours = []
        yield ours


def _taken(stack: ExitStack, path: Path) -> bool:
    file = stack.enter_context(path.open("wb"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
