"""Which model is better than which: pairs compared example by example, corrected for their number; ranks from them.

A model's rank in a column is one more than the number of models that are significantly better there. So several models
may have rank 1, and none that is as good as the best, as far as the examples and seeds can tell, has another. Where
nothing is known of seeds there are no ranks: the pairs have their differences, with intervals over examples, and no p.

A model that was derived from another run (quantized, pruned, distilled, adapted) takes no part, unless asked for: a
copy is no competitor, and each one more makes the correction stricter for those that are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lra_bench import statistics
from lra_bench.errors import ConfigError
from lra_bench.metrics import named
from lra_bench.records import store
from lra_bench.records.schema import SCORED
from lra_bench.report import tables
from lra_bench.report.summary.annotate import points
from lra_bench.report.summary.seeds import Column, Seeds
from lra_bench.report.summary.summing import derived, newest_of_seeds
from lra_bench.report.tables import COLUMN, Comparison, Report

TESTED = ["better", "worse", "difference", "low", "high", "p", "test", "p_holm"]


@dataclass(frozen=True)
class Ranking:
    """Every two models of a frame whose scores of the same examples are kept, in every column."""

    pairs: pd.DataFrame  # a row a pair: COLUMN and TESTED, the difference in the score's unit
    apart: frozenset[Column]  # columns whose rows were not tested on the same examples
    seeds: Seeds
    left_out: frozenset[str] = frozenset()  # models that were derived from another run

    @classmethod
    def of(cls, frame: pd.DataFrame, elsewhere: pd.DataFrame | None = None, *, every: bool = False) -> Ranking:
        """Compare the models of `frame`, those that were derived from another run too if `every` is asked for; p is
        corrected over all pairs of all columns.

        Rows `elsewhere` are not compared: they too tell how seeds vary, in the same columns.
        """
        frame = frame.assign(model=tables.labels(frame), bare=frame["model"])
        left_out = frozenset[str]()
        if not every:
            left_out = frozenset(frame["model"][derived(frame)])
            frame = frame[~derived(frame)]
            elsewhere = elsewhere if elsewhere is None else elsewhere[~derived(elsewhere)]
        seeds = Seeds.of(frame.assign(model=frame["bare"]), elsewhere)
        frame = frame[frame["run"].isna() | ~frame["run"].duplicated()]
        frame = newest_of_seeds(frame, ["model", *COLUMN])
        done = frame[frame["status"].isin(SCORED)]
        done = done.dropna(subset=["test_score", "folder"])
        found: list[dict[str, Any]] = []
        apart = set()
        for key, rows in done.groupby(COLUMN, dropna=False, sort=False):
            column = dict(zip(COLUMN, key, strict=True))
            if len(rows[["data_hash", "test_n"]].drop_duplicates()) > 1:
                apart.add(tables.column_of(column))
            else:
                higher, spread = named(column["metric"]).higher, seeds.get(column)
                found += [column | pair for pair in every_two(scores(rows), higher, spread)]
        return cls(corrected(found), frozenset(apart), seeds, left_out)

    def ranks(self) -> dict[tuple[Column, str], int]:
        """By column and model, of those that were tested."""
        ranks: dict[tuple[Column, str], int] = {}
        for key, pairs in self.pairs.dropna(subset="p").groupby(COLUMN, dropna=False, sort=False):
            column = tables.column_of(dict(zip(COLUMN, key, strict=True)))
            for better, worse, p in zip(pairs["better"], pairs["worse"], pairs["p_holm"], strict=True):
                ranks.setdefault((column, better), 1)
                ranks[column, worse] = ranks.get((column, worse), 1) + (p < statistics.ALPHA)
        return ranks

    def notes(self, ranked: pd.DataFrame) -> Iterator[str]:
        """How the summed rows' ranks are made, and who has none."""
        tested = self.pairs.dropna(subset="p")
        if len(tested):
            yield (
                f"[rank]: one more than the models that are significantly better, in place of a bold maximum: "
                f"p < {statistics.ALPHA} by {statistics.SEEDS}, after Holm over {len(tested):,} pairs"
            )
        told = ranked.assign(column=tables.column_names(ranked)[0])
        compared = {tables.column_of(pair) for pair in self.pairs.to_dict("records")}
        yield from self.seeds.notes(told[[tables.column_of(row) in compared for row in told.to_dict("records")]])
        yield from self._untold(told, tested)
        without = told[told["rank"].isna() & told["test_score"].notna()]
        if len(copies := without[without["model"].isin(self.left_out)]):
            models = _few(copies["model"].drop_duplicates().reset_index(drop=True))
            yield f"no rank, derived from another run (--rank-derived ranks these too): {models}"
        without = without[~without["model"].isin(self.left_out)]
        for name, rows in without.groupby("column", sort=False):
            column = tables.column_of(rows.iloc[0].to_dict())
            if column in self.apart:
                yield f"{name}: no ranks, its rows were not tested on the same examples"
            elif column not in compared or column in self.seeds.spreads:
                alone = (told["column"] == name).sum() == 1
                why = "no other model is there to compare with" if alone else "per-example scores are not kept"
                yield f"{name}: no rank, as {why}: {_few(rows['model'])}"

    def _untold(self, told: pd.DataFrame, tested: pd.DataFrame) -> Iterator[str]:
        """Of columns in which one model varies so much from seed to seed that no two are told apart, though some differ
        by more than that."""
        pairs: dict[Column, list[Mapping[Any, Any]]] = {}
        for pair in tested.to_dict("records"):
            pairs.setdefault(tables.column_of(pair), []).append(pair)
        for name, rows in told.groupby("column", sort=False):
            column = tables.column_of(rows.iloc[0].to_dict())
            most, its = self.seeds.unsteady.get(column), pairs.get(column, [])
            if most is None or any(pair["p_holm"] < statistics.ALPHA for pair in its):
                continue
            if any(abs(pair["difference"]) > most.deviation for pair in its):
                yield (
                    f"{name}: no two models are told apart, so all that are ranked have rank 1; most of how seeds vary "
                    f"is {most.model}'s, whose runs vary by {points(most.deviation, rows['metric'].iloc[0])}: that "
                    "another's few runs agree does not show that it is steadier"
                )

    def shown(self, summed: pd.DataFrame) -> list[Comparison]:
        """A table of pairs for each column."""
        names, _ = tables.column_names(summed)
        by_key = dict(zip((tables.column_of(row) for row in summed.to_dict("records")), names, strict=True))
        keys = [tables.column_of(pair) for pair in self.pairs.to_dict("records")]
        named_pairs = self.pairs.assign(column=[by_key[key] for key in keys])
        columns = named_pairs.groupby("column", sort=False)
        return [_table(str(name), rows, self.seeds.notes(rows)) for name, rows in columns]


def beside(
    frame: pd.DataFrame, summed: pd.DataFrame, by: str, elsewhere: pd.DataFrame | None = None, *, every: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The summed rows with the column `rank`, and what is to be said of it. A family has none, nor what is apart.

    `every`: see `Ranking.of`.
    """
    if by != "model" or "origin" in summed or "test_score" not in summed:
        return summed, ()
    ranking = Ranking.of(frame, elsewhere, every=every)
    ranks = ranking.ranks()
    keys = [(tables.column_of(row), row["model"]) for row in summed.to_dict("records")]
    ranked = summed.assign(rank=pd.array([ranks.get(key) for key in keys], dtype="Int64"))
    return ranked, tuple(ranking.notes(ranked))


def report(frame: pd.DataFrame, elsewhere: pd.DataFrame | None = None, *, every: bool = False) -> Report:
    """Every two models of a frame: as numbers, and as a table for each column. `elsewhere`, `every`: see `Ranking.of`.

    Raises:
        ConfigError: no two can be compared.
    """
    ranking = Ranking.of(frame, elsewhere, every=every)
    if ranking.pairs.empty:
        copies = "; --rank-derived compares those that were derived from another run" if ranking.left_out else ""
        raise ConfigError(
            f"no two models here whose scores of the same examples are kept; results folders have them{copies}"
        )
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


def every_two(
    scores: dict[str, np.ndarray], higher: bool, spread: statistics.Spread | None
) -> Iterator[dict[str, Any]]:
    """Every two models, the better one first."""
    if len(scores) < 2:
        return
    best_first = sorted(scores, key=lambda model: float(scores[model].mean()), reverse=higher)
    found = statistics.every_two([scores[model] for model in best_first], spread)
    for (better, worse), pair in zip(combinations(best_first, 2), found, strict=True):
        yield {"better": better, "worse": worse, **pair._asdict()}


def corrected(pairs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A family of pairs with their p after Holm."""
    family = pd.DataFrame(pairs, columns=[*COLUMN, *TESTED])
    return family.assign(p_holm=statistics.holm(list(family["p"])))


def _chance(p: float) -> str:
    return "" if pd.isna(p) else f"{p:.2g}"


def _table(name: str, pairs: pd.DataFrame, said: Iterable[str]) -> Comparison:
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
            "p": ordered["p"].map(_chance),
            "p, Holm": ordered["p_holm"].map(_chance),
        }
    ).set_index("better")
    told = int((pairs["p_holm"] < statistics.ALPHA).sum())
    notes = (
        *said,
        f"{told:,} of {len(pairs):,} differ after Holm (p < {statistics.ALPHA}); "
        "the interval is of a pair alone, at 95%",
        f"p: {', '.join(sorted(set(pairs['test'])))}",
    )
    unit = "points of test score" if share else f"test {named(pairs['metric'].iloc[0]).title}"
    return Comparison("pairs", f"{name}: every two models, the difference in {unit}", cells, notes)
