"""Which model is better than which: pairs compared example by example, corrected for their number; ranks from them.

A model's rank in a column is one more than the number of models that are significantly better there. So several models
may have rank 1, and none that is as good as the best, as far as the examples and seeds can tell, has another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lra_bench import stats, store
from lra_bench.errors import ConfigError
from lra_bench.metrics import named
from lra_bench.report import tables
from lra_bench.report.tables import COLUMN, Comparison, Report
from lra_bench.rows import SCORED

Column = tuple[Any, ...]
TESTED = ["better", "worse", "difference", "low", "high", "p", "test", "p_holm"]


@dataclass(frozen=True)
class Ranking:
    """Every two models of a frame whose scores of the same examples are kept, in every column."""

    pairs: pd.DataFrame  # a row a pair: COLUMN and TESTED, the difference in the score's unit
    apart: frozenset[Column]  # columns whose rows were not tested on the same examples

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Ranking:
        """Compare the models of `frame`; p is corrected over all pairs of all columns."""
        frame = frame[frame["cell"].isna() | ~frame["cell"].duplicated()]
        done = frame.assign(model=tables.labels(frame))[frame["status"].isin(SCORED)]
        done = done.dropna(subset=["test_score", "folder"])
        found: list[dict[str, Any]] = []
        apart = set()
        for key, rows in done.groupby(COLUMN, dropna=False, sort=False):
            column = dict(zip(COLUMN, key, strict=True))
            if len(rows[["data_hash", "test_n"]].drop_duplicates()) > 1:
                apart.add(tables.column_of(column))
            else:
                found += [column | pair for pair in every_two(scores(rows), named(column["metric"]).higher)]
        pairs = pd.DataFrame(found, columns=[*COLUMN, *TESTED])
        return cls(pairs.assign(p_holm=stats.holm(list(pairs["p"]))), frozenset(apart))

    def ranks(self) -> dict[tuple[Column, str], int]:
        """By column and model, of those that were compared."""
        ranks: dict[tuple[Column, str], int] = {}
        for pair in self.pairs.to_dict("records"):
            column = tables.column_of(pair)
            ranks.setdefault((column, pair["better"]), 1)
            ranks[column, pair["worse"]] = ranks.get((column, pair["worse"]), 1) + (pair["p_holm"] < stats.ALPHA)
        return ranks

    def notes(self, ranked: pd.DataFrame) -> Iterator[str]:
        """How the summed rows' ranks are made, and who has none."""
        if len(self.pairs):
            yield (
                f"[rank]: one more than the models that are significantly better, in place of a bold maximum: "
                f"p < {stats.ALPHA} by {', '.join(sorted(set(self.pairs['test'])))}, after Holm over "
                f"{len(self.pairs):,} pairs"
            )
        names, _ = tables.column_names(ranked)
        without = ranked.assign(column=names)[ranked["rank"].isna() & ranked["test_score"].notna()]
        for name, rows in without.groupby("column", sort=False):
            if tables.column_of(rows.iloc[0].to_dict()) in self.apart:
                yield f"{name}: no ranks, its rows were not tested on the same examples"
            else:
                yield f"{name}: no rank, its scores of single examples are not here, or alone: {_few(rows['model'])}"

    def shown(self, summed: pd.DataFrame) -> list[Comparison]:
        """A table of pairs for each column."""
        names, _ = tables.column_names(summed)
        by_key = dict(zip((tables.column_of(row) for row in summed.to_dict("records")), names, strict=True))
        columns = [tables.column_of(pair) for pair in self.pairs.to_dict("records")]
        named_pairs = self.pairs.assign(column=[by_key[column] for column in columns])
        return [_table(str(name), rows) for name, rows in named_pairs.groupby("column", sort=False)]


def beside(frame: pd.DataFrame, summed: pd.DataFrame, by: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The summed rows with the column `rank`, and what is to be said of it. A family has none, nor what is apart."""
    if by != "model" or "origin" in summed or "test_score" not in summed:
        return summed, ()
    ranking = Ranking.of(frame)
    ranks = ranking.ranks()
    keys = [(tables.column_of(row), row["model"]) for row in summed.to_dict("records")]
    ranked = summed.assign(rank=pd.array([ranks.get(key) for key in keys], dtype="Int64"))
    return ranked, tuple(ranking.notes(ranked))


def report(frame: pd.DataFrame) -> Report:
    """Every two models of a frame: as numbers, and as a table for each column.

    Raises:
        ConfigError: no two can be compared.
    """
    ranking = Ranking.of(frame)
    if ranking.pairs.empty:
        raise ConfigError("no two models here whose scores of the same examples are kept; results folders have them")
    return Report(ranking.pairs, tuple(ranking.shown(tables.summary(frame))))


def _few(models: pd.Series) -> str:
    return ", ".join(models[:5]) + (f" and {len(models) - 5} more" if len(models) > 5 else "")


def scores(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """The scores that were kept, by model [runs, examples], of rows of one column.

    Raises:
        ConfigError: they are not of the row's examples.
    """
    found: dict[str, list[np.ndarray]] = {}
    for row in rows.to_dict("records"):
        kept = store.scores(Path(row["folder"]))
        if kept is not None and len(kept) != row["test_n"]:
            raise ConfigError(f"{row['folder']}: keeps the scores of {len(kept)} examples of {row['test_n']:.0f}")
        if kept is not None and len(kept) > 1:
            found.setdefault(row["model"], []).append(kept)
    return {model: np.stack(runs) for model, runs in found.items()}


def every_two(scores: dict[str, np.ndarray], higher: bool) -> Iterator[dict[str, Any]]:
    """Every two models, the better one first."""
    spread = stats.pooled(list(scores.values()))
    best_first = sorted(scores, key=lambda model: float(scores[model].mean()), reverse=higher)
    for better, worse in combinations(best_first, 2):
        yield {"better": better, "worse": worse, **stats.paired(scores[better], scores[worse], spread)._asdict()}


def _table(name: str, pairs: pd.DataFrame) -> Comparison:
    """The pairs of one column, those first that are surest to differ."""
    share = named(pairs["metric"].iloc[0]).share
    score = (lambda v: f"{100 * v:+.1f}") if share else (lambda v: f"{v:+.4g}")
    ordered = pairs.sort_values(["p_holm", "p"], kind="stable")
    cells = pd.DataFrame(
        {
            "better": ordered["better"],
            "worse": ordered["worse"],
            "difference": [
                f"{score(d)} ({score(low)} to {score(high)})"
                for d, low, high in zip(ordered["difference"], ordered["low"], ordered["high"], strict=True)
            ],
            "p": ordered["p"].map("{:.2g}".format),
            "p, Holm": ordered["p_holm"].map("{:.2g}".format),
        }
    ).set_index("better")
    told = int((pairs["p_holm"] < stats.ALPHA).sum())
    notes = (
        f"{told:,} of {len(pairs):,} differ after Holm (p < {stats.ALPHA}); the interval is of a pair alone, at 95%",
        f"p: {', '.join(sorted(set(pairs['test'])))}",
    )
    unit = "points of test score" if share else f"test {named(pairs['metric'].iloc[0]).title}"
    return Comparison("pairs", f"{name}: every two models, the difference in {unit}", cells, notes)
