"""Tables of models x tasks from a frame of rows.

A cell of a table is one model on one column; a column is a task under one recipe, at one length: what may be
compared. Several seeds are joined. Missing is missing; a failure stands as its status; a mean is over the columns
that every row of the table has, and says how many.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lra_bench import config, stats
from lra_bench.errors import ConfigError, nearest
from lra_bench.metrics import ACCURACY, named
from lra_bench.report import marks
from lra_bench.report.digits import three_digits
from lra_bench.report.means import means
from lra_bench.rows import SCORED, Status

TABLES = ("accuracy", "speed", "memory")
COLUMN = ["task", "task_version", "variant", "recipe", "changed", "mark", "length", "batch", "metric"]
VALUE = {"accuracy": "test_score", "speed": "step_ms_p50", "memory": "planned_bytes"}
UNITS = {
    "accuracy": "test accuracy, % ↑, with a 95% interval (over seeds where there are several, else over examples)",
    "speed": "training step, ms, median ↓ (examples a second ↑)",
    "memory": "planned by the compiler for a training step, MiB ↓ (measured peak ↓)",
}


@dataclass(frozen=True)
class Comparison:
    """One thing that is measured, over models and columns."""

    what: str
    title: str
    cells: pd.DataFrame  # text, indexed by model or family; a column a task
    notes: tuple[str, ...]  # what the columns' short names stand for, and what the marks mean


@dataclass(frozen=True)
class Report:
    """What `lra compare` answers: numbers for programs, tables for people."""

    numbers: pd.DataFrame
    tables: tuple[Comparison, ...]


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


def of_task(frame: pd.DataFrame, task: str | None) -> pd.DataFrame:
    """The rows of a task; all, if none is named.

    Raises:
        ConfigError: there is none.
    """
    if task is None:
        return frame
    if task not in set(frame["task"]):
        raise ConfigError(f"--task {task}: no run of it here; {nearest(task, set(frame['task']))}")
    return frame[frame["task"] == task]


def labels(frame: pd.DataFrame) -> pd.Series:
    """Each row's model; with the knobs that differ, where one model stands there with several settings; with the levers
    that were pulled; and with the code's hash, where it came from elsewhere and is not this package's."""
    named = frame["model"].astype(str)
    for model, rows in frame.groupby("model"):
        turned = rows["knobs"].dropna().map(json.loads)
        differing = [k for k in sorted({k for t in turned for k in t}) if len({str(t.get(k)) for t in turned}) > 1]
        if differing:
            said = turned.map(lambda t, d=differing: ",".join(f"{k}={t.get(k)}" for k in d))
            named[said.index] = f"{model}[" + said + "]"
    if "levers" in frame and frame["levers"].notna().any():
        named = named + _levers(frame["levers"])
    if "code" in frame:
        named = named.where(frame["code"].isna(), named + "[code=" + frame["code"].astype(str) + "]")
    return named


def _levers(facts: pd.Series) -> pd.Series:
    """Of each row, its levers in words; with the knobs that differ, where the same words stand for several settings."""
    there = facts.dropna()
    said = there.map(config.lever_words)
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
    done = rows[rows["status"].isin(SCORED)]
    joined: dict[str, Any] = {**keys, "model": ", ".join(sorted(set(rows["model"]))), "runs": len(rows)}
    joined |= {
        column: " ".join(sorted(set(rows[column].dropna().astype(str))))
        for column in ("cell", "data_hash", "bundle")
        if column in rows
    }
    joined |= {"family": ", ".join(sorted(set(rows["family"].dropna()))), "finished": len(done)}
    joined["status"] = ", ".join(sorted(set(rows["status"]) - set(SCORED))) or _of_finished(done)
    if done.empty:
        return joined
    scored = done.dropna(subset="test_score")
    if len(scored):
        joined |= _scored(scored)
    for column in ("step_ms_p50", "examples_per_s", "planned_bytes", "peak_bytes", "params", "params_ratio"):
        joined[column] = done[column].astype(float).mean() if done[column].notna().any() else None
    joined["jobs"] = done["jobs"].astype(float).max()
    return joined


def _of_finished(rows: pd.DataFrame) -> Status:
    return "did-not-learn" if (rows["status"] == "did-not-learn").all() else "ok"


def _scored(rows: pd.DataFrame) -> dict[str, Any]:
    values, first = [float(v) for v in rows["test_score"]], dict(rows.iloc[0])
    metric, n, floor = named(first["metric"]), int(first["test_n"]), float(first["floor"])
    spread = None if metric.share else float(first["test_spread"])
    centre = stats.over_examples(metric, float(np.mean(values)), n, spread)
    over = stats.mean(values) if len(values) > 1 else centre
    return {
        "test_score": over.value,
        "test_low": over.low,
        "test_high": over.high,
        "test_n": n,
        "floor": floor,
        "at_floor": not stats.learnt(metric, centre, floor),
        "floored": int((rows["status"] == "did-not-learn").sum()),
        "val_score": rows["val_score"].astype(float).mean(),
    }


def compare(summed: pd.DataFrame, what: str, by: str = "model", also: Sequence[str] = ()) -> Comparison:
    """The table of one thing that is measured; `also` are further notes on scores."""
    names, notes = column_names(summed)
    said = summed.apply(lambda row: text(row, what), axis=1)
    long = pd.DataFrame({by: summed[by], "column": names, "said": said})
    cells = long.pivot(index=by, columns="column", values="said").fillna("")
    cells = cells.reindex(index=list(dict.fromkeys(long[by])), columns=list(dict.fromkeys(names)))
    if what == "accuracy":
        over = means(summed, by)
        shown = {name: (100 * mean).map("{:.1f}".format, na_action="ignore") for name, mean in over.columns.items()}
        cells = cells.assign(**shown).fillna("")
        notes = [*notes, *marks.notes(summed, names), *over.notes, *also]
    elif "jobs" in summed:
        notes = [*notes, *_beside_others(summed, names)]
    cells.index.name, cells.columns.name = by, None
    return Comparison(what, title(summed, what), cells, tuple(notes))


def _beside_others(summed: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """A note on columns whose cells did not have the machine for themselves."""
    for name, rows in summed.assign(column=list(names)).groupby("column", sort=False):
        if (rows["jobs"] > 1).any():
            yield f"{name}: up to {rows['jobs'].max():.0f} cells ran at once: no times and peaks of a quiet machine"


def title(summed: pd.DataFrame, what: str) -> str:
    """What the numbers of a table are."""
    other = what == "accuracy" and any(named(name) is not ACCURACY for name in summed["metric"])
    return UNITS[what].replace("accuracy, % ↑", "score, accuracy in % ↑") if other else UNITS[what]


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
            by = named(column["metric"])
            scored = "" if by is ACCURACY else f", {by.title}, the {'higher ↑' if by.higher else 'lower ↓'} the better"
            sizes = f"L = {column['length']:.0f}, batch {column['batch']:.0f}"
            notes.append(f"{names[key]}: {_version_and_n(summed, column)}{sizes}{scored}{said}")
    short_names = [names[json.dumps(column, default=float)] for column in columns]
    return short_names, [*notes, *_of_several_data(summed, short_names)]


def _version_and_n(summed: pd.DataFrame, column: Mapping[Any, Any]) -> str:
    """The task's version and how many examples test has, where that is known."""
    version = "" if column["task_version"] is None else f"version {column['task_version']:.0f}, "
    if "test_n" not in summed:
        return version
    ours = summed[[column_of(row) == tuple(column.values()) for row in summed.to_dict("records")]]
    known = ours["test_n"].dropna()
    return version if known.empty else f"{version}n = {known.iloc[0]:,.0f}, "


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


def text(row: pd.Series, what: str) -> str:
    """What a table's cell says of a summed row."""
    if pd.isna(row.get(VALUE[what])):
        return "" if row["status"] in SCORED else f"FAIL ({row['status']})"
    missing = row["runs"] - row["finished"]
    failed = f" (FAIL {missing} of {row['runs']}: {row['status']})" if missing else ""
    return {"accuracy": _accuracy_text, "speed": _speed_text, "memory": _memory_text}[what](row) + failed


def _accuracy_text(row: pd.Series) -> str:
    seeds = f", {row['finished']} runs" if row["finished"] > 1 else ""
    value, low, high = (marks.score(row[key], row["metric"]) for key in ("test_score", "test_low", "test_high"))
    return f"{value} ({low}-{high}{seeds}){marks.beside(dict(row))}"


def _speed_text(row: pd.Series) -> str:
    rate = f" ({three_digits(row['examples_per_s'])}/s)" if pd.notna(row.get("examples_per_s")) else ""
    return f"{three_digits(row['step_ms_p50'])}" + rate


def _memory_text(row: pd.Series) -> str:
    peak = f" ({row['peak_bytes'] / 2**20:,.0f})" if pd.notna(row.get("peak_bytes")) else ""
    return f"{row['planned_bytes'] / 2**20:,.0f}" + peak


def exported(numbers: pd.DataFrame, format: str) -> str:
    """The numbers behind the tables as csv or json; a summary can be given to `lra compare` again."""
    return numbers.to_csv(index=False) if format == "csv" else numbers.to_json(orient="records", indent=1)


def written(comparison: Comparison, format: str) -> str:
    """The table as md, latex (booktabs) or html, with its title and notes."""
    table = comparison.cells.reset_index()
    if format == "md":
        notes = "\n".join(f"- {note}" for note in comparison.notes)
        return f"**{comparison.title}**\n\n{table.to_markdown(index=False, disable_numparse=True)}\n\n{notes}\n"
    if format == "html":
        notes = "".join(f"<li>{html.escape(note)}</li>\n" for note in comparison.notes)
        body = table.to_html(index=False, border=0, justify="left")
        return f"<h3>{html.escape(comparison.title)}</h3>\n{body}\n<ul>\n{notes}</ul>\n"
    styler = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    body = styler.to_latex(hrules=True, caption=_latex(comparison.title))
    return _arrows(body) + "".join(f"% {note}\n" for note in comparison.notes)


def _latex(text: str) -> str:
    """Escaped as pandas escapes a cell."""
    cell = pd.DataFrame([[text]]).style.hide(axis="index").hide(axis="columns").format(escape="latex").to_latex()
    return cell.split("\n")[1].removesuffix(" \\\\")


def _arrows(latex: str) -> str:
    return latex.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")
