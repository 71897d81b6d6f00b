"""Rows joined over seeds: one for each model and column, of scores; one for each place besides, of times and sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lra_bench import config, statistics
from lra_bench.metrics import named
from lra_bench.records.schema import SCORED, Status
from lra_bench.records.store.dataframe import SUMMED
from lra_bench.report.summary import further, of_texts, places
from lra_bench.report.summary.places import BUILD, PLACE

COLUMN = [
    *("task", "task_version", "variant", "config", "changed", "tag", "length", "batch", "metric"),
    *("data_hash", "config_hash"),
]
DERIVED = ("start", "teacher")  # the runs that a model was derived from
TIMES = ("step_ms_p50", "examples_per_s", "compiled_bytes", "peak_bytes")
STATE = "state_bytes"  # what decoding keeps of a text
RATE = ("lr", "lr_tried", "lr_near", "lr_edge")  # what `rates.chosen` says of a grid, and which rate it was
CODES = ("code_hash", "commit", "parts_hash", "versions", "matmul")  # what scores are to be of the same


def summary(frame: pd.DataFrame, by: str = "model", *, apart: bool = False) -> pd.DataFrame:
    """One numeric row for each model (or family) and column, seeds joined, wherever they ran: of scores.

    A run that lies in two folders, or in a folder and in a table that was made of it, counts once, unless the folders
    are to be kept `apart`; of runs with one seed, by several codes of their mixer, the newest counts. `frame` may be of
    `measured` too, as it was exported.
    """
    return _summed(frame, [*(["origin"] if apart else []), by, *COLUMN], [] if apart else ["run"])


def measured(frame: pd.DataFrame, by: str = "model") -> pd.DataFrame:
    """As `summary`, with a row for each place and build (see `places`), and its times and sizes: what csv and json
    export. Of a family, models of several codes are joined, as they are of several models."""
    build = [key for key in BUILD if by == "model" or key != "parts_hash"]
    return _summed(frame, [by, *COLUMN, *PLACE, *build], ["run", *PLACE])


def _summed(frame: pd.DataFrame, keys: Sequence[str], once: Sequence[str]) -> pd.DataFrame:
    frame = places.settled(_counted(frame.assign(model=labels(frame))), COLUMN)
    if once:
        frame = _once(frame, [key for key in once if key != "run"])
    if "platform" not in keys:
        frame = newest_of_seeds(frame, list(dict.fromkeys([*keys, "model"])))
    groups = frame.groupby(list(keys), dropna=False, sort=False)
    found = pd.DataFrame([_joined(dict(zip(keys, key, strict=True)), rows) for key, rows in groups])
    return found.astype({key: object for key in keys if key in (*PLACE, *BUILD)})


def _once(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Each run once, at each value of the `keys`: by itself, rather than in a row that was summed before of several;
    in that one, where not all of its runs are there by themselves."""
    at = list(frame[[*keys]].itertuples(index=False, name=None)) if keys else [()] * len(frame)
    runs = [
        {(run, place) for run in str(one).split()} if pd.notna(one) else set()
        for one, place in zip(frame["run"], at, strict=True)
    ]
    alone = {run for own in runs if len(own) == 1 for run in own}
    there: set[Any] = set()
    kept = [row for row, own in enumerate(runs) if not own]
    for row in sorted(range(len(runs)), key=lambda row: -len(runs[row])):
        own = runs[row]
        if own and not own & there and (len(own) == 1 or not own <= alone):
            kept.append(row)
            there |= own
    return frame.iloc[sorted(kept)]


def newest_of_seeds(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Without runs of a model on a column, as the `keys` say it, that a newer one of the same seed follows, which began
    and learned from the same runs: another code of the mixer is no other seed. A failed run that does not say when it
    began is older than all. `superseded` says of how many a row is the newest, but one."""
    if "seed" not in frame or "started" not in frame:
        return frame
    single = frame[frame["seed"].notna()]
    by = [*keys, "seed", *(key for key in DERIVED if key in frame)]
    if not single.duplicated(by).any():
        return frame
    started = single["started"].astype(object).where(single["started"].notna(), "").astype(str)
    at = [single[key].astype(object).where(single[key].notna(), None) for key in by]
    last = started.groupby(at, dropna=False).rank(method="first", ascending=False) == 1
    others = started.groupby(at, dropna=False).transform("size") - 1
    before = frame["superseded"].fillna(0) if "superseded" in frame else 0
    counted = frame.assign(superseded=others.reindex(frame.index).fillna(0) + before)
    return counted.drop(index=single.index[~last])


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """With how many runs each row is of, one unless it was summed before, and how many of them finished and learned."""
    known = frame.reindex(columns=[*frame.columns, *(key for key in SUMMED if key not in frame)])
    of_one = {"runs": frame["status"].notna(), "finished": frame["status"].isin(SCORED)}
    of_one["runs_at_chance"] = frame["status"] == "at-chance"
    before = known["runs"].notna()
    for key, one in of_one.items():
        known[key] = np.where(before, known[key].astype(float).fillna(0), one).astype(int)
    return known


def labels(frame: pd.DataFrame) -> pd.Series:
    """Each row's model; with the options that differ, where one model stands there with several settings; with the
    techniques that were applied; and with the code's hash, where it came from elsewhere and is not this package's. An
    option that some rows do not have, as their code had not, is none that differs."""
    named = frame["model"].astype(str)
    for model, rows in frame.groupby("model"):
        turned = rows["options"].dropna().map(json.loads)
        every = sorted({k for t in turned for k in t})
        differing = [k for k in every if len({str(t[k]) for t in turned if k in t}) > 1]
        if differing:
            said = turned.map(lambda t, d=differing: ",".join(f"{k}={t.get(k)}" for k in d))
            named[said.index] = f"{model}[" + said + "]"
    if "techniques" in frame and frame["techniques"].notna().any():
        named = named + _techniques(frame["techniques"])
    if "code" in frame:
        named = named.where(frame["code"].isna(), named + "[code=" + frame["code"].astype(str) + "]")
    return named


def derived(frame: pd.DataFrame) -> pd.Series:
    """Which rows are of a model that began with another run's parameters, or learned from another run's model?"""
    named = frame.reindex(columns=list(DERIVED)).astype(object)
    return named.map(lambda run: pd.notna(run) and run != "").any(axis=1)


def begun_elsewhere(frame: pd.DataFrame) -> pd.Series:
    """Which rows are of a model that began with another run's parameters, and varies over seeds as that does?"""
    start = frame["start"] if "start" in frame else pd.Series(None, frame.index, dtype=object)
    return start.map(lambda run: bool(pd.notna(run) and run != "")).astype(bool)


def _techniques(facts: pd.Series) -> pd.Series:
    """Of each row, its techniques in words; with the options that differ, where the same words stand for several
    settings."""
    there = facts.dropna()
    said = there.map(config.technique_words)
    flat = there.map(lambda one: dict(config.flat(json.loads(one))))
    for _, same in flat.groupby(said):
        differing = [k for k in sorted({k for f in same for k in f}) if len({str(f.get(k)) for f in same}) > 1]
        if differing:
            told = same.map(lambda f, d=differing: ",".join(f"{k}={f.get(k)}" for k in d))
            said[same.index] = said[same.index] + "[" + told + "]"
    return (" + " + said).reindex(facts.index).fillna("")


def column_of(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What says which column a row belongs in; missing is None."""
    return tuple(None if pd.isna(row[key]) else row[key] for key in COLUMN)


def _joined(keys: dict[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    """The rows of one model on one column as one row: means over what finished, statuses of what did not."""
    done = rows[rows["finished"] > 0]
    joined: dict[str, Any] = {**keys, "model": ", ".join(sorted(set(rows["model"]))), "runs": int(rows["runs"].sum())}
    joined |= {key: _set(rows[key]) for key in ("run", "bundle", *DERIVED) if key in rows}
    joined |= {key: _set(done[key], places.JOINED) or None for key in CODES if key not in keys}
    joined |= {"family": ", ".join(sorted(set(rows["family"].dropna()))), "finished": int(done["finished"].sum())}
    joined["status"] = ", ".join(sorted(set(rows["status"]) - set(SCORED))) or _of_finished(done)
    if done.empty:
        return joined | {"started": ""}
    scored = done[done["test_score"].notna()]
    if len(scored):
        joined |= _scored(scored) | of_texts.joined(scored)
        joined |= further.LONGER.joined(scored) | further.PLACES.joined(scored)
    for column in ("params", "params_ratio", STATE, *(TIMES if "platform" in keys else ())):
        joined[column] = _mean(done[column], done["finished"])
    if "platform" in keys and "other_load" in done:
        joined["other_load"] = done["other_load"].astype(float).max()
    joined |= {"superseded": int(rows["superseded"].sum())} if "superseded" in rows else {}
    joined |= {key: rows[key].iloc[0] for key in RATE if key in rows and rows[key].nunique() == 1}
    joined["started"] = str(done["started"].dropna().max()) if done["started"].notna().any() else ""
    return joined


def _set(values: pd.Series, between: str = " ") -> str:
    return between.join(sorted(set(values.dropna().astype(str))))


def _mean(values: pd.Series, runs: pd.Series) -> float | None:
    """Over runs; None where none is known."""
    known = values.notna()
    return float(np.average(values[known].astype(float), weights=runs[known])) if known.any() else None


def _of_finished(rows: pd.DataFrame) -> Status:
    return "at-chance" if (rows["runs_at_chance"] == rows["finished"]).all() else "ok"


def _scored(rows: pd.DataFrame) -> dict[str, Any]:
    values, first = _scores(rows), dict(rows.iloc[0])
    metric, n, chance = named(first["metric"]), int(first["test_n"]), float(first["chance"])
    spread = None if metric.binary else float(first["test_spread"])
    center = statistics.over_examples(metric, float(np.mean(values)), n, spread)
    over = statistics.over_runs(metric, values, n, spread)
    return {
        "test_score": over.value,
        "test_low": over.low,
        "test_high": over.high,
        "test_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "test_spread": spread,
        "test_n": n,
        "chance": chance,
        "at_chance": not statistics.learned(metric, center, chance),
        "runs_at_chance": int(rows["runs_at_chance"].sum()),
        "val_score": _mean(rows["val_score"], rows["finished"]),
    }


def _scores(rows: pd.DataFrame) -> list[float]:
    """Each run's score; of a row that was summed before, as many with its mean and standard deviation."""
    values: list[float] = []
    for score, runs, sd in zip(rows["test_score"], rows["finished"], rows["test_sd"], strict=True):
        steps = np.arange(runs) - (runs - 1) / 2
        values += list(score + (sd * steps / np.std(steps, ddof=1) if runs > 1 else 0.0 * steps))
    return values
