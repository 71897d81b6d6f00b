"""Scores of all texts of test together, beside the mean over them by which models are ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lra_bench.report.summary import further

HEADS = {"exact_match": "exact match %", "bleu": "BLEU", "chrf": "corpus chrF"}  # of a result's columns
SCALE = {"exact_match": 100.0}  # of those that are no percentages as they stand


def heads(row: Mapping[Any, Any]) -> dict[str, str]:
    """What stands in a table of a result, or of several that were summed; nothing where its task writes no texts."""
    there = {column: row.get(column) for column in HEADS}
    return {
        HEADS[column]: f"{SCALE.get(column, 1.0) * float(score):.1f}"
        for column, score in there.items()
        if score is not None and pd.notna(score)
    }


def joined(rows: pd.DataFrame) -> dict[str, float]:
    """The means over runs, of rows of as many `finished` runs; empty of none."""
    means = {}
    for column in (name for name in HEADS if name in rows):
        if (known := rows[column].notna()).any():
            there = rows[known]
            means[column] = float(np.average(there[column].astype(float), weights=there["finished"].astype(int)))
    return means


def columns(summed: pd.DataFrame, names: Sequence[str], by: str) -> pd.DataFrame:
    """What stands in a table beside its columns of those `names`: a line a model, a column a score, in text."""
    said = lambda row, name: {f"{name} {head}": shown for head, shown in heads(row).items()}  # noqa: E731
    return further.columns(summed, names, by, said)
