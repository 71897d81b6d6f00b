"""Texts, or pairs of texts, with a class, labels or numbers each, from tables of the user's own: .csv, .tsv, .jsonl or
.parquet.

The folder holds `train.csv`, or its like (`records.py`), and val's and test's; what it does not hold is cut from train,
in an order of the task's seed, and shares no example with it. Texts become the bytes of their UTF-8 (`octets.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress, answers, octets, published, records
from lra_bench.data.octets import decode, encode
from lra_bench.data.splits import stacked
from lra_bench.errors import DataError
from lra_bench.shapes import Split

__all__ = ["HEADER", "PUBLISHED", "VERSION", "Args", "build", "check", "decode", "encode", "files", "row", "vocabulary"]

VERSION = 1
HEADER = ""
PUBLISHED = True


class Args(Strict):
    """Which columns are what."""

    text: str  # the column of the text
    text_b: str | None  # the column of a second text, for `streams: 2`
    label: str  # the column of the answer; of numbers several, with commas between them
    answer: answers.Kind  # a class | labels, a list or with | between them | numbers
    classes: str | None  # the classes' or labels' names, with commas between them; null: those in train, sorted


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 bytes. It is the same for all `args`."""
    return octets.SYMBOLS


def files(folder: Path) -> dict[str, Path]:
    """The tables in `folder`, by split, and by number where it is in several.

    Raises:
        DataError: there is none for train, a split has several, or a shard is missing.
    """
    found = records.tables(folder)
    return {
        split if len(paths) == 1 else f"{split}-{number}": path
        for split, paths in found.items()
        for number, path in enumerate(paths)
    }


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """The first so many rows of a split that has a file; so many of train, in an order that `seed` gives, else.

    Raises:
        TaskError: there are not so many.
        DataError: no folder is named, a column is missing, or a row is wrong; it is named.
    """
    if folder is None:
        raise DataError("folder: null; name one that holds train.csv, or its like: --set task.folder=FOLDER")
    paths = records.tables(folder)
    names = args.classes.split(",") if args.classes else _names(paths["train"], args)
    parts = {split: _examples(tables, args, names, length, progress) for split, tables in paths.items()}
    return published.completed(parts, splits, seed, {split: tables[0] for split, tables in paths.items()})


def _names(tables: Sequence[Path], args: Args) -> list[str]:
    """The names of the classes or labels in the tables of a split."""
    if args.answer == "numbers":
        return []
    rows = (fields[args.label] for path in tables for _, fields in records.rows(path, [args.label], [args.label]))
    return answers.names(args.answer, rows)


def _examples(tables: Sequence[Path], args: Args, names: list[str], length: int, progress: Progress) -> Split:
    ids = {name.strip(): i for i, name in enumerate(names)}
    examples = []
    for example in _parsed(tables, args, ids, length):
        examples.append(example)
        if len(examples) % 1000 == 0:
            progress(f"reading {tables[0].name}", len(examples), len(examples))
    if not examples:
        raise DataError(f"{tables[0]}: holds no row")
    return stacked(examples, length)


def _parsed(
    tables: Sequence[Path], args: Args, ids: Mapping[str, int], length: int
) -> Iterator[tuple[list[np.ndarray], int | np.ndarray]]:
    """The streams of tokens and the label of each row."""
    columns, asked = [args.text, *([args.text_b] if args.text_b else [])], answers.columns(args.answer, args.label)
    lists = asked if args.answer == "labels" else []
    for path in tables:
        for number, fields in records.rows(path, [*columns, *asked], lists):
            try:
                label = answers.answer(args.answer, {column: fields[column] for column in asked}, ids)
                yield [octets.tokens_of(str(fields[column]).encode(), length) for column in columns], label
            except DataError as error:
                raise DataError(f"{path}:{number}: {error}") from None


def check(args: Args, tokens: np.ndarray, label: Any) -> None:
    """Hold an example, tokens [S, L], against what there can be. Its label cannot be derived.

    Raises:
        DataError: a text is empty or no UTF-8, there is a text too few, or no such class.
    """
    if len(tokens) != (2 if args.text_b else 1):
        raise DataError(f"{len(tokens)} texts")
    for stream in tokens:
        octets.check(stream)
    if args.answer == "class" and args.classes and label >= len(args.classes.split(",")):
        raise DataError(f"its label is {label}, and there are the classes {args.classes}")


def row(tokens: np.ndarray, label: Any) -> str:
    """An example, tokens [S, L], as a line: the class's number, the labels' bits or the numbers, and the texts."""
    return "\t".join(
        [
            answers.written(label),
            *(octets.escaped(decode(stream)) for stream in tokens),
        ]
    )
