"""The leaderboard's lines, as the page sorts and filters them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from lra_bench import mixers
from lra_bench.metrics import named
from lra_bench.report import tables
from lra_bench.report.summary import annotate, load, places
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
    number: bool = True


@dataclass(frozen=True)
class Entry:
    """One thing in a line of the leaderboard: what is shown, and what it is sorted by; "" sorts last."""

    text: str
    sort: float | str | None = None  # None: by its text
    bar: float | None = None  # percent of the way from nothing to the best

    @property
    def number(self) -> bool:
        return self.sort is not None and self.bar is None


HEADS = (
    Head("rank", "one more than the models that are significantly better; none of single runs alone"),
    Head("model", "as named in its paper", number=False),
    Head("family", "after Tay et al.'s survey", number=False),
    Head("task", "under which recipe", number=False),
    Head("score", "on test, with a 95% interval", number=False),
    Head("chance", "the best score without a look at the input"),
    Head("ms/step", "median of a training step, in the place of most of its column; other places are named"),
    Head("ex/s", "examples a second in training, likewise"),
    Head("MiB", "compiled memory of a training step (XLA's plan), likewise"),
    Head("peak MiB", "measured, likewise"),
    Head("parameters", "and times those of full attention"),
)


def board(frame: pd.DataFrame, summed: pd.DataFrame, out: Path) -> Iterator[dict[str, Any]]:
    """The lines of the leaderboard, the best first; `summed` is of `tables.summary`, with its columns' names."""
    named_frame = places.settled(frame.assign(model=tables.labels(frame)), tables.COLUMN)
    speeds = _speeds(frame)
    keyed = named_frame.groupby(["model", *tables.COLUMN], dropna=False, sort=False)
    runs = {tuple(None if k != k else k for k in key): rows for key, rows in keyed}
    worse = summed["test_score"] * summed["metric"].map(lambda name: -1.0 if named(name).higher else 1.0)
    ordered = summed.assign(worse=worse, missing=summed["test_score"].isna())
    for row in ordered.sort_values(["missing", "column", "worse"], kind="stable").to_dict("records"):
        key = (row["model"], *tables.column_of(row))
        yield {
            "model": row["model"],
            "family": row["family"],
            "column": row["column"],
            "control": _is_control(row["model"]),
            "cells": _entries(row, speeds.get(key, {}), float(summed["test_score"].max())),
            "runs": _links(runs[key], out),
        }


def _speeds(frame: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Entry]]:
    """By model and column, the times and sizes: of the place that most models of the column were measured in; where a
    model was not, of the one it was measured in last, which is said, and is sorted with none."""
    measured = tables.measured(frame)
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
    elsewhere = "" if rows[-1]["main"] else rows[-1]["head"].removeprefix(rows[-1]["name"])
    alone = len(shown) == 1 and not elsewhere
    return Entry("; ".join(shown) + elsewhere, float(rows[-1][what]) if alone else "")


def _is_control(model: str) -> bool:
    return model in mixers.names() and bool(mixers.sheet(model).card.control)


def _entries(row: Mapping[Any, Any], speeds: Mapping[str, Entry], best: float) -> list[Entry]:
    score = _score(row, best)
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


def _entry(value: Any, shown: Any) -> Entry:
    return Entry("", "") if pd.isna(value) else Entry(str(shown(float(value))), float(value))


def _score(row: Mapping[Any, Any], best: float) -> Entry:
    if pd.isna(row["test_score"]):
        return Entry(f"FAIL ({row['status']})", "")
    value, low, high = (annotate.score(row[key], row["metric"]) for key in ("test_score", "test_low", "test_high"))
    missing = row["runs"] - row["finished"]
    said = f"{value} ({low}-{high}){annotate.beside({**row, 'rank': None})}"
    bar = 100 * row["test_score"] / best if named(row["metric"]).share and best > 0 else None
    return Entry(said + (f" FAIL {missing} of {row['runs']}" if missing else ""), float(row["test_score"]), bar)


def _links(rows: pd.DataFrame, out: Path) -> list[dict[str, str]]:
    """To the rows of runs, by their seeds, relative to the page."""
    found = []
    for row in rows.to_dict("records"):
        if pd.notna(row["folder"]):
            path = os.path.relpath(Path(row["folder"]) / "result.json", out.parent)
            found.append(
                {"link": quote(path), "seed": f"s{row['seed']:.0f}", "title": f"{row['run']}: {row['status']}"}
            )
    return found
