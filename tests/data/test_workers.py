"""Several processes: the order of the items, their exceptions, and none that is left behind."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lra_bench.data import workers
from lra_bench.errors import DataError


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "processes", lambda: 2)


def slower_when_even(item: int) -> tuple[int, int]:
    time.sleep(0.05 * (item % 2 == 0))
    return item, os.getpid()


def three_is_wrong(item: int) -> int:
    if item == 3:
        raise DataError("item 3 is wrong")
    return item


def dies(item: int) -> int:
    os._exit(item)


def test_results_come_in_the_order_of_the_items() -> None:
    found = list(workers.results(slower_when_even, range(12)))
    assert [item for item, _ in found] == list(range(12))
    assert os.getpid() not in {process for _, process in found}


def test_items_may_be_endless_and_are_not_run_through() -> None:
    drawn = itertools.count()
    results: Iterator[tuple[int, int]] = workers.results(slower_when_even, drawn)
    assert next(results)[0] == 0
    results.close()  # type: ignore[attr-defined]
    assert next(drawn) <= 1 + workers.AHEAD * 2
    assert multiprocessing.active_children() == []


def test_an_exception_is_raised_in_its_turn() -> None:
    found = []
    with pytest.raises(DataError, match="item 3 is wrong"):
        found.extend(workers.results(three_is_wrong, range(9)))
    assert multiprocessing.active_children() == []


def test_the_death_of_a_process_is_told() -> None:
    with pytest.raises(DataError, match="a process that made or read data died"):
        list(workers.results(dies, [1]))


def test_one_process_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "processes", lambda: 1)
    assert [process for _, process in workers.results(slower_when_even, range(3))] == [os.getpid()] * 3


def stays(item: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def parent(told: multiprocessing.Queue[int]) -> None:
    workers.processes = lambda: 2
    for process in workers.results(stays, itertools.count()):
        told.put(process)


def gone(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_children_do_not_outlive_a_parent_that_is_killed() -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=parent, args=(told,))
    process.start()
    children = {told.get(timeout=60) for _ in range(20)}
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    end = time.monotonic() + 10
    while not all(map(gone, children)) and time.monotonic() < end:
        time.sleep(0.05)
    assert all(map(gone, children))
