"""The order of a table's lines: the best models first, by what is measured, over all columns."""

from __future__ import annotations

import pandas as pd

from lra_bench.metrics import named
from lra_bench.report import tables

LOWER = {"speed": "step_ms_p50", "memory": "compiled_bytes"}  # the lower the better


def ordered(frame: pd.DataFrame, by: str, what: str) -> pd.DataFrame:
    """The rows, those of the models (or families) first that are best by `what`; by `name`, as they are.

    Over several columns by the mean of the places in each; a model that is not in a column, or failed there, has the
    last place in it.
    """
    if what == "name":
        return frame
    names = tables.labels(frame) if by == "model" else frame[by]
    summed = tables.summary(frame, by) if what == "score" else tables.measured(frame, by)
    column = "test_score" if what == "score" else LOWER[what]
    if column not in summed:
        return frame
    higher = summed["metric"].map(lambda name: named(name).higher) if what == "score" else False
    worse = summed[column].astype(float).where(~pd.Series(higher, summed.index), -summed[column].astype(float))
    each = summed.assign(worse=worse, column=[str(tables.column_of(row)) for row in summed.to_dict("records")])
    best = each.groupby([by, "column"], sort=False)["worse"].min().unstack()
    places = best.rank(axis="index", method="min").fillna(len(best) + 1).mean(axis="columns")
    return frame.assign(place=names.map(places)).sort_values("place", kind="stable").drop(columns="place")
