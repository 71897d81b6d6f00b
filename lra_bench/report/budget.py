"""What each model was given: parameters, computation, steps, examples. Scores are to be read beside it.

What a result depends on was given to it too: the run that it was initialized from (trained before it was pruned or
quantized, on another task, pretrained, jointly), the teacher that it learned from, and what those depend on; and the
trials by which the settings of any of them were found. Its own and what it inherited stand apart.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lra_bench.config import Run
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.records.schema import Result
from lra_bench.report import tables
from lra_bench.report.summary import annotate, places, rates
from lra_bench.report.tables import COLUMN, Comparison, Report

TITLE = "what each model was given"
INHERITED = ("inherited_steps", "inherited_examples", "inherited_flops")
TUNED = ("tuning_trials", "tuning_steps")
GIVEN = ("flops_per_token", "steps", "examples_seen", "flops", *INHERITED, *TUNED)
SETTING = ("options", "variant", "config", "changed", "tag", "batch", "accumulate", "steps", "dtype", "lr")


def budget(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a model and column: parameters, FLOPs of training a token, steps, examples seen, what was tried.

    `inherited_` are of all runs that it depends on, each once: missing where the run's folder is not there to say
    which, and FLOPs where one of those has no result there. `tried` are the settings of the model on the task at that
    length that the frame holds, failed ones too, whatever their seed: the tuning budget, as far as it lies here.
    Missing is missing.
    """
    frame = rates.chosen(frame.assign(tried=tried(frame)))
    given = pd.DataFrame([_given(row) for row in frame.to_dict("records")], index=frame.index)
    frame = frame.assign(model=tables.labels(frame), **{str(key): given[key] for key in given})
    groups = places.settled(frame, COLUMN).groupby(["model", *COLUMN], dropna=False, sort=False)
    return pd.DataFrame([_entry(rows) for _, rows in groups])


def _entry(rows: pd.DataFrame) -> dict[str, Any]:
    first = rows.iloc[0]
    means = ("params", "params_ratio", *GIVEN)
    return {
        **{key: first[key] for key in ("model", "family", *COLUMN)},
        **{key: _mean(rows[key]) for key in means if key in rows},
        "seeds": rows["seed"].nunique() or None,
        "tried": int(rows["tried"].iloc[0]),
    }


def _given(row: dict[Any, Any]) -> dict[str, float | None]:
    """What one run was given: its own, and what it inherited."""
    steps, flops = rates.steps_taken(row), row["flops_per_step"]
    own = {
        "flops_per_token": _flops(row),
        "steps": steps,
        "examples_seen": steps * row["batch"],
        "flops": 0.0 if steps == 0 else None if pd.isna(flops) else steps * flops,
    }
    return own | _inherited(row) | _tuned(row)


def _inherited(row: dict[Any, Any]) -> dict[str, float | None]:
    """The steps, examples and FLOPs of the runs that a run depends on."""
    needs = _needs(row)
    if needs is None:
        return dict.fromkeys(INHERITED)
    results = Path(row["folder"]).parent.parent
    found = [store.get(results, one) for one in needs]
    steps = [_taken(one, result) for one, result in zip(needs, found, strict=True)]
    examples = sum(n * one.recipe.training.batch for n, one in zip(steps, needs, strict=True))
    values = (sum(steps), examples, float(np.sum([_whole(result) for result in found])))
    return dict(zip(INHERITED, values, strict=True))


def _whole(result: Result | None) -> float:
    """The FLOPs of all steps of a run; not a number where it is not here."""
    if result is None or result.flops_per_step is None:
        return math.nan
    return rates.steps_taken(result.as_dict()) * result.flops_per_step


def _taken(run: Run, result: Result | None) -> float:
    """The optimizer steps of a run; those that are asked for where its result is not here."""
    return run.recipe.training.steps if result is None else rates.steps_taken(result.as_dict())


def _needs(row: dict[Any, Any]) -> tuple[Run, ...] | None:
    """The runs that a run depends on, as its folder says; None where there is none, or it is of another version."""
    if pd.isna(row.get("folder")):
        return None
    try:
        return store.read_run(Path(row["folder"])).needs
    except ConfigError:
        return None


def _tuned(row: dict[Any, Any]) -> dict[str, float | None]:
    """The trials, and their steps, by which its own settings were found and those of what it depends on."""
    found = [one.tuned for one in _needs(row) or () if one.tuned is not None]
    own = (row.get("tuning_trials"), row.get("tuning_steps"))
    theirs = (sum(one.trials for one in found), sum(one.steps for one in found))
    if pd.isna(own[0]) and not found:
        return dict.fromkeys(TUNED)
    return {key: (0 if pd.isna(ours) else ours) + more for key, ours, more in zip(TUNED, own, theirs, strict=True)}


def tried(frame: pd.DataFrame) -> pd.Series:
    """Of each row, how many settings of its model were tried on its task at its length."""
    setting = pd.Series([str(values) for values in frame[[*SETTING]].itertuples(index=False)], index=frame.index)
    return setting.groupby([frame[key] for key in ("model", "task", "length")], dropna=False).transform("nunique")


def _mean(values: pd.Series) -> float | None:
    known = values.dropna().astype(float)
    return float(known.mean()) if len(known) else None


def _flops(row: dict[Any, Any]) -> float:
    """Of a training step, forth and back, over the tokens in it, padding too: [batch, streams, length]. Not a number
    where nothing was trained: what was counted is a forward pass then."""
    asked = None if pd.isna(row["folder"]) else store.asked(Path(row["folder"]))
    if asked is None or pd.isna(row["flops_per_step"]) or not row["steps"]:
        return float("nan")
    return float(row["flops_per_step"] / (row["batch"] * asked["task"]["streams"] * row["length"]))


def report(frame: pd.DataFrame) -> Report:
    """The budget as numbers, and as a table."""
    entries = budget(frame)
    return Report(entries, (shown(entries),))


def shown(entries: pd.DataFrame) -> Comparison:
    """The budget as a table."""
    names, notes = tables.column_names(entries)
    cells = pd.DataFrame(
        {
            "model": entries["model"],
            "family": entries["family"],
            "column": names,
            "parameters": _text(entries["params"], "{:,.0f}"),
            "to full": [_ratio(ratio) for ratio in entries["params_ratio"]],
            "kFLOP/token": _text(entries["flops_per_token"] / 1e3, "{:,.0f}"),
            "steps": _both(entries["steps"], entries["inherited_steps"], "{:,.0f}"),
            "examples seen": _both(entries["examples_seen"], entries["inherited_examples"], "{:,.0f}"),
            "TFLOP": _both(entries["flops"] / 1e12, entries["inherited_flops"] / 1e12, "{:,.3g}"),
            "seeds": _text(entries["seeds"], "{:.0f}"),
            "tried": _text(entries["tried"], "{:.0f}"),
            "tuned": [_tuning(row) for row in entries.to_dict("records")],
        }
    ).set_index("model")
    low, high = annotate.SIZES
    said = f"to full: parameters over those of the same backbone with full attention; !: outside {low} to {high}"
    work = "kFLOP/token: of a training step, padding and recomputation too; TFLOP: of all its steps"
    inherited = "a + b: its own, and inherited from all runs that it depends on (initialized from, pretrained, teacher)"
    unknown = entries[entries["inherited_steps"].isna()]
    lacking = [f"+ ?: what it depends on is not here: {_few(unknown['model'])}"] if len(unknown) else []
    budget = "tried: settings of the model on the task at that length that lie here, failed ones too, seeds apart"
    budget += "; tuned: trials by which the settings were found, its own and of what it inherited, and their steps"
    both = entries["tried"].astype(str) + " " + entries["tuning_steps"].astype(float).fillna(0).astype(str)
    unequal = [f"{name}: NOT TUNED ALIKE" for name, one in both.groupby(names) if one.nunique() > 1]
    return Comparison("budget", TITLE, cells, (*notes, said, work, inherited, *lacking, budget, *unequal))


def _few(models: pd.Series) -> str:
    names = list(dict.fromkeys(models))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _both(own: pd.Series, inherited: pd.Series, form: str) -> list[str]:
    """Its own, + what was inherited where something was, + ? where that is not known."""
    more = ["?" if pd.isna(value) else form.format(value) if value else "" for value in inherited]
    return [" + ".join(filter(None, pair)) for pair in zip(_text(own, form), more, strict=True)]


def _tuning(row: dict[Any, Any]) -> str:
    return "" if pd.isna(row["tuning_trials"]) else f"{row['tuning_trials']:.0f}, {row['tuning_steps']:,.0f} steps"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None or pd.isna(ratio) else f"{ratio:.2f}" + " !" * annotate.of_other_size(ratio)


def _text(values: pd.Series, form: str) -> list[str]:
    return ["" if pd.isna(value) else form.format(value) for value in values]
