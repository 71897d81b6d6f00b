"""Tables of models x tasks from a frame of rows.

A cell of a table is one model on one column; a column is a task under one recipe, at one length: what may be
compared. Several seeds are joined. Missing is missing; a failure stands as its status; a mean is over the columns
that every row of the table has, and says how many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lra_bench import stats

METRICS = ("accuracy", "speed", "memory")
COLUMN = ["task", "variant", "recipe", "changed", "mark", "length", "batch"]
VALUE = {"accuracy": "test_accuracy", "speed": "step_ms_p50", "memory": "planned_bytes"}
UNITS = {
    "accuracy": "test accuracy, %, with a 95% interval (over seeds where there are several, else over examples)",
    "speed": "training step, ms, median (examples a second)",
    "memory": "planned by the compiler for a training step, MiB (measured peak)",
}


@dataclass(frozen=True)
class Comparison:
    """One metric over models and columns."""

    metric: str
    title: str
    cells: pd.DataFrame  # text, indexed by model or family; a column a task
    notes: tuple[str, ...]  # what the columns' short names stand for, and what the marks mean


def summary(frame: pd.DataFrame, by: str = "model", *, apart: bool = False) -> pd.DataFrame:
    """One numeric row for each model (or family) and column, seeds joined: what csv and json export.

    A cell that came from two places counts once, unless the places are to be kept `apart`.
    """
    if not apart:
        frame = frame[frame["cell"].isna() | ~frame["cell"].duplicated()]
    frame = frame.assign(model=labels(frame))
    keys = [*(["origin"] if apart else []), by, *COLUMN]
    groups = frame.groupby(keys, dropna=False, sort=False)
    return pd.DataFrame([_joined(dict(zip(keys, key, strict=True)), rows) for key, rows in groups])


def labels(frame: pd.DataFrame) -> pd.Series:
    """Each row's model; with the knobs that differ, where one model stands there with several settings."""
    named = frame["model"].astype(str)
    for model, rows in frame.groupby("model"):
        turned = rows["knobs"].dropna().map(json.loads)
        differing = [k for k in sorted({k for t in turned for k in t}) if len({str(t.get(k)) for t in turned}) > 1]
        if differing:
            said = turned.map(lambda t, d=differing: ",".join(f"{k}={t.get(k)}" for k in d))
            named[said.index] = f"{model}[" + said + "]"
    return named


def _joined(keys: dict[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    """The rows of one model on one column as one row: means over what finished, statuses of what did not."""
    done = rows[rows["status"] == "ok"]
    joined: dict[str, Any] = {**keys, "model": ", ".join(sorted(set(rows["model"]))), "runs": len(rows)}
    joined |= {column: " ".join(sorted(set(rows[column].dropna().astype(str)))) for column in ("cell", "data_hash")}
    joined |= {"family": ", ".join(sorted(set(rows["family"].dropna()))), "finished": len(done)}
    joined["status"] = "ok" if len(done) == len(rows) else ", ".join(sorted(set(rows["status"]) - {"ok"}))
    if done.empty:
        return joined
    scored = done.dropna(subset="test_accuracy")
    if len(scored):
        joined |= _accuracy(scored)
    for column in ("step_ms_p50", "examples_per_s", "planned_bytes", "peak_bytes", "params", "params_ratio"):
        joined[column] = done[column].astype(float).mean() if done[column].notna().any() else None
    return joined


def _accuracy(rows: pd.DataFrame) -> dict[str, Any]:
    values, n = [float(v) for v in rows["test_accuracy"]], int(rows["test_n"].iloc[0])
    over = stats.mean(values) if len(values) > 1 else stats.proportion(values[0], n)
    floor = float(rows["floor"].iloc[0])
    return {
        "test_accuracy": over.value,
        "test_low": over.low,
        "test_high": over.high,
        "test_n": n,
        "floor": floor,
        "at_floor": stats.at_floor(over.value, n, floor),
        "val_accuracy": rows["val_accuracy"].astype(float).mean(),
    }


def compare(summed: pd.DataFrame, metric: str, by: str = "model") -> Comparison:
    """The table of one metric."""
    names, notes = column_names(summed)
    said = summed.apply(lambda row: _text(row, metric), axis=1)
    long = pd.DataFrame({by: summed[by], "column": names, "said": said})
    cells = long.pivot(index=by, columns="column", values="said").fillna("")
    cells = cells.reindex(index=list(dict.fromkeys(long[by])), columns=list(dict.fromkeys(names)))
    if metric == "accuracy":
        cells, notes = _with_mean(cells, summed, names, by, notes)
        if "at_floor" in summed and summed["at_floor"].fillna(False).any():
            notes = [*notes, "floor: no better than always saying the majority class, as far as the examples can tell"]
    cells.index.name, cells.columns.name = by, None
    return Comparison(metric, UNITS[metric], cells, tuple(notes))


def column_names(summed: pd.DataFrame) -> tuple[list[str], list[str]]:
    """A short name a row for its column, and a note a column on what the name leaves out."""
    columns = summed[COLUMN].astype(object).where(summed[COLUMN].notna(), None).to_dict("records")
    names: dict[str, str] = {}  # by the whole column
    notes = []
    for column in columns:
        key = json.dumps(column, default=float)
        if key not in names:
            short = _short(column)
            taken = sum(name.split(" #")[0] == short for name in names.values())
            names[key] = f"{short} #{taken + 1}" if taken else short
            said = f", with {column['changed']}" if column["changed"] else ""
            notes.append(f"{names[key]}: L = {column['length']:.0f}, batch {column['batch']:.0f}{said}")
    named = [names[json.dumps(column, default=float)] for column in columns]
    return named, [*notes, *_of_several_data(summed, named)]


def _of_several_data(summed: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """A note for each column whose rows were not all trained on the same examples."""
    for name, hashes in summed["data_hash"].fillna("").groupby(list(names), sort=False):
        found = sorted({digest for joined in hashes for digest in str(joined).split()})
        if len(found) > 1:
            short = ", ".join(digest[:10] for digest in found)
            yield f"{name}: NOT OF THE SAME DATA, its rows have {len(found)} hashes: {short}"


def _short(column: Mapping[Any, Any]) -> str:
    recipe, mark, variant = column["recipe"], column["mark"], column["variant"]
    at = f"@{variant}" if variant and variant not in (recipe, mark) else ""
    return f"{column['task']}{at} {recipe}" + (f" [{mark}]" if mark and mark != recipe else "")


def _with_mean(
    cells: pd.DataFrame, summed: pd.DataFrame, names: list[str], by: str, notes: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """A last column with the mean over the tasks that every row has, where all are under one recipe."""
    under = summed[["task", "recipe", "changed", "mark"]].drop_duplicates()
    if under["task"].duplicated().any() or len(under.drop(columns="task").drop_duplicates()) > 1:
        return cells, notes
    values = pd.DataFrame({by: summed[by], "column": names, "v": summed.get("test_accuracy")})
    wide = values.pivot(index=by, columns="column", values="v").astype(float).dropna(axis="columns")
    if wide.shape[1] < 2 or len(wide) < len(cells):
        return cells, notes
    means = (100 * wide.mean(axis=1)).map("{:.1f}".format).reindex(cells.index)
    return cells.assign(**{f"mean of {wide.shape[1]}": means}), notes


def _text(row: pd.Series, metric: str) -> str:
    if pd.isna(row.get(VALUE[metric])):
        return str(row["status"]) if row["status"] != "ok" else ""
    failed = f" ({row['runs'] - row['finished']} of {row['runs']}: {row['status']})" if row["status"] != "ok" else ""
    return {"accuracy": _accuracy_text, "speed": _speed_text, "memory": _memory_text}[metric](row) + failed


def _accuracy_text(row: pd.Series) -> str:
    seeds = f", {row['finished']} runs" if row["finished"] > 1 else ""
    spread = f"{100 * row['test_low']:.1f}-{100 * row['test_high']:.1f}{seeds}"
    return f"{100 * row['test_accuracy']:.1f} ({spread})" + (" floor" if row["at_floor"] else "")


def _speed_text(row: pd.Series) -> str:
    rate = f" ({row['examples_per_s']:,.3g}/s)" if pd.notna(row.get("examples_per_s")) else ""
    return f"{row['step_ms_p50']:,.0f}" + rate


def _memory_text(row: pd.Series) -> str:
    peak = f" ({row['peak_bytes'] / 2**20:,.0f})" if pd.notna(row.get("peak_bytes")) else ""
    return f"{row['planned_bytes'] / 2**20:,.0f}" + peak


def differences(summed: pd.DataFrame, metric: str, by: str = "model") -> Comparison:
    """Two origins side by side: each one's value, and the second's difference from the first.

    The difference is in points for accuracy, a ratio for time and memory.
    """
    names, notes = column_names(summed)
    origins = list(dict.fromkeys(summed["origin"]))
    long = pd.DataFrame({by: summed[by], "column": names, "origin": summed["origin"], "v": summed[VALUE[metric]]})
    wide = long.pivot(index=[by, "column"], columns="origin", values="v").astype(float).reindex(columns=origins)
    first, second = wide[origins[0]], wide[origins[1]]
    scale = {"accuracy": 100.0, "speed": 1.0, "memory": 2.0**-20}[metric]
    table = (wide * scale).map(lambda v: "" if pd.isna(v) else f"{v:,.1f}")
    change = (second - first) * 100 if metric == "accuracy" else second / first
    sign = "{:+.1f}" if metric == "accuracy" else "{:.2f}x"
    table["difference" if metric == "accuracy" else "ratio"] = change.map(
        lambda v: "" if pd.isna(v) else sign.format(v)
    )
    return Comparison(metric, UNITS[metric].split(",")[0], table.reset_index("column"), tuple(notes))


def exported(summed: pd.DataFrame, format: str) -> str:
    """The numbers behind the tables as csv or json; either can be given to `lra compare` again."""
    return summed.to_csv(index=False) if format == "csv" else summed.to_json(orient="records", indent=1)


def written(comparison: Comparison, format: str) -> str:
    """The table as md or latex, with its title and notes."""
    table = comparison.cells.reset_index()
    if format == "md":
        notes = "\n".join(f"- {note}" for note in comparison.notes)
        return f"**{comparison.title}**\n\n{table.to_markdown(index=False)}\n\n{notes}\n"
    body = table.style.hide(axis="index").format(escape="latex").to_latex(hrules=True, caption=comparison.title)
    return body + "".join(f"% {note}\n" for note in comparison.notes)
