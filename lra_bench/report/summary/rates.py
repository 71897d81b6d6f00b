"""Grids of learning rates: of each model on each column, the rate that is best on validation.

All points of a grid lie in the results; tables are of the chosen ones. Beside a score stand the rate and the width of
the window: how many of the rates that were tried come within two points of the best on validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lra_bench.metrics import named
from lra_bench.records.schema import SCORED
from lra_bench.report.summary import places
from lra_bench.report.summary.summing import COLUMN, labels, newest_of_seeds

NEAR = 0.02  # of a share: two points; of another score, so much of the best one
NOTE = "lr R (k of n): the learning rate that was best on validation, of n; k of them come within 2 points of it there"


def chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of other rates than the chosen one, where a sweep tried several.

    A rate counts by the mean over the seeds that all rates of the grid were tried with; one that failed with any of
    them is worse than all that did not. A run of such a model that was asked for by itself is of the grid too, if its
    rate is the grid's or has all those seeds; else it is not shown. Rows that were summed before stay as they are. What
    trying the others took is added to `tuning_trials` and `tuning_steps`.
    """
    if "lr_grid" not in frame or frame["lr_grid"].isna().all():
        return frame
    frame = places.with_data(frame, COLUMN)
    single = frame[["lr", "seed", "steps"]].notna().all(axis=1)
    parts = [frame[~single]]
    runs = frame[single]
    for _, rows in runs.groupby([labels(frame)[single], *(runs[key] for key in COLUMN)], dropna=False, sort=False):
        parts.append(_best(rows) if rows["lr_grid"].notna().any() else rows)
    return pd.concat([part for part in parts if len(part)]).sort_index()


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of the chosen rate, of one model on one column."""
    once = newest_of_seeds(rows[rows["run"].isna() | ~rows["run"].duplicated()], ["lr"])
    metric = named(rows["metric"].iloc[0])
    sign = 1 if metric.higher else -1
    scores = {lr: _score(of_rate) for lr, of_rate in _alike(once).items()}
    done = {lr: score for lr, score in scores.items() if score is not None}
    best = max(done, key=lambda lr: sign * done[lr]) if done else min(scores)
    span = NEAR if metric.share else NEAR * abs(done.get(best, 0.0))
    near = [lr for lr, score in done.items() if sign * (done[best] - score) <= span]
    inside = set(near) - {min(scores), max(scores)}
    kept = rows[rows["lr"] == best]
    cost = {"tuning_trials": len(once), "tuning_steps": int(sum(map(steps_taken, once.to_dict("records"))))}
    return kept.assign(lr_tried=len(scores), lr_near=len(near), lr_edge=not inside, **cost)


def _alike(rows: pd.DataFrame) -> dict[float, pd.DataFrame]:
    """Of each rate, its rows of the seeds that every rate of the grid has; all of them, where the grid's share none."""
    rates = {float(str(lr)): of_rate for lr, of_rate in rows.groupby("lr", sort=True)}
    grid = [of_rate for of_rate in rates.values() if of_rate["lr_grid"].notna().any()]
    common = set.intersection(*(set(of_rate["seed"]) for of_rate in grid))
    if not common:
        return {lr: of_rate for lr, of_rate in rates.items() if of_rate["lr_grid"].notna().any()}
    alike = {lr: of_rate[of_rate["seed"].isin(common)] for lr, of_rate in rates.items()}
    return {lr: of_rate for lr, of_rate in alike.items() if set(of_rate["seed"]) == common}


def _score(rows: pd.DataFrame) -> float | None:
    """The mean on validation; None where a run failed."""
    whole = rows["status"].isin(SCORED).all() and rows["val_score"].notna().all()
    return float(rows["val_score"].astype(float).mean()) if whole else None


def steps_taken(row: Mapping[Any, Any]) -> float:
    """Optimizer steps of a run: those that were asked for, or until it was stopped at a score."""
    stopped = row.get("stopped_step")
    return float(row["steps"] if pd.isna(stopped) else stopped)


def said(row: Mapping[Any, Any]) -> str:
    """The chosen rate of a summed row, and the width of its window; nothing where there was no grid, or where models
    of several rates are joined."""
    if pd.isna(row.get("lr_tried")) or pd.isna(row.get("lr")):
        return ""
    return f" lr {row['lr']:g} ({row['lr_near']:.0f} of {row['lr_tried']:.0f})"


def notes(summed: pd.DataFrame) -> Iterator[str]:
    """What that means, and which grids were tried."""
    if "lr_tried" not in summed or summed["lr_tried"].isna().all():
        return
    yield NOTE
    edges = [row for row in summed.to_dict("records") if row["lr_edge"] is True and row["lr_tried"] > 1]
    if edges:
        names = ", ".join(sorted({row["model"] for row in edges}))
        yield f"the chosen rate is at an end of its grid, and none inside comes within 2 points of it: {names}"
