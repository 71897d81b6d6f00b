"""Several processes, one order of results."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from lra_bench.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 8  # beyond that, the process that collects the results is the slowest
AHEAD = 2  # items that wait for each process


def processes() -> int:
    """How many may work at once: the cores we may use.

    Only this one if it is a daemon, which may have no children, or runs a program from standard input, which children
    could not open.
    """
    program = getattr(sys.modules["__main__"], "__file__", None)
    if multiprocessing.current_process().daemon or (program is not None and not Path(program).exists()):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST)


def results(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work(item)` of each item, in the order of the items, which may be endless.

    `work` is done by other processes where there are cores for it, so it must be picklable, and what it returns may
    not depend on what was done before. An exception in it is raised here, in the item's turn.

    Raises:
        DataError: a process died.
    """
    count = processes()
    return map(work, items) if count == 1 else _shared(work, iter(items), count)


def _shared(work: Callable[[Item], Result], items: Iterator[Item], count: int) -> Iterator[Result]:
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin)
    try:
        waiting: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(items, AHEAD * count))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(items, 1))
    except BrokenProcessPool:
        raise DataError(
            "a process that made or read data died: it was killed, perhaps for want of memory, "
            "or the script that called it does so outside of `if __name__ == '__main__':`"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """What a child does first: leave Ctrl-C to its parent, and see to it that it does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
