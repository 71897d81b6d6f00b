"""How scores vary from seed to seed, in each column: of its own models and, said so, of models of other folders.

Without that nothing is told of a single run: another seed of the same model differs by more than its examples say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from lra_bench import statistics
from lra_bench.report.summary.annotate import points
from lra_bench.report.summary.summing import COLUMN, begun_elsewhere, column_of, summary

Column = tuple[Any, ...]
NO_SEEDS = (
    "nothing is known of other seeds, and runs of one model differ by more than their examples say: no ranks, nothing "
    f"significant; {statistics.LEAST_RUNS} runs of some model in this column tell it, here or in another folder "
    "(--seeds-from DIR)"
)


LEAST_MODELS = 3  # of a column, before one of them is called unsteady
STEADIER = 3  # times: the others of a column vary less than the one that is unsteady, by so much or more


class Unsteady(NamedTuple):
    """A model whose runs vary far more than those of the others of its column."""

    model: str
    deviation: float


@dataclass(frozen=True)
class Seeds:
    """The variance over seeds of each column that has one."""

    spreads: dict[Column, statistics.Spread]
    unsteady: dict[Column, Unsteady] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()  # folders that were asked besides

    @classmethod
    def of(cls, frame: pd.DataFrame, elsewhere: pd.DataFrame | None = None) -> Seeds:
        """Of the models that have several runs, in `frame` and `elsewhere`; a run that is in both counts once. Models
        that began with another run's parameters vary with it, and tell nothing of their own."""
        rows = frame if elsewhere is None else pd.concat([frame, elsewhere], ignore_index=True)
        rows = rows[~begun_elsewhere(rows)]
        asked = () if elsewhere is None else tuple(dict.fromkeys(elsewhere["origin"].astype(str)))
        summed = summary(rows)
        if "test_sd" not in summed:
            return cls({}, elsewhere=asked)
        several = summed.dropna(subset="test_sd")
        found, unsteady = {}, dict[Column, Unsteady]()
        for key, models in several.groupby(COLUMN, dropna=False, sort=False):
            column = column_of(dict(zip(COLUMN, key, strict=True)))
            spread = statistics.spread_of(list(models["test_sd"].astype(float) ** 2), list(models["finished"]))
            if spread is not None:
                found[column] = spread
                unsteady |= {column: most} if (most := _unsteady(models)) else {}
        return cls(found, unsteady, asked)

    def get(self, row: Any) -> statistics.Spread | None:
        """That of the column of a row, or of anything with `COLUMN`; None where nothing is known."""
        return self.spreads.get(column_of(row))

    def notes(self, told: pd.DataFrame) -> Iterator[str]:
        """Of each column of `told`, rows with `COLUMN` and the column's name in `column`: how seeds vary, and whose."""
        for name, rows in told.groupby("column", sort=False):
            spread = self.get(rows.iloc[0].to_dict())
            if spread is None:
                yield f"{name}: {NO_SEEDS}"
                continue
            whose = f", with those in {', '.join(self.elsewhere)}" if self.elsewhere else ""
            deviation = points(spread.variance**0.5, rows["metric"].iloc[0])
            yield (
                f"{name}: seeds vary by {deviation} (standard deviation, of {spread.models} models with "
                f"{statistics.LEAST_RUNS} runs or more{whose}); a model of fewer runs is taken to vary so"
            )


def _unsteady(models: pd.DataFrame) -> Unsteady | None:
    """Of three of a column's models or more, the one that varies far more than the others together, if one does."""
    asked = models[models["finished"] >= statistics.LEAST_RUNS].sort_values("test_sd", ascending=False)
    if len(asked) < LEAST_MODELS:
        return None
    most, others = asked.iloc[0], asked.iloc[1:]
    freedom = others["finished"] - 1
    pooled = float((others["test_sd"].astype(float) ** 2 * freedom).sum() / freedom.sum()) ** 0.5
    deviation = float(most["test_sd"])
    return Unsteady(str(most["model"]), deviation) if deviation > STEADIER * pooled else None
