"""Results as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lra_bench.errors import ConfigError
from lra_bench.records.schema import COLUMNS
from lra_bench.records.store.results import folders, read_results
from lra_bench.records.store.runs import RUNS, provenance

if TYPE_CHECKING:
    import pandas as pd

SUMMED = (
    "runs",
    "finished",
    "runs_at_chance",
    "test_sd",
)  # of an exported result: how many runs, and their scores' deviation
TEXT = (
    *("run", "start", "teacher", "data_hash", "code_hash", "parts_hash", "config_hash", "commit", "code"),
    *("model", "task", "variant", "config", "tag", "status"),
)
NEEDED = ("model", "task", "length", "batch", "status")
NUMBERS = (
    *("length", "batch", "seed", "steps", "lr", "val_score", "test_score", "test_low", "test_high", "test_spread"),
    *("test_n", "chance", "step_ms_p50", "compiled_bytes", *SUMMED),
)
SCORE = ("test_n", "chance")  # what a score needs beside it


def to_dataframe(paths: Sequence[Path]) -> pd.DataFrame:
    """The results of results folders, single runs, and exported tables (.csv, .json), one below another.

    A table that was exported has joined several runs in a result: SUMMED are kept, missing for single runs. The column
    `origin` says which of `paths` a result came from, `folder` in which folder the run's other files lie,
    `bundle` and `code` what `provenance` says; they are missing for the results of a table.

    Raises:
        ConfigError: a path is not there, or holds no result.
    """
    import pandas as pd

    parts = []
    for path in paths:
        part = _table(path) if path.is_file() else _runs(path)
        if part.empty:
            raise ConfigError(f"{path}: no results here; a run leaves {RUNS}/<run>/result.json in its results folder")
        parts.append(part.assign(origin=str(path)))
    return pd.concat([p.dropna(axis="columns", how="all") for p in parts], ignore_index=True).reindex(
        columns=[*COLUMNS, *SUMMED, "origin", "folder", "bundle", "code"]
    )


def _runs(path: Path) -> pd.DataFrame:
    import pandas as pd

    there = zip(read_results(path), folders(path), strict=True)
    found = [result.as_dict() | {"folder": str(folder)} | provenance(folder) for result, folder in there]
    return pd.DataFrame(found, columns=[*COLUMNS, "folder", "bundle", "code"])


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        as_text = dict.fromkeys(TEXT, str)  # a hash of digits alone is no number, and the status nan is not missing
        if path.suffix == ".csv":
            table = pd.read_csv(path, dtype=as_text, keep_default_na=False, na_values=[""])
        else:
            table = pd.read_json(path, dtype=as_text)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: not a table of results (.csv or .json): {error}") from None
    table = table.replace([math.inf, -math.inf], math.nan)  # of earlier versions; no number was there
    if missing := [column for column in NEEDED if column not in table or table[column].isna().any()]:
        raise ConfigError(f"{path}: not a table of results: the column '{missing[0]}' is missing, or empty in a line")
    for column in NUMBERS:
        if column in table:
            try:
                table[column] = pd.to_numeric(table[column])
            except (ValueError, TypeError) as error:
                raise ConfigError(f"{path}: the column '{column}' holds no number: {error}") from None
    if "test_score" in table and table["test_score"].notna().any():
        scored = table[table["test_score"].notna()]
        if lacking := [column for column in SCORE if column not in scored or scored[column].isna().any()]:
            raise ConfigError(f"{path}: a test_score without '{lacking[0]}' beside it")
    return table
