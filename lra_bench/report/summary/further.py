"""Scores that a result has beside its own, as JSON by a number: at other lengths than it was trained at, which its task
asks for (`test_lengths`), and of the parts of a text, where each place is asked for the next symbol."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import pandas as pd

from lra_bench.report.summary import annotate

BOUND = "bound"  # to its length: there is no score


@dataclass(frozen=True)
class Further:
    """One kind of them."""

    column: str  # of a result
    sign: str  # before the number, in the heads of tables

    def heads(self, row: Mapping[Any, Any], title: str) -> dict[str, float | None]:
        """The scores of a result, or of several that were summed, by title, sign and number; none if it has none."""
        said = row.get(self.column)
        return {f"{title}{self.sign}{key}": score for key, score in json.loads(said).items()} if known(said) else {}

    def joined(self, rows: pd.DataFrame) -> dict[str, str]:
        """The mean over runs of each, as a result has it, of rows of as many `finished` runs; empty of none."""
        there = rows[rows[self.column].map(known)] if self.column in rows else rows.iloc[:0]
        each = [json.loads(said) for said in there[self.column]] if len(there) else []
        keys = dict.fromkeys(key for one in each for key in one)
        means = {key: _mean([one.get(key) for one in each], list(there["finished"])) for key in keys}
        return {self.column: json.dumps(means)} if means else {}

    def any(self, summed: pd.DataFrame) -> bool:
        """Has one of the rows such scores?"""
        return self.column in summed and bool(summed[self.column].map(known).any())

    def columns(self, summed: pd.DataFrame, names: Sequence[str], by: str) -> pd.DataFrame:
        """What stands in a table beside its columns of those `names`: a line a model, a column a score, in text."""
        return columns(summed, names, by, lambda row, name: _shown(self.heads(row, f"{name} "), row["metric"]))


LONGER = Further("test_at", "@")
PLACES = Further("test_by_place", "from ")


def known(said: Any) -> TypeGuard[str]:
    """Does the result have such scores?"""
    return isinstance(said, str) and said != ""


def text(score: float | None, metric: object) -> str:
    """What stands in a table."""
    return BOUND if score is None else annotate.score(score, metric)


def columns(
    summed: pd.DataFrame, names: Sequence[str], by: str, said: Callable[[Mapping[Any, Any], str], Mapping[str, str]]
) -> pd.DataFrame:
    """A table of what is `said` of each summed row beside its column of that name, by the head of a column."""
    long = [
        {by: row[by], "column": head, "said": shown}
        for name, row in zip(names, summed.to_dict("records"), strict=True)
        for head, shown in said(row, name).items()
    ]
    if not long:
        return pd.DataFrame(index=pd.Index([], name=by))
    frame = pd.DataFrame(long)
    table = frame.groupby([by, "column"], sort=False)["said"].agg("; ".join).unstack()
    return table[list(dict.fromkeys(frame["column"]))]


def _shown(scores: Mapping[str, float | None], metric: object) -> dict[str, str]:
    return {head: text(score, metric) for head, score in scores.items()}


def _mean(scores: Sequence[float | None], runs: Sequence[int]) -> float | None:
    """Over the runs that have one."""
    pairs = [(score, count) for score, count in zip(scores, runs, strict=True) if score is not None]
    return sum(score * count for score, count in pairs) / sum(count for _, count in pairs) if pairs else None
