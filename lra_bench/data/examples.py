"""Examples for people to read: decoded, or as the field writes them down."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lra_bench.config import TaskSpec
from lra_bench.data import Progress, load, prepare
from lra_bench.errors import DataError, nearest
from lra_bench.shapes import Split


class Example(NamedTuple):
    """One example as text."""

    label: int
    lengths: list[int]  # tokens of each stream
    streams: list[str]


def shown(task: TaskSpec, split: str, n: int, progress: Progress) -> list[Example]:
    """The first `n` examples of a split, decoded.

    Raises: as `prepare`; DataError: there is no such split.
    """
    examples, source = _split(task, split, progress), load(task.source)
    return [
        Example(int(label), lengths.tolist(), [_printable(source.decode(stream)) for stream in tokens])
        for tokens, lengths, label in zip(
            examples.tokens[:n], examples.lengths[:n], examples.label[:n], strict=True
        )
    ]  # fmt: skip


def export(task: TaskSpec, split: str, out: Path, limit: int | None, progress: Progress) -> int:
    """Write a split to a tab-separated file in the field's own form; how many examples.

    The file is whole or not there: it is written under another name first.

    Raises: as `prepare`; DataError: there is no such split.
    """
    examples, source = _split(task, split, progress), load(task.source)
    total = min(len(examples), limit or len(examples))
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    with unfinished.open("w", encoding="utf-8", errors="surrogateescape") as file:
        if source.HEADER:
            file.write(source.HEADER + "\n")
        for index in range(total):
            file.write(source.row(examples.tokens[index], int(examples.label[index])) + "\n")
            if index % 1000 == 0:
                progress("writing", index, total)
    unfinished.replace(out)
    return total


def _printable(text: str) -> str:
    """With a mark for the bytes of a character that was cut."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _split(task: TaskSpec, split: str, progress: Progress) -> Split:
    if split not in task.splits:
        raise DataError(f"split '{split}': {nearest(split, task.splits)}")
    return prepare(task, progress).splits[split]
