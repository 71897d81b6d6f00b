"""Scores over length: of runs at several lengths, and of one run's model tested at others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench.errors import ConfigError
from lra_bench.records.schema import settings_of
from lra_bench.report import tables
from lra_bench.report.summary import annotate, places
from lra_bench.report.tables import COLUMN, Comparison, Report

LENGTH = ("length", "task.length")  # as a result's `changed` has it


def report(frame: pd.DataFrame) -> Report:
    """A table for each task and recipe that was run at several lengths: a line a model, a column a length.

    Raises:
        ConfigError: none was.
    """
    alike = tables.summary(frame.assign(changed=frame["changed"].map(_without_length, na_action="ignore")))
    keys = [key for key in COLUMN if key not in ("length", "data_hash")]  # data cut at another length are other data
    made = [
        _table(rows)
        for _, rows in alike.groupby(keys, dropna=False, sort=False)
        if rows["length"].nunique() > 1 and "test_score" in rows
    ]
    if not made:
        raise ConfigError("no task here was run at several lengths; lra run --length L does")
    return Report(alike, tuple(made))


def _without_length(changed: str) -> str | None:
    return " ".join(one for one in settings_of(changed) if one.partition("=")[0] not in LENGTH) or None


def _table(rows: pd.DataFrame) -> Comparison:
    names, _ = tables.column_names(rows.assign(length=0, data_hash=""))
    ordered = rows.sort_values("length", kind="stable")
    texts = ordered.apply(tables.text, axis=1, what="accuracy")
    long = pd.DataFrame({"model": ordered["model"], "L": _heads(ordered), "said": texts})
    cells = long.pivot(index="model", columns="L", values="said").fillna("")
    cells = cells.reindex(index=list(dict.fromkeys(rows["model"])), columns=list(dict.fromkeys(long["L"])))
    cells.columns.name = None
    chances = rows.dropna(subset=["test_score"]).drop_duplicates("length").sort_values("length")
    said = ", ".join(
        f"{annotate.score(r['chance'], r['metric'])} at {r['length']:,}" for r in chances.to_dict("records")
    )
    return Comparison("accuracy", f"{names[0]}: score on test over length", cells, (f"chance: {said}",))


def _heads(rows: pd.DataFrame) -> pd.Series:
    """Each row's length; with the first digits of its data's hash, where there are several data at that length."""
    heads = rows["length"].map(lambda length: f"L = {length:,}")
    data = rows["data_hash"].astype(object).where(rows["data_hash"].notna(), "unknown").astype(str)
    several = data.groupby(rows["length"]).transform("nunique") > 1
    return (heads + ", data " + data.str[: places.DIGITS]).where(several, heads)


def longer(name: str, trained: int, metric: str, readings: Sequence[Mapping[str, Any]]) -> Report:
    """One run's model, trained at one length and tested at others; `readings` are `lengths.Reading`s."""
    lines = [{"L": f"{reading['length']:,}", **_said(reading, metric)} for reading in readings]
    table = Comparison(
        "accuracy", f"{name}: trained at L = {trained:,}, tested at", pd.DataFrame(lines).set_index("L"), ()
    )
    return Report(pd.DataFrame(list(readings)), (table,))


def _said(reading: Mapping[str, Any], metric: str) -> dict[str, str]:
    if reading["why"]:
        return {"test": reading["why"], "chance": "", "n": ""}
    value, low, high, chance = (annotate.score(reading[key], metric) for key in ("score", "low", "high", "chance"))
    return {"test": f"{value} ({low}-{high})", "chance": chance, "n": f"{reading['n']:,}"}
