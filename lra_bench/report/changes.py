"""What changed between two results folders: of each model on each column, with an interval, and whether it is worse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lra_bench import stats
from lra_bench.metrics import Metric, named
from lra_bench.report import ranks, tables
from lra_bench.report.digits import three_digits
from lra_bench.report.tables import COLUMN, VALUE, Comparison
from lra_bench.rows import SCORED

MIB = 2.0**-20


class Change(NamedTuple):
    """The second's value against the first's: a difference of scores, a ratio of times or sizes."""

    value: float
    low: float  # not a number where chance cannot be told
    high: float
    worse_by: float  # as a share of the first's value; negative where it is better
    none: float  # the value that says that nothing changed

    @property
    def is_sure(self) -> bool:
        """Does the interval leave out that nothing changed?"""
        return self.low > self.none or self.high < self.none


def changes(frame: pd.DataFrame, what: Sequence[str], by: str = "model") -> pd.DataFrame:
    """A row a model (or family), column and thing measured that both origins of `frame` have.

    Scores are compared on the same examples where both keep them, with the seeds' variance, as `stats.paired` does;
    times over seeds, by Welch's test of their logarithms; what a compiler planned has no chance in it.
    """
    first, second = dict.fromkeys(frame["origin"])
    done = frame.assign(model=tables.labels(frame))[frame["status"].isin(SCORED)]
    found = []
    for key, rows in done.groupby([*COLUMN, by], dropna=False, sort=False):
        sides = [rows[rows["origin"] == origin] for origin in (first, second)]
        for one in what:
            there = [side.dropna(subset=[VALUE[one]]) for side in sides]
            if not any(side.empty for side in there):
                column = dict(zip([*COLUMN, by], key, strict=True))
                found.append(column | {"what": one} | _changed(one, named(column["metric"]), there, by))
    columns = [*COLUMN, by, "what", "first", "second", "change", "low", "high", "worse_by", "sure"]
    return pd.DataFrame(found, columns=columns)


def _changed(what: str, metric: Metric, sides: Sequence[pd.DataFrame], by: str) -> dict[str, Any]:
    values = [side[VALUE[what]].to_numpy(float) for side in sides]
    means = [float(v.mean()) for v in values]
    change = _score(metric, sides, values, by) if what == "accuracy" else _ratio(what, values)
    return {
        "first": means[0],
        "second": means[1],
        "change": change.value,
        "low": change.low,
        "high": change.high,
        "worse_by": change.worse_by,
        "sure": change.is_sure,
    }


def _score(metric: Metric, sides: Sequence[pd.DataFrame], values: Sequence[np.ndarray], by: str) -> Change:
    before = float(values[0].mean())
    over = _by_examples(sides) if by == "model" else None
    if over is None:
        over = stats.apart(values[0], values[1])
    worse = -over.value if metric.higher else over.value
    return Change(over.value, over.low, over.high, worse / before if before else math.inf * np.sign(worse), 0.0)


def _by_examples(sides: Sequence[pd.DataFrame]) -> stats.Interval | None:
    """The second's mean score less the first's, on the same examples; None where they are not kept."""
    both = pd.concat(sides)
    if both["folder"].isna().any() or len(both[["data_hash", "test_n"]].drop_duplicates()) > 1:
        return None
    scores = [next(iter(ranks.scores(side.assign(model="it")).values()), None) for side in sides]
    if scores[0] is None or scores[1] is None:
        return None
    single = len(scores[0]) == len(scores[1]) == 1
    spread = None if single else stats.pooled([scores[0], scores[1]])
    found = stats.paired(scores[1], scores[0], spread)
    return stats.Interval(found.difference, found.low, found.high)


def _ratio(what: str, values: Sequence[np.ndarray]) -> Change:
    if what == "memory":
        ratio = float(values[1].mean() / values[0].mean())
        return Change(ratio, ratio, ratio, ratio - 1, 1.0)
    logs = stats.apart(*(np.log(v) for v in values))
    return Change(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high), math.exp(logs.value) - 1, 1.0)


def regressions(changed: pd.DataFrame, limit: float) -> Iterator[str]:
    """A line for each thing that became worse by more than `limit`, a share of what it was, and not by chance."""
    worse = changed[(changed["worse_by"] > limit) & changed["sure"]]
    names = _names(worse)[0]
    for row, name in zip(worse.to_dict("records"), names, strict=True):
        who = row.get("model") or row.get("family")
        yield f"{who} on {name}: {row['what']} {_shown(row, 'first')} -> {_shown(row, 'second')}: {_said(row)}"


def table(changed: pd.DataFrame, what: str, origins: Sequence[str], by: str = "model") -> Comparison:
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
    said = {
        "accuracy": "difference: over examples and seeds where both keep the same ones, else over seeds",
        "speed": "ratio: of the seeds' medians, with Welch's interval of their logarithms; no interval of single runs",
        "memory": "ratio: of what the compiler planned; there is no chance in it",
    }[what]
    sure = "*: surer than chance (95%)"
    return Comparison(what, tables.UNITS[what].split(",")[0], cells, (*notes, said, sure))


def _names(changed: pd.DataFrame) -> tuple[list[str], list[str]]:
    return tables.column_names(changed.assign(data_hash="")) if len(changed) else ([], [])


def _shown(row: Mapping[Any, Any], side: str) -> str:
    if row["what"] == "accuracy":
        return _points(row["metric"], row[side])
    return (three_digits(row[side]) or "") + " ms" if row["what"] == "speed" else f"{row[side] * MIB:,.0f} MiB"


def _points(metric: Any, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if named(metric).share else f"{value:{sign}.4g}"


def _said(row: Mapping[Any, Any]) -> str:
    mark = " *" if row["sure"] else ""
    if row["what"] == "accuracy":
        value, low, high = (_points(row["metric"], row[key], "+") for key in ("change", "low", "high"))
    else:
        value, low, high = (f"{row[key]:.2f}x" for key in ("change", "low", "high"))
    interval = "" if math.isnan(row["low"]) or row["low"] == row["high"] else f" ({low} to {high})"
    return f"{value}{interval}{mark}"
