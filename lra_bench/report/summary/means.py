"""Means over tasks: over what every row has; and the two that the field prints of Long Range Arena.

Which tasks those are, and what a failure counts as, is in `tasks/arena.csv`: the mean of five is the paper's (Tay et
al. 2021), the mean of six, with a failed sixth at chance, that of the papers since S4 (Gu et al. 2022).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from lra_bench import config
from lra_bench.metrics import HITS, named
from lra_bench.report.summary.summing import COLUMN, derived


class Means(NamedTuple):
    """Further columns of a table, and what is to be said of them."""

    columns: dict[str, pd.Series]  # shares, indexed by model or family; missing where a task is
    notes: tuple[str, ...]


class Member(NamedTuple):
    """A task of the arena."""

    task: str
    of: str  # the smallest mean that it is in
    failed: float | None  # what it counts as where nothing was learned


NONE = Means({}, ())


def arena() -> list[Member]:
    """The arena's tasks, those of the smaller mean first."""
    with (config.shipped("tasks") / "arena.csv").open(newline="", encoding="utf-8") as file:
        return [Member(r["task"], r["of"], float(r["failed"]) if r["failed"] else None) for r in csv.DictReader(file)]


def means(summed: pd.DataFrame, by: str) -> Means:
    """The means that the table has: where it holds the arena, the arena's; else one over what every row has that was
    not derived from another run.

    There is none over columns of several recipes, or scores that are no shares. A column of several tasks is in none.
    """
    summed = summed[summed["metric"] != HITS.name]
    under = summed[COLUMN].drop_duplicates()
    ways = under[["config", "changed", "tag"]].drop_duplicates()
    several = under["task"].duplicated().any() or len(ways) > 1
    if several or "test_score" not in summed or not all(named(name).share for name in summed["metric"]):
        return NONE
    return _of_arena(summed, by) or _of_all(summed, by)


def _of_all(summed: pd.DataFrame, by: str) -> Means:
    wide = _wide(summed, by)
    trained = _wide(summed[~derived(summed)], by)
    columns = (wide if trained.empty else trained).dropna(axis="columns").columns
    if len(columns) < 2:
        return NONE
    return Means({f"mean of {len(columns)}": wide[columns].mean(axis=1, skipna=False)}, ())


def _of_arena(summed: pd.DataFrame, by: str) -> Means | None:
    """Each mean whose tasks are all among the columns."""
    members = arena()
    counted = summed.assign(test_score=[_counted(row, members) for row in summed.to_dict("records")])
    wide = _wide(counted, by)
    columns: dict[str, pd.Series] = {}
    tasks: list[str] = []
    notes: list[str] = []
    for of in dict.fromkeys(member.of for member in members):
        joining = [member for member in members if member.of == of]
        tasks += [member.task for member in joining]
        if not set(tasks) <= set(wide):
            break
        columns[f"mean of {of}"] = wide[tasks].mean(axis=1, skipna=False)
        failures = [f"a failed {m.task} counts as {100 * m.failed:.0f}" for m in joining if m.failed is not None]
        notes.append(f"mean of {of}: {', '.join([*tasks, *failures])}")
    return Means(columns, tuple(notes)) if columns else None


def _counted(row: Mapping[Any, Any], members: list[Member]) -> float:
    """A row's score; where it failed, what the arena counts that as."""
    failed = next((member.failed for member in members if member.task == row["task"]), None)
    nothing_learned = pd.isna(row["test_score"]) or row.get("at_chance")
    return failed if failed is not None and nothing_learned else float(row["test_score"])


def _wide(summed: pd.DataFrame, by: str) -> pd.DataFrame:
    wide = summed.pivot(index=by, columns="task", values="test_score").astype(float)
    return wide.reindex(list(dict.fromkeys(summed[by])))
