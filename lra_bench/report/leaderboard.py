"""The leaderboard's lines, as the page sorts and filters them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from lra_bench import mixers
from lra_bench.metrics import named
from lra_bench.report import tables
from lra_bench.report.summary import annotate, further, load, places
from lra_bench.report.summary.digits import three_digits

MIB = 2.0**-20
MEASURED: Mapping[str, Callable[[float], str]] = {
    "step_ms_p50": lambda ms: str(three_digits(ms)),
    "examples_per_s": lambda rate: str(three_digits(rate)),
    "compiled_bytes": lambda size: f"{size * MIB:,.0f}",
    "peak_bytes": lambda size: f"{size * MIB:,.0f}",
}


@dataclass(frozen=True)
class Head:
    """A column of the leaderboard."""

    title: str
    meaning: str
    kind: str  # of the page's style: what a narrow screen has no room for is `minor`
    number: bool = True


class Whisker(NamedTuple):
    """An interval and what lies in it, in percent of a column's range."""

    low: float
    at: float
    high: float


@dataclass(frozen=True)
class Entry:
    """One thing in a line of the leaderboard: what is shown, and what it is sorted by; "" sorts last."""

    text: str
    sort: float | str | None = None  # None: by its text
    whisker: Whisker | None = None
    place: str = ""  # where it was measured, if not where most of its column was

    @property
    def number(self) -> bool:
        """Is it shown as a number?"""
        return self.sort is not None and self.whisker is None


HEADS = (
    Head("rank", "one more than the number of models that are significantly better", "rank"),
    Head("model", "as named in its paper", "model", number=False),
    Head("family", "after Tay et al.'s survey", "family minor", number=False),
    Head("task", "and config", "task", number=False),
    Head("score", "on test, with a 95% interval", "score", number=False),
    Head("chance", "the score of the majority class", "minor"),
    Head("ms/step", "median of a training step", "time"),
    Head("ex/s", "examples per second in training", "minor"),
    Head("MiB", "compiled memory of a training step (XLA's plan)", "minor"),
    Head("peak MiB", "measured peak memory", "minor"),
    Head("parameters", "and their ratio to full attention's", "minor"),
)
ELSEWHERE = Head("other lengths", "test scores at lengths it was not trained at", "minor", number=False)


def heads(summed: pd.DataFrame) -> tuple[Head, ...]:
    """The columns; one more where a task asks for scores at other lengths."""
    return (*HEADS, ELSEWHERE) if further.LONGER.any(summed) else HEADS


def board(frame: pd.DataFrame, summed: pd.DataFrame, measured: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The lines of the leaderboard, the best first; `summed` is of `tables.summary`, with its columns' names, and
    `measured` of `tables.measured`."""
    named_frame = places.settled(frame.assign(model=tables.labels(frame)), tables.COLUMN)
    speeds = _speeds(measured)
    keyed = named_frame.groupby(["model", *tables.COLUMN], dropna=False, sort=False)
    runs = {tuple(None if k != k else k for k in key): rows for key, rows in keyed}
    ranges = {column: _range(rows) for column, rows in summed.groupby("column")}
    wide = ELSEWHERE in heads(summed)
    worse = summed["test_score"] * summed["metric"].map(lambda name: -1.0 if named(name).higher else 1.0)
    ordered = summed.assign(worse=worse, missing=summed["test_score"].isna())
    for row in ordered.sort_values(["missing", "column", "worse"], kind="stable").to_dict("records"):
        key = (row["model"], *tables.column_of(row))
        yield {
            "model": row["model"],
            "family": row["family"],
            "column": row["column"],
            "control": _is_control(row["model"]),
            "cells": _entries(row, speeds.get(key, {}), ranges[row["column"]]) + ([_elsewhere(row)] if wide else []),
            "runs": _runs(runs[key]),
        }


def _range(rows: pd.DataFrame) -> tuple[float, float]:
    """From the lowest to the highest end of a column's intervals."""
    ends = pd.concat([rows["test_low"], rows["test_high"], rows["test_score"]]).dropna().astype(float)
    return (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 1.0)


def _speeds(measured: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Entry]]:
    """By model and column, the times and sizes: of the place that most models of the column were measured in; where a
    model was not, of the one it was measured in last, which is said, and is sorted with none."""
    measured = measured.assign(name=tables.column_names(measured)[0])
    measured = measured.assign(head=places.headers(measured, list(measured["name"])), last=measured["started"])
    models = measured.groupby(["name", "head"], sort=False).agg(models=("model", "nunique"), last=("last", "max"))
    main = set(models.sort_values(["models", "last"]).reset_index().groupby("name")["head"].last())
    ordered = measured.assign(main=measured["head"].isin(main)).sort_values(["main", "last"], kind="stable")
    found: dict[tuple[Any, ...], dict[str, Entry]] = {}
    for (model, *_), rows in ordered.groupby(["model", *tables.COLUMN], dropna=False, sort=False):
        here = rows[rows["head"] == rows["head"].iloc[-1]].to_dict("records")
        found[model, *tables.column_of(here[0])] = {what: _measured(here, what) for what in MEASURED}
    return found


def _measured(rows: Sequence[Mapping[Any, Any]], what: str) -> Entry:
    """One thing that was measured, of one model in one place; of several builds one after another, sorted with none."""
    timed = what in ("step_ms_p50", "examples_per_s")
    shown = [
        MEASURED[what](float(row[what]))
        + places.tag(row["fallback"])
        + (load.tag(row.get("other_load")) if timed else "")
        for row in rows
        if pd.notna(row[what])
    ]
    if not shown:
        return Entry("", "")
    elsewhere = "" if rows[-1]["main"] else str(rows[-1]["head"])
    alone = len(shown) == 1 and rows[-1]["main"]
    return Entry("; ".join(shown), float(rows[-1][what]) if alone else "", place=elsewhere)


def _is_control(model: str) -> bool:
    return model in mixers.names() and bool(mixers.model_card(model).card.control)


def _entries(row: Mapping[Any, Any], speeds: Mapping[str, Entry], ends: tuple[float, float]) -> list[Entry]:
    score = _score(row, ends)
    ratio = "" if pd.isna(row["params_ratio"]) else f" ({row['params_ratio']:.2f}x)"
    rank = row.get("rank")
    return [
        Entry("" if pd.isna(rank) else str(rank), "" if pd.isna(rank) else int(rank)),
        Entry(str(row["model"])),
        Entry(str(row["family"])),
        Entry(str(row["column"])),
        score,
        _entry(row["chance"], lambda v: annotate.score(v, row["metric"])),
        *(speeds.get(what, Entry("", "")) for what in MEASURED),
        _entry(row["params"], lambda v: f"{v:,.0f}{ratio}"),
    ]


def _elsewhere(row: Mapping[Any, Any]) -> Entry:
    scores = {head.removeprefix("@"): score for head, score in further.LONGER.heads(row, "").items()}
    text = "; ".join(f"{length}: {further.text(score, row['metric'])}" for length, score in scores.items())
    first = next(iter(scores.values()), None)
    return Entry(text, "" if first is None else first)


def _entry(value: Any, shown: Any) -> Entry:
    return Entry("", "") if pd.isna(value) else Entry(str(shown(float(value))), float(value))


def _score(row: Mapping[Any, Any], ends: tuple[float, float]) -> Entry:
    if pd.isna(row["test_score"]):
        return Entry(f"FAIL ({row['status']})", "")
    values = [float(row[key]) for key in ("test_score", "test_low", "test_high")]
    value, low, high = (annotate.score(one, row["metric"]) for one in values)
    missing = row["runs"] - row["finished"]
    said = f"{value} ({low}-{high}){annotate.beside({**row, 'rank': None})}"
    at, left, right = (100 * (one - ends[0]) / ((ends[1] - ends[0]) or 1.0) for one in values)
    text = said + (f" FAIL {missing} of {row['runs']}" if missing else "")
    return Entry(text, values[0], Whisker(left, at, right) if left == left else None)


def _runs(rows: pd.DataFrame) -> list[dict[str, str]]:
    """The runs that the page tells of, by their seeds."""
    return [
        {"id": f"run-{row['run']}", "seed": f"s{row['seed']:.0f}", "title": f"{row['run']}: {row['status']}"}
        for row in rows.to_dict("records")
        if pd.notna(row["folder"])
    ]
