"""What changed between two results folders, in words: tables, and the lines that a CI fails by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench import statistics
from lra_bench.errors import ConfigError
from lra_bench.metrics import named
from lra_bench.report import diff, tables
from lra_bench.report.diff import BARE, STATUS
from lra_bench.report.summary import columns, load, places
from lra_bench.report.summary.digits import three_digits
from lra_bench.report.tables import Comparison

MIB = 2.0**-20
BASIS = {
    "accuracy": "difference: over the same examples where both keep them, and over seeds, with the column's variance "
    "over seeds; without that variance nothing is told, and the interval is of these runs on other examples",
    "speed": "ratio: of medians, with the column's variance over runs; where there is none, with that of the steps "
    "themselves; where there is none either, bare",
    "memory": "ratio: of what the compiler planned; there is no chance in it",
}


def report(
    frame: pd.DataFrame, what: Sequence[str], by: str = "model", elsewhere: pd.DataFrame | None = None
) -> tables.Report:
    """What changed, as numbers and as tables, that of what does not finish any more first.

    Raises:
        ConfigError: the two have nothing in common.
    """
    changed = diff.changes(frame, what, by, elsewhere)
    origins = list(dict.fromkeys(frame["origin"]))
    made = [_statuses(changed, origins, by)] if (changed["what"] == STATUS).any() else []
    settings = list(diff.other_settings(frame))
    made += [_table(changed, one, origins, by, settings) for one in what if (changed["what"] == one).any()]
    if not made:
        raise ConfigError(
            f"{' and '.join(origins)}: no model is in both on the same task under the same config: nothing to compare; "
            "a single folder is shown as it is"
        )
    return tables.Report(changed, tuple(made))


def lines(changed: pd.DataFrame, limit: float) -> Iterator[str]:
    """A line for each regression: what became worse by more than `limit`, or does not finish any more."""
    worse = diff.regressions(changed, limit)
    for row, name in zip(worse.to_dict("records"), _names(worse)[0], strict=True):
        who = row.get("model") or row.get("family")
        yield f"{who} on {name}: " + (
            f"{row['was']} -> {row['now']}"
            if row["what"] == STATUS
            else f"{row['what']} {_shown(row, 'first')} -> {_shown(row, 'second')}: {_said(row)}"
        )


def untold(changed: pd.DataFrame) -> Iterator[str]:
    """A line for each thing measured of which nothing can be said, and why: silence is no pass."""
    unknown = diff.untold(changed)
    for (what, why), rows in unknown.groupby(["what", "why"], sort=False):
        named_ = dict.fromkeys(f"{row.get('model') or row.get('family')}" for row in rows.to_dict("records"))
        few = ", ".join(list(named_)[:3]) + (f" and {len(named_) - 3} more" if len(named_) > 3 else "")
        yield f"{what} of {few}: {why}"


def _statuses(changed: pd.DataFrame, origins: Sequence[str], by: str) -> Comparison:
    ours = changed[changed["what"] == STATUS]
    cells = pd.DataFrame(
        {by: list(ours[by]), "column": _names(ours)[0], origins[0]: list(ours["was"]), origins[1]: list(ours["now"])}
    ).set_index(by)
    return Comparison(STATUS, "runs that finished, and do not now", cells, ())


def _table(changed: pd.DataFrame, what: str, origins: Sequence[str], by: str, settings: Sequence[str]) -> Comparison:
    """One thing that is measured: both values, and the change with its interval."""
    ours = changed[changed["what"] == what]
    names, notes = _names(ours)
    rows = ours.to_dict("records")
    cells = pd.DataFrame(
        {
            by: [row[by] for row in rows],
            "column": names,
            origins[0]: [_shown(row, "first") for row in rows],
            origins[1]: [_shown(row, "second") for row in rows],
            "difference" if what == "accuracy" else "ratio": [_said(row) for row in rows],
        }
    ).set_index(by)
    tested = int(changed["p"].notna().sum())
    sure = f"*: surer than chance: p < {statistics.ALPHA} after Holm over the {tested:,} scores and times that "
    sure += (
        "were tested, so that in one of twenty comparisons of equals any is marked; intervals are of each alone: 95%"
    )
    busy = [load.NOTE] if any(map(load.tag, [*ours["first_load"], *ours["second_load"]])) else []
    return Comparison(what, tables.UNITS[what].split(",")[0], cells, (*notes, *settings, *busy, BASIS[what], sure))


def _names(changed: pd.DataFrame) -> tuple[list[str], list[str]]:
    return columns.column_names(changed) if len(changed) else ([], [])


def _shown(row: Mapping[Any, Any], side: str) -> str:
    if pd.isna(row[side]):
        return ""
    if row["what"] == "accuracy":
        return _points(row["metric"], row[side])
    shown = f"{three_digits(row[side])} ms" if row["what"] == "speed" else f"{row[side] * MIB:,.0f} MiB"
    return shown + places.tag(row[f"{side}_fallback"]) + load.tag(row[f"{side}_load"])


def _points(metric: Any, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if named(metric).share else f"{value:{sign}.4g}"


def _said(row: Mapping[Any, Any]) -> str:
    why = "" if pd.isna(row["why"]) else str(row["why"])
    if pd.isna(row["change"]):
        return why
    if row["what"] == "accuracy":
        value, low, high = (_points(row["metric"], row[key], "+") for key in ("change", "low", "high"))
    else:
        value, low, high = (f"{row[key]:.2f}x" for key in ("change", "low", "high"))
    interval = "" if math.isnan(row["low"]) or row["low"] == row["high"] else f" ({low} to {high})"
    mark = " *" if row["sure"] and why != BARE else ""
    return f"{value}{interval}{mark}" + (f", {why.split(':')[0]}" if why else "")
