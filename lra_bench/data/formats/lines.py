"""Examples read by several processes from a file that has one in each line."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from lra_bench.data import Progress, splits, workers
from lra_bench.errors import DataError
from lra_bench.shapes import Split

BOM = codecs.BOM_UTF8
AT_ONCE = 256  # lines that a process reads in one go

Parse = Callable[[bytes], tuple[Sequence[np.ndarray], int]]
"""A line, without its end, as the streams [S][n] of an example and its label. Picklable. DataError: what is wrong."""


def count(path: Path) -> int:
    """The number of lines in the file that are not blank."""
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def read(path: Path, start: int, length: int, parse: Parse, progress: Progress) -> Split:
    """The examples in the file, from line `start` on (the first is 1), padded to `length`; blank lines are none.

    Raises:
        DataError: names the file and the first line that `parse` refuses.
    """
    total, done, parts = count(path) - start + 1, 0, []
    for part in workers.results(partial(_examples, path, length, parse), _batches(path, start)):
        parts.append(part)
        done += len(part)
        progress(f"reading {path.name}", done, total)
    return splits.joined(parts)


def _batches(path: Path, start: int) -> Iterator[list[tuple[int, bytes]]]:
    """Some lines that are not blank, each with its number."""
    with path.open("rb") as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if number >= start and line.strip())
        while batch := list(islice(lines, AT_ONCE)):
            yield batch


def _examples(path: Path, length: int, parse: Parse, batch: list[tuple[int, bytes]]) -> Split:
    examples = []
    for number, line in batch:
        try:
            examples.append(parse(line.removeprefix(BOM if number == 1 else b"").rstrip(b"\r\n")))
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    return splits.stacked(examples, length)
