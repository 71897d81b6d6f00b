"""The short names of columns: what tells one from another, and notes on what a name leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench.metrics import ACCURACY, named
from lra_bench.report.places import DIGITS
from lra_bench.report.summing import COLUMN, column_of


def column_names(summed: pd.DataFrame) -> tuple[list[str], list[str]]:
    """A short name a row for its column, and a note a column on what the name leaves out.

    Where a column is there with several data, each has the first digits of its data's hash in its name.
    """
    columns = summed[COLUMN].astype(object).where(summed[COLUMN].notna(), None).to_dict("records")
    names: dict[str, str] = {}  # by the whole column
    data: dict[str, list[Any]] = {}  # of each column but for its data
    for column in columns:
        hashes = data.setdefault(_but_for_data(column), [])
        hashes += [column["data_hash"]] if column["data_hash"] not in hashes else []
    notes = []
    for column in columns:
        key = json.dumps(column, default=float)
        if key not in names:
            names[key] = _new_name(column, data[_but_for_data(column)], list(names.values()))
            notes.append(f"{names[key]}: {_version_and_n(summed, column)}{_told(column)}")
    short_names = [names[json.dumps(column, default=float)] for column in columns]
    return short_names, [*notes, *_of_several_data(short_names, data.values())]


def _but_for_data(column: Mapping[Any, Any]) -> str:
    return json.dumps({key: value for key, value in column.items() if key != "data_hash"}, default=float)


def _new_name(column: Mapping[Any, Any], hashes: Sequence[Any], taken: Sequence[str]) -> str:
    short = _short(column)
    if len(hashes) > 1:
        short += f", data {str(column['data_hash'] or 'unknown')[:DIGITS]}"
    count = sum(name.split(" #")[0] == short for name in taken)
    return f"{short} #{count + 1}" if count else short


def _told(column: Mapping[Any, Any]) -> str:
    said = f", with {column['changed']}" if column["changed"] else ""
    by = named(column["metric"])
    scored = "" if by is ACCURACY else f", {by.title}, the {'higher ↑' if by.higher else 'lower ↓'} the better"
    return f"L = {column['length']:.0f}, batch {column['batch']:.0f}{scored}{said}"


def _version_and_n(summed: pd.DataFrame, column: Mapping[Any, Any]) -> str:
    """The task's version and how many examples test has, where that is known."""
    version = "" if column["task_version"] is None else f"version {column['task_version']:.0f}, "
    if "test_n" not in summed:
        return version
    ours = summed[[column_of(row) == tuple(column.values()) for row in summed.to_dict("records")]]
    known = ours["test_n"].dropna()
    return version if known.empty else f"{version}n = {known.iloc[0]:,.0f}, "


def _of_several_data(names: Sequence[str], data: Iterable[Sequence[Any]]) -> Iterator[str]:
    """A note where what seems one column is several, of other examples."""
    for hashes in data:
        if len(hashes) > 1:
            said = ", ".join(str(digest or "unknown")[:10] for digest in hashes)
            first = next(name for name in names if f", data {str(hashes[0] or 'unknown')[:DIGITS]}" in name)
            name = first.split(", data ")[0]
            yield f"{name}: NOT OF THE SAME DATA, a column for each of {len(hashes)} hashes: {said}"


def _short(column: Mapping[Any, Any]) -> str:
    recipe, mark, variant = column["recipe"], column["mark"], column["variant"]
    at = f"@{variant}" if variant and variant not in (recipe, mark) else ""
    return f"{column['task']}{at} {recipe}" + (f" [{mark}]" if mark and mark != recipe else "")
