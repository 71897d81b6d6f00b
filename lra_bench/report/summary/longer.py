"""Scores at other lengths than a run was trained at, which its task asks for (`test_lengths`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lra_bench.report.summary import annotate

COLUMN = "test_at"
BOUND = "bound"  # to its length: there is no score


def heads(test_at: Any, title: str) -> dict[str, float | None]:
    """The scores of a result at other lengths, by `title`@length; none where its task asks for none."""
    return {f"{title}@{length}": score for length, score in json.loads(test_at).items()} if known(test_at) else {}


def known(test_at: Any) -> bool:
    """Does the result have scores at other lengths?"""
    return isinstance(test_at, str) and test_at != ""


def joined(rows: pd.DataFrame) -> dict[str, str]:
    """The mean over runs at each length, as a result has it, of rows of as many `finished` runs; empty of none."""
    there = rows[rows[COLUMN].map(known)] if COLUMN in rows else rows.iloc[:0]
    each = [json.loads(said) for said in there[COLUMN]] if len(there) else []
    lengths = dict.fromkeys(length for one in each for length in one)
    means = {length: _mean([one.get(length) for one in each], list(there["finished"])) for length in lengths}
    return {COLUMN: json.dumps(means)} if means else {}


def _mean(scores: Sequence[float | None], runs: Sequence[int]) -> float | None:
    """Over the runs that have one."""
    pairs = [(score, count) for score, count in zip(scores, runs, strict=True) if score is not None]
    return sum(score * count for score, count in pairs) / sum(count for _, count in pairs) if pairs else None


def text(score: float | None, metric: object) -> str:
    """What stands in a table."""
    return BOUND if score is None else annotate.score(score, metric)


def columns(summed: pd.DataFrame, names: Sequence[str], by: str) -> pd.DataFrame:
    """What stands in a table beside its columns of those `names`: a line a model, a column a length, in text."""
    long = [
        {by: row[by], "column": head, "said": text(score, row["metric"])}
        for name, row in zip(names, summed.to_dict("records"), strict=True)
        for head, score in heads(row.get(COLUMN), f"{name} ").items()
    ]
    if not long:
        return pd.DataFrame(index=pd.Index([], name=by))
    frame = pd.DataFrame(long)
    joined = frame.groupby([by, "column"], sort=False)["said"].agg("; ".join).unstack()
    return joined[list(dict.fromkeys(frame["column"]))]
