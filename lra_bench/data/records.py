"""Tables of the user's own, row after row: .csv and .tsv whose first line names the columns, .jsonl, .parquet.

A split is one file, `train.csv`, or all its shards, `train-00000-of-00002.parquet` and the others, as Hugging Face's
folders have them; in the folder or in its `data`. Val's may be called `validation`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lra_bench.errors import DataError, nearest
from lra_bench.shapes import SPLITS

Row = tuple[int, dict[str, Any]]
"""The number of its last line, or of the row itself in a .parquet, from 1; and what stands in its columns."""

NAMES = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<shards>\d{5})")
AT_ONCE = 1024  # rows of a .parquet in memory
csv.field_size_limit(1 << 30)


def tables(folder: Path) -> dict[str, list[Path]]:
    """The files of each split in `folder`: one, or its shards in order.

    Raises:
        DataError: there is none for train, a split has several tables, or a shard is missing.
    """
    found = {}
    for split in SPLITS:
        named = sorted(path for path in _within(folder) if _split_of(path) in NAMES[split])
        shards = SHARD.fullmatch(named[0].stem) if named else None
        if shards:
            _all_shards(named, int(shards["shards"]))
        elif len(named) > 1:
            raise DataError(f"{folder}: {named[0].name} and {named[1].name}; a split is one file, or all its shards")
        if named:
            found[split] = named
    if "train" not in found:
        raise DataError(f"{folder}: looked for {' or '.join(f'train{suffix}' for suffix in READ)}; none is there")
    return found


def _within(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "data"):
        yield from (path for path in place.glob("*") if path.suffix in READ and path.is_file())


def _split_of(path: Path) -> str:
    shard = SHARD.fullmatch(path.stem)
    return shard["split"] if shard else path.stem


def _all_shards(paths: list[Path], count: int) -> None:
    split, suffix = _split_of(paths[0]), paths[0].suffix
    wanted = [f"{split}-{number:05}-of-{count:05}{suffix}" for number in range(count)]
    if [path.name for path in paths] != wanted:
        missing = sorted(set(wanted) - {path.name for path in paths})
        other = next((path.name for path in paths if path.name not in wanted), "one of them twice")
        fault = f"{missing[0]} is missing" if missing else f"there is {other}"
        raise DataError(f"{paths[0].parent}: {count} shards of {split}, and {fault}")


def rows(path: Path, columns: Sequence[str], lists: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a table, with what stands in these columns, none of which is missing; `lists` may hold lists.

    Raises:
        DataError: it cannot be read, or a line is no row, or lacks a column; it is named.
    """
    try:
        for number, fields in READ[path.suffix](path, columns):
            where = f"{path}:{number}"
            yield number, {column: _field(where, fields, column, column in lists) for column in columns}
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no UTF-8: {error.reason} at byte {error.start}") from None
    except (csv.Error, json.JSONDecodeError) as error:
        raise DataError(f"{path}: no {path.suffix}: {error}") from None


def _field(where: str, fields: dict[str, Any], column: str, listed: bool) -> Any:
    if column not in fields:
        raise DataError(f"{where}: has no column '{column}'; {nearest(column, [name for name in fields if name])}")
    value = fields[column]
    if value is None:
        raise DataError(f"{where}: its column '{column}' is missing")
    if isinstance(value, bytes | dict) or (isinstance(value, list) and not listed):
        raise DataError(f"{where}: its column '{column}' holds {type(value).__name__}, no text and no number")
    return value


def _separated(separator: str) -> Callable[[Path, Sequence[str]], Iterator[Row]]:
    def read(path: Path, columns: Sequence[str]) -> Iterator[Row]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter=separator, strict=True)
            for fields in table:
                yield table.line_num, fields

    return read


def _lines_of_json(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise DataError(f"{path}:{number}: no JSON object")
            yield number, fields


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Only what is asked for is read, and of that a few rows at a time."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as table:
            for column in columns:
                if column not in table.schema_arrow.names:
                    raise DataError(f"{path}: has no column '{column}'; {nearest(column, table.schema_arrow.names)}")
            number = 0
            for batch in table.iter_batches(AT_ONCE, columns=list(columns)):
                for fields in batch.to_pylist():
                    number += 1
                    yield number, fields
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged, or no .parquet: {' '.join(str(error).split())}") from None


READ = {".csv": _separated(","), ".tsv": _separated("\t"), ".jsonl": _lines_of_json, ".parquet": _parquet}
