"""What stands beside a score: its rank, who at chance, whose size is another; and the controls below a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench import mixers
from lra_bench.metrics import named

SIZES = (0.9, 1.1)  # parameters over full attention's: Long Range Arena's own rule of 10%


def score(value: float, metric: object) -> str:
    """A score as tables show it: a share in percent."""
    return f"{100 * value:.1f}" if named(metric).share else f"{value:.4g}"


def points(value: float, metric: object) -> str:
    """A difference of scores, in words: of shares in points of percent."""
    return f"{100 * value:.1f} points" if named(metric).share else f"{value:.3g}"


def beside(row: Mapping[Any, Any]) -> str:
    """The marks of a summed row."""
    rank = f" [{row['rank']}]" if pd.notna(row.get("rank")) else ""
    several = f" {row['runs_at_chance']} of {row['finished']}" if row["finished"] > 1 else ""
    chance = f" chance{several}" if row["runs_at_chance"] else ""
    return rank + chance + (f" {row['params_ratio']:.2f}x" if of_other_size(row.get("params_ratio")) else "")


def of_other_size(ratio: Any) -> bool:
    """Is a model, of so many times full attention's parameters, no fair match for it? Not where that is missing."""
    low, high = SIZES
    return bool(pd.notna(ratio) and not low <= ratio <= high)


def notes(summed: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """What the marks mean, where there are any; each column's chance and controls."""
    rows = summed.assign(column=list(names)).to_dict("records")
    if any(row.get("runs_at_chance", 0) > 0 for row in rows):
        yield (
            "chance: not significantly better than chance level (the majority class); "
            "k of n: so many of the runs at chance, and the mean is over all of them"
        )
    sizes = [row["params_ratio"] for row in rows if of_other_size(row.get("params_ratio"))]
    if sizes:
        yield f"{sizes[0]:.2f}x and the like: parameters over full attention's, more than 10% off: not a fair match"
    older = Counter[str]()
    for row in rows:
        older[row["model"]] += int(row["superseded"]) if (row.get("superseded") or 0) > 0 else 0
    if said := ", ".join(f"{model} ({count})" for model, count in older.items() if count):
        yield f"left out, runs of a seed that a newer one has, by other code of the mixer or source: {said}"
    yield from _bundles(rows)
    for name, column in pd.DataFrame(rows).groupby("column", sort=False):
        yield from _controls(str(name), column.dropna(subset="test_score")) if "test_score" in column else ()


def _bundles(rows: Sequence[Mapping[Any, Any]]) -> Iterator[str]:
    """Which models' rows others have run."""
    models: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.get("bundle"):
            models.setdefault(row["bundle"], {})[row["model"]] = None
    for bundle, names in models.items():
        yield f"merged from a bundle ({bundle}): {', '.join(names)}"
    if any("[code=" in row["model"] for row in rows):
        yield "[code=...]: by code that is not this package's, so its runs' ids cannot be computed from this package"


def _controls(name: str, rows: pd.DataFrame) -> Iterator[str]:
    """The column's chance, and what was reached without looking far."""
    if rows.empty:
        return
    said = [f"chance {score(rows['chance'].iloc[0], rows['metric'].iloc[0])}"]
    for row in rows.to_dict("records"):
        model = row["model"].split("[")[0]
        control = mixers.model_card(model).card.control if model in mixers.names() else ""
        if control:
            said.append(f"control {row['model']} {score(row['test_score'], row['metric'])} ({control})")
    yield f"{name}: {'; '.join(said)}"
