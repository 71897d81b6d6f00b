"""What is being made outlives the process that made it, and is taken away when it is done."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_bench import data
from lra_bench.config import Overlay, TaskSpec, tasks
from lra_bench.data import cache, generated, silent, staging, workers
from lra_bench.data.sources.pathfinder import contours, pathfinder
from lra_bench.data.staging import Journal
from lra_bench.errors import PlaceError, TaskError
from lra_bench.shapes import Split

SPLITS = {"train": 300, "val": 50, "test": 70}
LAST = 420


def task() -> TaskSpec:
    return tasks.load("pathfinder", variant="quick", settings=[Overlay("test", {"splits": SPLITS})])


def in_small_chunks() -> None:
    workers.processes = lambda: 1
    contours.AT_ONCE = 1 << 19
    pathfinder.CHUNK = dict.fromkeys(pathfinder.CHUNK, 64)


def preparing(told: Queue[int]) -> None:
    in_small_chunks()
    data.prepare(task(), lambda what, done, total: told.put(done))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    monkeypatch.setattr(contours, "AT_ONCE", 1 << 19)
    monkeypatch.setattr(pathfinder, "CHUNK", dict.fromkeys(pathfinder.CHUNK, 64))


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "unfinished").iterdir())


@pytest.mark.usefixtures("small_chunks")
def test_what_is_killed_is_resumed_and_ends_as_if_it_had_not_been(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    told: Queue[int] = context.Queue()
    process = context.Process(target=preparing, args=(told,))
    process.start()
    while told.get(timeout=60) < 128:
        pass
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert not (root / "data").exists()
    seen: list[int] = []
    resumed = data.prepare(task(), lambda what, done, total: seen.append(done))
    assert 128 < seen[0] <= LAST, "two chunks at least were there"
    assert left(root) == []
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "other"))
    whole = data.prepare(task())
    assert resumed.hash == whole.hash == cache.content_of(resumed.splits)
    assert resumed.folder.name == whole.folder.name


def chunk_of(numbers: list[int]) -> tuple[Split, list[bytes]]:
    """Examples that are told by one number each."""
    values = np.array(numbers, np.uint16)
    split = Split(values[:, None, None].repeat(3, 2), np.full((len(values), 1), 3, np.int32), values.astype(np.int32))
    return split, [b"%016d" % number for number in numbers]


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), min_size=1, max_size=8), st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_a_journal_that_is_opened_again_goes_on(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[int]], stop: int
) -> None:
    """Wherever it stops, it ends with the first of each number, in order, as one that never stopped."""
    folder = tmp_path_factory.mktemp("journal")
    in_memory = Journal(20)
    for numbers in chunks:
        in_memory.add(*chunk_of(numbers))
    with staging.place(folder / "place"):
        first = Journal(20)
        for numbers in chunks[:stop]:
            first.add(*chunk_of(numbers))
        second = Journal(20)
        assert (second.chunks, second.rows) == (first.chunks, first.rows)
        for numbers in chunks[second.chunks :]:
            second.add(*chunk_of(numbers))
        expected = list(dict.fromkeys(number for numbers in chunks for number in numbers))[:20]
        for journal in (in_memory, second):
            assert journal.whole().label.tolist() == expected
            assert journal.whole().tokens[:, 0, 1].tolist() == expected
        assert isinstance(second.whole().tokens, np.memmap)
    assert not (folder / "place").exists()


@pytest.mark.parametrize("spoil", ["{", '{"rows": 1}', '{"total": 9, "rows": 1, "chunks": 1, "digests": 1}'])
def test_a_journal_that_is_not_whole_is_begun_anew(tmp_path: Path, spoil: str) -> None:
    with staging.place(tmp_path / "place"):
        Journal(9).add(*chunk_of([1, 2, 3]))
        (tmp_path / "place" / staging.NOTES).write_text(spoil)
        again = Journal(9)
        assert (again.rows, again.chunks) == ((0, 0) if "total" not in spoil else (1, 1))
        (tmp_path / "place" / "digests").write_bytes(b"short")
        assert Journal(9).rows == 0


def test_a_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with staging.place(tmp_path / "place"), pytest.raises(PlaceError, match=r"tokens\.npy: no room for it"):
        Journal(9).add(*chunk_of([1]))
    assert not (tmp_path / "place").exists()


def test_a_journal_without_its_arrays_is_not_believed_later(tmp_path: Path) -> None:
    with staging.place(tmp_path / "place"):
        Journal(9).add(*chunk_of([1, 2, 3]))
        (tmp_path / "place" / "label.npy").unlink()
        Journal(9)
        staging.array("label", (9,), np.dtype(np.int32))
        assert Journal(9).rows == 0


def test_what_was_half_written_is_written_again(tmp_path: Path) -> None:
    """Killed after the arrays and before the note: the note decides."""
    with staging.place(tmp_path / "place"):
        journal = Journal(9)
        journal.add(*chunk_of([1, 2, 3]))
        noted = (tmp_path / "place" / staging.NOTES).read_text()
        journal.add(*chunk_of([4, 5]))
        (tmp_path / "place" / staging.NOTES).write_text(noted)
        again = Journal(9)
        again.add(*chunk_of([3, 6]))
        assert again.whole().label.tolist() == [1, 2, 3, 6]
        assert Journal(9).whole().label.tolist() == [1, 2, 3, 6]


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    with staging.place(tmp_path / "place"):
        mine = Journal(9)
        mine.add(*chunk_of([1, 2]))
        with staging.place(tmp_path / "place"):
            other = Journal(9)
            assert other.rows == 0
            other.add(*chunk_of([7]))
            assert not isinstance(other.whole().tokens, np.memmap)
        assert Journal(9).whole().label.tolist() == [1, 2]


def test_a_place_stays_if_it_is_of_use(tmp_path: Path) -> None:
    def fails(error: BaseException, use: bool) -> None:
        with staging.place(tmp_path / "place"):
            if use:
                Journal(9).add(*chunk_of([1]))
            raise error

    def tried(error: BaseException, use: bool) -> bool:
        with pytest.raises(type(error)):
            fails(error, use)
        return (tmp_path / "place").exists()

    assert not tried(KeyboardInterrupt(), False)
    assert tried(KeyboardInterrupt(), True)
    assert not tried(TaskError("there are too few"), True)


@pytest.mark.usefixtures("small_chunks")
def test_drawn_examples_are_the_same_with_a_place_and_without(tmp_path: Path) -> None:
    asked = data.arguments(task())
    assert isinstance(asked, pathfinder.Args)
    plain = pathfinder.build(asked, 1024, SPLITS, 0, None, silent)
    with staging.place(tmp_path / "place"):
        kept = pathfinder.build(asked, 1024, SPLITS, 0, None, silent)
        assert isinstance(kept["train"].tokens, np.memmap)
        assert cache.content_of(plain) == cache.content_of(kept)


@pytest.mark.usefixtures("alone")
def test_too_few_examples_are_told() -> None:
    with pytest.raises(TaskError, match="9 examples are asked for, 2 were found of ones and twos"):
        generated.splits(ones_and_twos, {"train": 9}, "ones and twos", silent)


def ones_and_twos(chunk: int) -> tuple[Split, list[bytes]]:
    return chunk_of([1, 2])
