"""Texts, or pairs of texts, with a class, labels or numbers each, from tables of the user's own: .csv, .tsv, .jsonl or
.parquet.

The folder holds `train.csv`, or its like (`tables.py`), and val's and test's; what it does not hold is cut from train,
in an order of the task's seed, and shares no example with it. Where fewer rows are asked for than a file has, they are
drawn by that seed. Texts become the bytes of their UTF-8 (`text_bytes.py`).

Missing are: of any column, null and NaN; a text that is blank; a label or number that is blank or one of
`labels.MISSING`, but for a word that `args.classes` names. "NA" and "null" are texts as others. An answer of several
labels may name none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from lra_bench.config import Strict
from lra_bench.data import Progress, published
from lra_bench.data.formats import labels, tables, text_bytes
from lra_bench.data.formats.text_bytes import decode, encode
from lra_bench.data.made import Made
from lra_bench.data.published import Examples
from lra_bench.data.splits import stacked
from lra_bench.errors import DataError
from lra_bench.shapes import Split

__all__ = ["HEADER", "PUBLISHED", "VERSION", "Args", "build", "check", "decode", "encode", "files", "row", "vocabulary"]

VERSION = 2
HEADER = ""
PUBLISHED = True


class Args(Strict):
    """Which columns are what."""

    text: str  # the column of the text
    text_b: str | None  # the column of a second text, for `streams: 2`
    label: str  # the column of the answer; of numbers several, with commas between them
    answer: labels.Kind  # a class | labels, a list or with | between them | numbers
    classes: str | None  # the classes' or labels' names, with commas between them; null: those in train, sorted
    quoted: bool = False  # in a .tsv, fields may stand in quotes, as Excel and pandas write them; else quotes are text

    @pydantic.field_validator("classes")
    @classmethod
    def _each_once(cls, classes: str | None) -> str | None:
        names = [] if classes is None else _names_in(classes)
        if "" in names:
            raise ValueError(f"'{classes}': a name between commas is missing")
        if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise ValueError(f"'{classes}': names '{twice}' twice")
        return classes

    @pydantic.model_validator(mode="after")
    def _numbers_have_no_names(self) -> Args:
        if self.answer == "numbers" and self.classes is not None:
            raise ValueError(f"classes: '{self.classes}'; must be null where the answer is numbers")
        return self


def _names_in(classes: str) -> list[str]:
    return [name.strip() for name in classes.split(",")]


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 bytes. It is the same for all `args`."""
    return text_bytes.SYMBOLS


def files(folder: Path) -> dict[str, Path]:
    """The tables in `folder`, by split, and by number where it is in several.

    Raises:
        DataError: there is none for train, a split has several, or a shard is missing.
    """
    return tables.numbered(tables.tables(folder))


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> Made:
    """So many rows of each split, of its file, or of train, as `published.completed` chooses them.

    Raises:
        TaskError: there are not so many.
        DataError: no folder is named, a column is missing, or a row is wrong; it is named.
    """
    if folder is None:
        raise DataError("folder: null; name one that holds train.csv, or its like: --set task.folder=FOLDER")
    paths = tables.tables(folder)
    if args.quoted and not any(path.suffix.lower() == ".tsv" for tables in paths.values() for path in tables):
        raise DataError(f"{paths['train'][0]}: args.quoted: true, which is of .tsv alone; leave it out")
    said = args.classes is not None or args.answer == "numbers"
    first, times = ({}, Counter[str]()) if said else _named(paths["train"], args)
    names = _names_in(args.classes) if args.classes else labels.in_order(first)
    read = {split: _Table(parts, args, names, length) for split, parts in paths.items()}
    files = {split: table.examples(progress) for split, table in read.items()}
    made = published.completed(files, splits, seed, {split: parts[0] for split, parts in paths.items()}, "bytes")
    notes = [note for table in read.values() for note in table.notes] + tables.unread(folder)
    return made.known(classes=names or None, first=first, times=dict(times), notes=notes)


def _named(paths: Sequence[Path], args: Args) -> tuple[dict[str, str], Counter[str]]:
    """The classes or labels that the tables of a split name: where each stands first, and how often.

    Raises:
        DataError: one is missing; the row is named.
    """
    first, times = dict[str, str](), Counter[str]()
    asked = tables.Asked([args.label], [args.label] if args.answer == "labels" else [], args.quoted)
    for path in paths:
        for number, fields in tables.rows(path, asked):
            try:
                found = labels.named(args.answer, args.label, fields[args.label])
            except DataError as error:
                raise DataError(f"{path}:{number}: {error}") from None
            times.update(found)
            for name in found:
                first.setdefault(name, f"{path.name}:{number}")
    return first, times


@dataclass
class _Table:
    """The tables of a split as they are read, and what is strange about them."""

    tables: Sequence[Path]
    args: Args
    names: list[str]
    length: int
    quotes: int = 0  # fields of a .tsv that look quoted, and are not
    lines: list[str] = field(default_factory=list)

    def examples(self, progress: Progress) -> Examples:
        """All of them, in order.

        Raises:
            DataError: there is none, or a row is wrong; it is named.
        """
        examples, long = [], []
        for streams, label in self._parsed():
            examples.append(([text_bytes.tokens_of(text, self.length) for text in streams], label))
            long.append(any(len(text) > self.length for text in streams))
            if len(examples) % 1000 == 0:
                progress(f"reading {self.tables[0].name}", len(examples), len(examples))
        if not examples:
            raise DataError(f"{self.tables[0]}: holds no row")
        split = stacked(examples, self.length)
        if self.args.answer == "numbers":
            split = Split(split.tokens, split.lengths, self._kept(split.label))
        return Examples(split, np.array(long))

    def _kept(self, numbers: np.ndarray) -> np.ndarray:
        try:
            return labels.kept(numbers, labels.columns(self.args.answer, self.args.label))
        except DataError as error:
            raise DataError(f"{self.tables[0]}: {error}") from None

    def _parsed(self) -> Iterator[tuple[list[bytes], int | np.ndarray]]:
        """The texts and the label of each row."""
        args, ids = self.args, {name: i for i, name in enumerate(self.names)}
        texts, asked = [args.text, *([args.text_b] if args.text_b else [])], labels.columns(args.answer, args.label)

        def is_row(fields: dict[str, str]) -> bool:
            return labels.is_answer(args.answer, [fields[column] for column in asked], ids)

        lists = asked if args.answer == "labels" else []
        enough = 3 if labels.like_numbers(args.answer, self.names) else 2  # texts have numbers after commas
        wanted = tables.Asked([*texts, *asked], lists, args.quoted, is_row, enough)
        for path in self.tables:
            read, number = 0, 0
            for number, fields in tables.rows(path, wanted):
                read += 1
                try:
                    label = labels.answer(args.answer, {column: fields[column] for column in asked}, ids)
                    yield [text_bytes.of_field(fields[column]) for column in texts], label
                except DataError as error:
                    raise DataError(f"{path}:{number}: {error}") from None
                self.quotes += path.suffix.lower() == ".tsv" and any(_looks_quoted(fields[c]) for c in texts)
            lines = number - (path.suffix.lower() in (".csv", ".tsv"))
            if read != lines:
                self.lines.append(
                    f"{path.name}: {read:,} rows of {lines:,} lines: some are blank, or texts go over several"
                )

    @property
    def notes(self) -> list[str]:
        """What its user may want to know of it."""
        quotes = (
            f"{self.tables[0].name}: {self.quotes:,} texts begin and end with a quote, which is text in a .tsv; "
            "`quoted: true` among the task's args reads such fields without"
        )
        return [*self.lines, *([quotes] if self.quotes and not self.args.quoted else [])]


def _looks_quoted(value: Any) -> bool:
    text = str(value)
    return len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('""', "")


def check(args: Args, tokens: np.ndarray, label: Any) -> None:
    """Hold an example, tokens [S, L], against what there can be. Its label cannot be derived.

    Raises:
        DataError: a text is empty or no UTF-8, there is a text too few, or no such class.
    """
    if len(tokens) != (2 if args.text_b else 1):
        raise DataError(f"{len(tokens)} texts")
    for stream in tokens:
        text_bytes.check(stream)
    if args.answer == "class" and args.classes and label >= len(args.classes.split(",")):
        raise DataError(f"its label is {label}, and there are the classes {args.classes}")


def row(tokens: np.ndarray, label: Any) -> str:
    """An example, tokens [S, L], as a line: the class's number, the labels' bits or the numbers, and the texts."""
    return "\t".join(
        [
            labels.written(label),
            *(text_bytes.escaped(decode(stream)) for stream in tokens),
        ]
    )
