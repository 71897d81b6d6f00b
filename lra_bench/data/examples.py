"""Examples for people to read: decoded, or as the field writes them down."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lra_bench.config import TaskSpec
from lra_bench.data import Dataset, Progress, Source, of, prepare
from lra_bench.data.made import About
from lra_bench.data.pictures import picture
from lra_bench.errors import DataError, nearest
from lra_bench.metrics import METRICS


class Example(NamedTuple):
    """One example as text, and as a picture."""

    label: Any  # a class's name, or its number where it has none; several names; numbers; symbols that are asked for
    lengths: list[int]  # tokens of each stream
    streams: list[str]
    pictures: list[np.ndarray]  # of each stream, where the task's examples are pictures; see `pictures.py`


def shown(task: TaskSpec, split: str, n: int, progress: Progress) -> list[Example]:
    """The first `n` examples of a split, decoded.

    Raises: as `prepare`; DataError: there is no such split.
    """
    source, data = of(task), _data(task, split, progress)
    examples = data.splits[split]
    return [
        Example(
            _said(task, source, examples.label[i], data.about),
            examples.lengths[i].tolist(),
            [_printable(source.decode(stream)) for stream in examples.tokens[i]],
            [made for stream in examples.tokens[i] if (made := picture(task, stream)) is not None],
        )
        for i in range(min(n, len(examples)))
    ]


def export(task: TaskSpec, split: str, out: Path, limit: int | None, progress: Progress) -> int:
    """Write a split to a tab-separated file in the field's own form; how many examples.

    The file is whole or not there: it is written under another name first.

    Raises: as `prepare`; DataError: there is no such split.
    """
    examples, source = _data(task, split, progress).splits[split], of(task)
    total = min(len(examples), limit or len(examples))
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    with unfinished.open("w", encoding="utf-8", errors="surrogateescape") as file:
        if source.HEADER:
            file.write(source.HEADER + "\n")
        for index in range(total):
            file.write(source.row(examples.tokens[index], examples.label[index]) + "\n")
            if index % 1000 == 0:
                progress("writing", index, total)
    unfinished.replace(out)
    return total


def _said(task: TaskSpec, source: Source, label: np.ndarray, about: About) -> Any:
    """A label as one reads it: by the classes' names, and symbols that are asked for as text."""
    if METRICS[task.metric].everywhere:
        return _printable(source.decode(label[label > 0]))
    if label.dtype == np.float32:
        return [float(f"{x:.7g}") for x in label]
    if about.classes is None:
        return label.tolist()
    return [about.name(int(c)) for c in np.flatnonzero(label)] if label.ndim else about.name(int(label))


def _printable(text: str) -> str:
    """With a mark for the bytes of a character that was cut, and one for byte 0."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\u2400")


def _data(task: TaskSpec, split: str, progress: Progress) -> Dataset:
    """Raises DataError: there is no such split."""
    if split not in task.splits:
        raise DataError(f"split '{split}': {nearest(split, task.splits)}")
    return prepare(task, progress)
