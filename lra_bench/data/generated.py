"""Examples drawn chunk by chunk from a seed, none twice, made into splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate, count
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress, staging, workers
from lra_bench.data.splits import cut
from lra_bench.data.staging import Journal
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import SPLITS, TRAIN, Split

Draw = Callable[[int], tuple[Split, list[bytes]]]
"""The chunk of a number: its examples, and 128 bits of each, by which it is told from others. Picklable."""

BARREN = 64  # chunks without a new example after which no more are expected
MOST, TOKENS = 1 << 12, 1 << 21  # examples and tokens of a chunk
UNIT_BITS = np.uint64(30)
UNIT = np.uint64((1 << 30) - 1)
BYTE = np.dtype(np.uint8)


def splits(draw: Draw, counts: Mapping[str, int], what: str, progress: Progress) -> dict[str, Split]:
    """So many examples of each split, test's first and train's last, so that a longer train leaves the others alone.

    What a process that was killed had made of them is reused, if the cache's `staging.place` was open.

    Raises:
        TaskError: there are not so many; `what` says of which.
    """
    total = sum(counts.values())
    journal = Journal(total)
    for _ in _chunks(draw, journal):
        progress("generating examples", journal.rows, total)
    if journal.rows < total:
        raise TaskError(f"splits: {total} examples are asked for, {journal.rows} were found of {what}")
    whole = journal.whole()
    order = [split for split in reversed(SPLITS) if split in counts]
    stops = accumulate(counts[split] for split in order)
    return {split: cut(whole, stop - counts[split], stop) for split, stop in zip(order, stops, strict=True)}


def _chunks(draw: Draw, journal: Journal) -> Iterator[None]:
    """Take down chunk after chunk; it ends when there are enough examples, or no new ones come."""
    barren = 0
    if journal.rows == journal.total:
        return
    for chunk, digests in workers.results(draw, count(journal.chunks)):
        barren = 0 if journal.add(chunk, digests) else barren + 1
        yield
        if journal.rows == journal.total or barren == BARREN:
            return


class Drawn:
    """A source whose examples are only ever drawn, as `Source` wants one, from a module that exports

    - VERSION, Args and check, as every source;
    - WORDS, its vocabulary;
    - fits(args, length), which raises TaskError where such texts cannot be;
    - draw(args, length, seed, chunk), a `Draw` of those arguments;

    and, where there is need of it,

    - values(args), the numbers that its symbols stand for, as a source may have them;
    - vocabulary(args), how many of its words, the first ones, can stand in a text; without it all can;
    - asked(args, length), as a source may have it;
    - held_out(args), what val and test are drawn by, where that is not what train is; such texts are to be different;
    - beyond(args, length), by which texts are drawn that are longer than those of a length, and none as short.
    """

    HEADER = "Source\tTarget"
    PUBLISHED = False

    def __init__(self, module: Any) -> None:
        self._module = module
        self.VERSION, self.Args, self.check = module.VERSION, module.Args, module.check
        self.values, self.asked = getattr(module, "values", None), getattr(module, "asked", None)
        self.beyond: Callable[[Any, int], Strict] | None = getattr(module, "beyond", None)
        self.encode, self.decode, self.row = module.WORDS.encode, module.WORDS.decode, module.WORDS.row

    def vocabulary(self, args: Strict) -> tuple[str, ...]:
        """The symbol of each id. Those of all `args` begin alike."""
        symbols: tuple[str, ...] = self._module.WORDS.symbols
        return symbols[: 1 + self._module.vocabulary(args)] if hasattr(self._module, "vocabulary") else symbols

    def files(self, folder: Path) -> dict[str, Path]:
        """Raises DataError: there are none."""
        raise DataError(f"folder: {folder}: these examples are generated, nobody has released files of them")

    def build(
        self, args: Strict, length: int, counts: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
    ) -> dict[str, Split]:
        """All splits, with no example in two of them.

        Raises:
            TaskError: no such text fits `length`, or there are too few.
            DataError: a folder is named.
        """
        if folder is not None:
            self.files(folder)
        self._module.fits(args, length)
        of_held_out = self._module.held_out(args) if hasattr(self._module, "held_out") else args
        if of_held_out == args:
            return self._drawn(args, length, counts, seed, progress)
        held_out = {name: count for name, count in counts.items() if name != TRAIN}
        with staging.in_memory():
            others = self._drawn(of_held_out, length, held_out, seed, progress) if held_out else {}
        return others | self._drawn(args, length, {TRAIN: counts[TRAIN]}, seed, progress)

    def _drawn(
        self, args: Strict, length: int, counts: Mapping[str, int], seed: int, progress: Progress
    ) -> dict[str, Split]:
        draw = partial(self._module.draw, args, length, seed)
        return splits(draw, counts, f"length {length}, {args!r}", progress)


class Dice:
    """The random numbers of one chunk: Philox's, which NumPy keeps the same in every version."""

    def __init__(self, seed: int, chunk: int) -> None:
        self._stream = np.random.Philox(key=np.array([seed, chunk], np.uint64))

    def throw(self, below: int | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Whole numbers from 0 to `below` - 1, int64, uniform to within 1 in 10^8 or better."""
        word = self._stream.random_raw(shape) & UNIT
        return (word * np.asarray(below, np.uint64) >> UNIT_BITS).astype(np.int64)

    def distinct(self, below: int, shape: tuple[int, int]) -> np.ndarray:
        """`shape[1]` different integers from 0 to `below` - 1 in each row, int64, all such rows equally likely."""
        rows, count = shape
        found = np.empty((rows, count), np.int64)
        for place in range(count):
            number = self.throw(below - place, (rows,))
            for earlier in np.sort(found[:, :place]).T:
                number += number >= earlier
            found[:, place] = number
        return found

    def order(self, shape: tuple[int, ...]) -> np.ndarray:
        """An order of each row, int64."""
        return np.argsort(self._stream.random_raw(shape), axis=-1, kind="stable")


def first_equal(rows: np.ndarray) -> np.ndarray:
    """Of each number of a row, [N, S], the first place where the row has the same number, int64 [N, S]."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    begins = np.ones(rows.shape, bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    begin = np.maximum.accumulate(np.where(begins, np.arange(rows.shape[1]), 0), axis=1)
    found = np.empty(rows.shape, np.int64)
    np.put_along_axis(found, order, np.take_along_axis(order, begin, axis=1), axis=1)
    return found


def chunk_of(length: int) -> int:
    """Examples of a chunk."""
    return max(1, min(MOST, TOKENS // length))


def whole(
    tokens: np.ndarray, lengths: np.ndarray, label: np.ndarray, kind: np.dtype[Any] = BYTE
) -> tuple[Split, list[bytes]]:
    """A chunk of examples of one stream: tokens [N, L] that `kind` holds, lengths [N], labels [N, ...].

    Labels stay what they are where they are numbers; symbols at places, [N, L], are kept as tokens are.
    """
    tokens = tokens.astype(kind)
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in tokens]
    return Split(
        tokens[:, None],
        lengths[:, None].astype(np.int32),
        label if label.dtype == np.float32 else label.astype(kind if label.ndim == 2 else np.int32),
    ), digests
