"""The short names of columns: what tells one from another, and notes on what a name leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench.metrics import ACCURACY, named
from lra_bench.report.summary.places import DIGITS
from lra_bench.report.summary.summing import COLUMN, column_of

HASHES = {"data_hash": ("data", "DATA"), "config_hash": ("config", "SETTINGS")}  # that are apart within a column


def column_names(summed: pd.DataFrame) -> tuple[list[str], list[str]]:
    """A short name a row for its column, and a note a column on what the name leaves out.

    Where a column is there with several data, or its config with several settings under one name, each has the first
    digits of that hash in its name.
    """
    columns = summed[COLUMN].astype(object).where(summed[COLUMN].notna(), None).to_dict("records")
    names: dict[str, str] = {}  # by the whole column
    alike: dict[str, dict[str, list[Any]]] = {}  # of each column but for its hashes: those
    for column in columns:
        for hash_of, found in alike.setdefault(_but_for_hashes(column), {key: [] for key in HASHES}).items():
            found += [column[hash_of]] if column[hash_of] not in found else []
    notes = []
    for column in columns:
        key = json.dumps(column, default=float)
        if key not in names:
            names[key] = _new_name(column, alike[_but_for_hashes(column)], list(names.values()))
            notes.append(f"{names[key]}: {_version_and_n(summed, column)}{_told(column)}")
    short_names = [names[json.dumps(column, default=float)] for column in columns]
    return short_names, [*notes, *_of_several(columns, alike)]


def _but_for_hashes(column: Mapping[Any, Any]) -> str:
    return json.dumps({key: value for key, value in column.items() if key not in HASHES}, default=float)


def _new_name(column: Mapping[Any, Any], alike: Mapping[str, Sequence[Any]], taken: Sequence[str]) -> str:
    short = _short(column)
    for key, (word, _) in HASHES.items():
        short += f", {word} {str(column[key] or 'unknown')[:DIGITS]}" if len(alike[key]) > 1 else ""
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


def _of_several(
    columns: Sequence[Mapping[Any, Any]], alike: Mapping[str, Mapping[str, Sequence[Any]]]
) -> Iterator[str]:
    """A note where what seems one column is several: of other examples, or of other settings under one name."""
    names = {_but_for_hashes(column): _short(column) for column in reversed(columns)}
    for key, hashes in alike.items():
        for hash_of, (_, what) in HASHES.items():
            if len(found := hashes[hash_of]) > 1:
                said = ", ".join(str(digest or "unknown")[:10] for digest in found)
                yield f"{names[key]}: NOT OF THE SAME {what}, a column for each of {len(found)} hashes: {said}"


def _short(column: Mapping[Any, Any]) -> str:
    recipe, tag, variant = column["config"], column["tag"], column["variant"]
    at = f"@{variant}" if variant and variant not in (recipe, tag) else ""
    return f"{column['task']}{at} {recipe}" + (f" [{tag}]" if tag and tag != recipe else "")
