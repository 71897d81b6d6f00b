"""What each model was given: parameters, computation, steps, examples. Scores are to be read beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lra_bench import store
from lra_bench.report import marks, tables
from lra_bench.report.tables import COLUMN, Comparison, Report

TITLE = "what each model was given"
SETTING = ("knobs", "variant", "recipe", "changed", "mark", "batch", "accumulate", "steps", "dtype")


def ledger(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a model and column: parameters, FLOPs of training a token, steps, examples seen, what was tried.

    `tried` are the settings of the model on the task at that length that the frame holds, failed ones too, whatever
    their seed: the tuning budget, as far as it lies here. Missing is missing.
    """
    frame = frame.assign(tried=tried(frame), flops_per_token=[_flops(row) for row in frame.to_dict("records")])
    frame = frame.assign(model=tables.labels(frame))
    groups = frame.groupby(["model", *COLUMN], dropna=False, sort=False)
    return pd.DataFrame([_entry(rows) for _, rows in groups])


def _entry(rows: pd.DataFrame) -> dict[str, Any]:
    first = rows.iloc[0]
    steps = first["steps"]
    return {
        **{key: first[key] for key in ("model", "family", *COLUMN)},
        "params": _mean(rows["params"]),
        "params_ratio": _mean(rows["params_ratio"]),
        "flops_per_token": _mean(rows["flops_per_token"]),
        "steps": steps,
        "examples_seen": steps * first["batch"],
        "seeds": rows["seed"].nunique() or None,
        "tried": int(rows["tried"].iloc[0]),
        "tuning_trials": _mean(rows["tuning_trials"]) if "tuning_trials" in rows else None,
        "tuning_steps": _mean(rows["tuning_steps"]) if "tuning_steps" in rows else None,
    }


def tried(frame: pd.DataFrame) -> pd.Series:
    """Of each row, how many settings of its model were tried on its task at its length."""
    setting = pd.Series([str(values) for values in frame[[*SETTING]].itertuples(index=False)], index=frame.index)
    return setting.groupby([frame[key] for key in ("model", "task", "length")], dropna=False).transform("nunique")


def _mean(values: pd.Series) -> float | None:
    known = values.dropna().astype(float)
    return float(known.mean()) if len(known) else None


def _flops(row: dict[Any, Any]) -> float:
    """Of a training step, forth and back, over the tokens in it, padding too: [batch, streams, length]."""
    asked = None if pd.isna(row["folder"]) else store.asked(Path(row["folder"]))
    if asked is None or pd.isna(row["flops_per_step"]):
        return float("nan")
    return float(row["flops_per_step"] / (row["batch"] * asked["task"]["streams"] * row["length"]))


def report(frame: pd.DataFrame) -> Report:
    """The ledger as numbers, and as a table."""
    entries = ledger(frame)
    return Report(entries, (shown(entries),))


def shown(entries: pd.DataFrame) -> Comparison:
    """The ledger as a table."""
    names, notes = tables.column_names(entries.assign(data_hash=""))
    cells = pd.DataFrame(
        {
            "model": entries["model"],
            "family": entries["family"],
            "column": names,
            "parameters": _text(entries["params"], "{:,.0f}"),
            "to full": [_ratio(ratio) for ratio in entries["params_ratio"]],
            "kFLOP/token": _text(entries["flops_per_token"] / 1e3, "{:,.0f}"),
            "steps": _text(entries["steps"], "{:,.0f}"),
            "examples seen": _text(entries["examples_seen"], "{:,.0f}"),
            "seeds": _text(entries["seeds"], "{:.0f}"),
            "tried": _text(entries["tried"], "{:.0f}"),
            "tuned": [_tuning(row) for row in entries.to_dict("records")],
        }
    ).set_index("model")
    low, high = marks.SIZES
    said = f"to full: parameters over those of the same trunk with full attention; !: outside {low} to {high}"
    work = "kFLOP/token: of training, padding and recomputation too"
    budget = "tried: settings of the model on the task at that length that lie here, failed ones too, seeds apart"
    budget += "; tuned: trials of lra tune by which the recipe was found, and their steps"
    both = entries["tried"].astype(str) + " " + entries["tuning_steps"].astype(float).fillna(0).astype(str)
    unequal = [f"{name}: NOT TUNED ALIKE" for name, one in both.groupby(names) if one.nunique() > 1]
    return Comparison("ledger", TITLE, cells, (*notes, said, work, budget, *unequal))


def _tuning(row: dict[Any, Any]) -> str:
    return "" if pd.isna(row["tuning_trials"]) else f"{row['tuning_trials']:.0f}, {row['tuning_steps']:,.0f} steps"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None or pd.isna(ratio) else f"{ratio:.2f}" + " !" * marks.of_other_size(ratio)


def _text(values: pd.Series, form: str) -> list[str]:
    return ["" if pd.isna(value) else form.format(value) for value in values]
