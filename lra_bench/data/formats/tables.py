"""Tables of the user's own, row after row: .csv and .tsv whose first line names the columns, .jsonl, .parquet.

A split is one file, `train.csv`, or all its shards, `train-00000-of-00002.parquet` and the others, as Hugging Face's
folders have them; in the folder or in its `data`. `split_files.py` has the names of val's.

A .csv quotes as RFC 4180 has it. A .tsv has no quotes: each line is a row, and each tab parts two fields, unless its
user says that it is `quoted`. Blank lines are no rows. Every row has as many fields as the head; no column that has a
name stands twice.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from lra_bench.data.formats import split_files
from lra_bench.errors import DataError, nearest
from lra_bench.shapes import SPLITS

Row = tuple[int, dict[str, Any]]
"""The number of its last line, or of the row itself in a .parquet, from 1; and what stands in its columns."""

SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<shards>\d{5})")
AT_ONCE = 1024  # rows of a .parquet in memory
UTF16 = (b"\xff\xfe", b"\xfe\xff")
csv.field_size_limit(1 << 30)


class Asked(NamedTuple):
    """What is read of each row."""

    columns: Sequence[str]
    lists: Sequence[str] = ()  # the columns that may hold lists
    quoted: bool = False  # in a .tsv too, fields may stand in quotes
    is_row: Callable[[dict[str, str]], bool] = lambda fields: False  # is there an answer among such fields of a line?
    enough: int = 2  # lines of a text, all of which are such rows, that are so by no accident
    header: bool = True  # the first line of a .csv or .tsv names the columns; else they are called 1, 2, ...


def tables(folder: Path) -> dict[str, list[Path]]:
    """The files of each split in `folder`: one, or its shards in order.

    Raises:
        DataError: there is none for train, a split has several tables, or a shard is missing.
    """
    found = {}
    for split in SPLITS:
        named = sorted(path for path in _within(folder) if _split_of(path) == split)
        shards = SHARD.fullmatch(named[0].stem) if named else None
        if shards:
            _all_shards(named, shards["split"], int(shards["shards"]))
        elif len(named) > 1:
            raise DataError(f"{folder}: {named[0].name} and {named[1].name}; a split is one file, or all its shards")
        if named:
            found[split] = named
    if "train" not in found:
        raise DataError(f"{folder}: looked for {' or '.join(f'train{suffix}' for suffix in READ)}; none is there")
    return found


def numbered(found: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """Each table by its split, and by its number where a split is in several."""
    return {
        split if len(paths) == 1 else f"{split}-{number}": path
        for split, paths in found.items()
        for number, path in enumerate(paths)
    }


def held(path: Path) -> Path:
    """The file, which is a table by its name.

    Raises:
        DataError: it is none.
    """
    if path.suffix.lower() not in READ:
        raise DataError(f"{path}: is no table by its name, which must end in {', '.join(READ)}")
    return path


def unread(folder: Path) -> list[str]:
    """A line where tables lie in `folder` that are of no split."""
    read = [path for paths in tables(folder).values() for path in paths]
    return split_files.unread(_places(folder), READ, read)


def _places(folder: Path) -> tuple[Path, Path]:
    return folder, folder / "data"


def _within(folder: Path) -> Iterator[Path]:
    for place in _places(folder):
        yield from (path for path in place.glob("*") if path.suffix.lower() in READ and path.is_file())


def _split_of(path: Path) -> str | None:
    shard = SHARD.fullmatch(path.stem)
    return split_files.split_of(shard["split"] if shard else path.stem)


def _all_shards(paths: list[Path], name: str, count: int) -> None:
    wanted = [f"{name}-{number:05}-of-{count:05}{paths[0].suffix}" for number in range(count)]
    if [path.name for path in paths] != wanted:
        missing = sorted(set(wanted) - {path.name for path in paths})
        other = next((path.name for path in paths if path.name not in wanted), "one of them twice")
        fault = f"{missing[0]} is missing" if missing else f"there is {other}"
        raise DataError(f"{paths[0].parent}: {count} shards of {name}, and {fault}")


def rows(path: Path, asked: Asked) -> Iterator[Row]:
    """The rows of a table, with what stands in the columns that are asked for, none of which is null or NaN.

    Raises:
        DataError: it cannot be read, a column stands twice, or a line is no row, or lacks a column; it is named.
    """
    try:
        for number, fields in READ[path.suffix.lower()](path, asked):
            where = f"{path}:{number}"
            yield number, {column: _field(where, fields, column, column in asked.lists) for column in asked.columns}
    except UnicodeDecodeError as error:
        raise DataError(_undecodable(path, error.reason)) from None


def _undecodable(path: Path, reason: str) -> str:
    """Where in the file the bytes begin that are no UTF-8, and what may help."""
    before = 0
    with path.open("rb") as file:
        if file.read(2) in UTF16:
            return f"{path}:1: no UTF-8, but UTF-16; save it as UTF-8"
        file.seek(0)
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"{path}:{number}: no UTF-8: {error.reason} at byte {before + error.start} of the file"
            before += len(line)
    return f"{path}: no UTF-8: {reason}"


def _field(where: str, fields: dict[str, Any], column: str, listed: bool) -> Any:
    if column not in fields:
        raise DataError(f"{where}: has no column '{column}'; {nearest(column, [name for name in fields if name])}")
    value = fields[column]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"{where}: its column '{column}' is missing")
    if isinstance(value, bytes | dict) or (isinstance(value, list) and not listed):
        raise DataError(f"{where}: its column '{column}' holds {type(value).__name__}, no text and no number")
    return value


def _hold_head(where: str, names: Sequence[str], columns: Sequence[str]) -> None:
    """Raises DataError: a column that is asked for is not there, or one with a name, or that is asked for, twice."""
    for column in columns:
        if column not in names:
            raise DataError(f"{where}: has no column '{column}'; {nearest(column, [name for name in names if name])}")
    if twice := _twice(name.strip() for name in names if name.strip() or name in columns):
        raise DataError(f"{where}: has the column '{twice[0]}' twice")


def _twice(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


class _Line(NamedTuple):
    """A row of a separated table; one in quotes may be of several lines."""

    number: int  # of its last line
    fields: list[str]
    as_written: list[str]  # its lines


def _with_a_head(lines: Iterator[_Line], path: Path, separator: str, asked: Asked) -> Iterator[Row]:
    head = next(lines, None)
    if head is None:
        return
    names = head.fields
    if not asked.header:
        names, lines = [str(number) for number in range(1, len(head.fields) + 1)], chain([head], lines)
    _hold_head(f"{path}:{head.number}", names, asked.columns)
    for number, fields, written in lines:
        if len(fields) != len(names):
            raise DataError(
                _ragged(f"{path}:{number}", fields, names, separator, "head" if asked.header else "first line")
            )
        if len(written) >= asked.enough and all(_is_row(line.split(separator), names, asked) for line in written):
            raise DataError(
                f"{path}:{number - len(written) + 1}: a quote that is opened here makes {len(written)} lines one row, "
                "and each of them looks like a row; write a quote that belongs to a text twice, and the text in quotes"
            )
        yield number, dict(zip(names, fields, strict=True))


def _ragged(where: str, fields: Sequence[str], names: Sequence[str], separator: str, first: str) -> str:
    kind = "comma" if separator == "," else "tab"
    more = len(fields) > len(names) and separator == ","
    hint = f"; a text with a {kind} in it must stand in quotes" if more else ""
    return f"{where}: has {len(fields)} fields with a {kind} between them, and the {first} has {len(names)}{hint}"


def _is_row(fields: Sequence[str], names: Sequence[str], asked: Asked) -> bool:
    return len(fields) == len(names) and asked.is_row({n: f.strip() for n, f in zip(names, fields, strict=True)})


def _csv(path: Path, asked: Asked) -> Iterator[Row]:
    return _with_a_head(_in_quotes(path, ","), path, ",", asked)


def _tsv(path: Path, asked: Asked) -> Iterator[Row]:
    return _with_a_head(_in_quotes(path, "\t") if asked.quoted else _as_they_are(path), path, "\t", asked)


def _in_quotes(path: Path, separator: str) -> Iterator[_Line]:
    """By the rules of .csv.

    Raises:
        DataError: a quote is not closed, or stands within another; it is named.
    """
    written: list[str] = []

    def kept(lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            written.append(line)
            yield line

    with path.open(encoding="utf-8-sig", newline="") as file:
        table, before = csv.reader(kept(file), delimiter=separator, strict=True), 0
        try:
            for fields in table:
                if len(fields) > 1 or any(field.strip() for field in fields):
                    yield _Line(table.line_num, fields, list(written))
                before = table.line_num
                written.clear()
        except csv.Error as error:
            raise DataError(_of_quotes(path, before + 1, table.line_num, str(error))) from None


def _of_quotes(path: Path, first: int, last: int, error: str) -> str:
    if error == "unexpected end of data":
        return f"{path}:{first}: a quote is opened in this row, and not closed by the end of the file"
    begun = f", in the row that begins in line {first}" if first < last else ""
    return f"{path}:{last}: no .csv: {error}{begun}; a quote within quotes is written twice"


def _as_they_are(path: Path) -> Iterator[_Line]:
    """By the rules of .tsv."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip() or "\t" in line:
                yield _Line(number, line.removesuffix("\n").split("\t"), [line])


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys stood twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice = _twice(key for key, _ in pairs if key.strip())


def _jsonl(path: Path, asked: Asked) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _object(f"{path}:{number}", line.removesuffix("\n"))


def _object(where: str, line: str) -> _Object:
    """Raises DataError: the line is no JSON object, or has a key twice."""
    try:
        fields = json.loads(line, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: no JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no JSON that can be read: {error}") from None
    if not isinstance(fields, _Object):
        raise DataError(f"{where}: no JSON object")
    if fields.twice:
        raise DataError(f"{where}: has the column '{fields.twice[0]}' twice")
    return fields


def _parquet(path: Path, asked: Asked) -> Iterator[Row]:
    """Only what is asked for is read, and of that a few rows at a time."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as table:
            _hold_head(str(path), table.schema_arrow.names, asked.columns)
            number = 0
            for batch in table.iter_batches(AT_ONCE, columns=list(asked.columns)):
                for fields in batch.to_pylist():
                    number += 1
                    yield number, fields
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged, or no .parquet: {' '.join(str(error).split())}") from None


READ: dict[str, Callable[[Path, Asked], Iterator[Row]]] = {
    ".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet,
}  # fmt: skip
