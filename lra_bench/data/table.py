"""Texts, or pairs of texts, with a class each, from tables of the user's own: .csv, .tsv or .jsonl.

The folder holds `train.csv` (or .tsv, .jsonl), and `val` and `test` likewise; what it does not hold is cut from train,
in an order of the task's seed, and shares no example with it. Texts become the bytes of their UTF-8 (`octets.py`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress, octets, published
from lra_bench.data.octets import decode, encode
from lra_bench.data.splits import cut, stacked
from lra_bench.errors import DataError, TaskError, nearest
from lra_bench.shapes import SPLITS, Split

__all__ = ["HEADER", "PUBLISHED", "VERSION", "Args", "build", "check", "decode", "encode", "files", "row", "vocabulary"]

VERSION = 1
HEADER = ""
PUBLISHED = True

Record = tuple[int, Mapping[str, Any]]  # the number of its last line, its fields
csv.field_size_limit(1 << 30)


class Args(Strict):
    """Which columns are what."""

    text: str  # the column of the text
    text_b: str | None  # the column of a second text, for `streams: 2`
    label: str  # the column of the class
    classes: str | None  # their names, in order, with commas between them; null: those in train, sorted


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 bytes. It is the same for all `args`."""
    return octets.SYMBOLS


def files(folder: Path) -> dict[str, Path]:
    """The tables in `folder`, by split.

    Raises:
        DataError: there is none for train, or a split has several.
    """
    found = {}
    for split in SPLITS:
        paths = [path for suffix in READ if (path := folder / f"{split}{suffix}").is_file()]
        if len(paths) > 1:
            raise DataError(f"{folder}: {paths[0].name} and {paths[1].name}; a split is one file")
        if paths:
            found[split] = paths[0]
    if "train" not in found:
        raise DataError(f"{folder}: looked for {' or '.join(f'train{suffix}' for suffix in READ)}; none is there")
    return found


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """The first so many rows of a split that has a file; so many of train, in an order that `seed` gives, else.

    Raises:
        TaskError: there are not so many.
        DataError: no folder is named, a column is missing, or a row is wrong; it is named.
    """
    if folder is None:
        raise DataError("folder: null; name one that holds train.csv, or .tsv, or .jsonl: --set task.folder=FOLDER")
    paths = files(folder)
    names = args.classes.split(",") if args.classes else _classes(paths["train"], args.label)
    parts = {split: _examples(path, args, names, length, progress) for split, path in paths.items()}
    for split in ("test", "val"):
        if split not in parts:
            parts[split], parts["train"] = published.apart(parts["train"], splits[split], seed)
    for split, n in splits.items():
        if n > len(parts[split]):
            path = paths.get(split, paths["train"])
            raise TaskError(f"splits.{split}: asks for {n} rows; {path} leaves {len(parts[split])}")
    return {split: cut(parts[split], 0, n) for split, n in splits.items()}


def _classes(path: Path, column: str) -> list[str]:
    """The names of the classes in a table; numbers in their own order."""
    found = {str(_field(path, record, column)).strip() for record in _records(path)}
    return sorted(found, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def _examples(path: Path, args: Args, names: list[str], length: int, progress: Progress) -> Split:
    columns = [args.text, *([args.text_b] if args.text_b else [])]
    ids = {name.strip(): i for i, name in enumerate(names)}
    examples = []
    for done, record in enumerate(_records(path), 1):
        name = str(_field(path, record, args.label)).strip()
        try:
            if name not in ids:
                raise DataError(f"{args.label}: '{name[:40]}' is no class; {nearest(name, ids)}")
            texts = [octets.tokens_of(str(_field(path, record, column)).encode(), length) for column in columns]
        except DataError as error:
            raise DataError(f"{path}:{record[0]}: {error}") from None
        examples.append((texts, ids[name]))
        if done % 1000 == 0:
            progress(f"reading {path.name}", done, done)
    if not examples:
        raise DataError(f"{path}: holds no row")
    return stacked(examples, length)


def _field(path: Path, record: Record, column: str) -> Any:
    line, fields = record
    if column not in fields:
        raise DataError(
            f"{path}:{line}: has no column '{column}'; {nearest(column, [name for name in fields if name])}"
        )
    if fields[column] is None:
        raise DataError(f"{path}:{line}: its column '{column}' is missing")
    return fields[column]


def _records(path: Path) -> Iterator[Record]:
    """The rows of a table, whose columns a first line names, or each line's own keys.

    Raises:
        DataError: a line is no row; it is named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from READ[path.suffix](file)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no UTF-8: {error.reason} at byte {error.start}") from None
    except (csv.Error, json.JSONDecodeError) as error:
        raise DataError(f"{path}: no {path.suffix}: {error}") from None


def _separated(separator: str) -> Callable[[Any], Iterator[Record]]:
    def read(file: Any) -> Iterator[Record]:
        rows = csv.DictReader(file, delimiter=separator, strict=True)
        for fields in rows:
            yield rows.line_num, fields

    return read


def _lines_of_json(file: Any) -> Iterator[Record]:
    for number, line in enumerate(file, 1):
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise DataError(f"{file.name}:{number}: no JSON object")
        yield number, fields


READ = {".csv": _separated(","), ".tsv": _separated("\t"), ".jsonl": _lines_of_json}


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold an example, tokens [S, L], against what there can be. Its label cannot be derived.

    Raises:
        DataError: a text is empty or no UTF-8, there is a text too few, or no such class.
    """
    if len(tokens) != (2 if args.text_b else 1):
        raise DataError(f"{len(tokens)} texts")
    for stream in tokens:
        octets.check(stream)
    if args.classes and label >= len(args.classes.split(",")):
        raise DataError(f"its label is {label}, and there are the classes {args.classes}")


def row(tokens: np.ndarray, label: int) -> str:
    """An example, tokens [S, L], as a line: the class's number and the texts."""
    return "\t".join([str(label), *(octets.escaped(decode(stream)) for stream in tokens)])
