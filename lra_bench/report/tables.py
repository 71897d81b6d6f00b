"""Tables of models x tasks from a frame of rows.

A cell of a table is one model on one column; a column is a task under one recipe, at one length, on the same data: what
may be compared. Several seeds are joined. A column of times or sizes is of one place besides, see `places`. Missing is
missing; a failure stands as its status; a mean is over the columns that every row of the table has, and says how many.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from lra_bench.errors import ConfigError, nearest
from lra_bench.metrics import ACCURACY, named
from lra_bench.records.schema import SCORED
from lra_bench.report.summary import annotate, further, load, of_texts, places, rates
from lra_bench.report.summary.columns import column_names
from lra_bench.report.summary.digits import three_digits
from lra_bench.report.summary.means import means
from lra_bench.report.summary.summing import COLUMN, column_of, labels, measured, summary

__all__ = [
    "COLUMN",
    "Comparison",
    "Report",
    "column_names",
    "column_of",
    "compare",
    "labels",
    "measured",
    "summary",
]

TABLES = ("accuracy", "speed", "memory")
VALUE = {"accuracy": "test_score", "speed": "step_ms_p50", "memory": "compiled_bytes"}
UNITS = {
    "accuracy": "test accuracy, % ↑, with a 95% interval (over examples, or over seeds where that is wider)",
    "speed": "training step, ms, median ↓ (examples a second ↑)",
    "memory": "compiled memory of a training step, MiB ↓ (measured peak ↓)",
}
PLACES = (
    "a part is named by its first place and goes to that of the next one, the last to the end of the longest text that "
    "the run was tested at; no place from the trained length on was seen in training"
)


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


def compare(summed: pd.DataFrame, what: str, by: str = "model", also: Sequence[str] = ()) -> Comparison:
    """The table of one thing that is measured; `also` are further notes on scores.

    `summed` is of `summary` for scores, of `measured` for times and sizes.
    """
    names, notes = column_names(summed)
    if what == "accuracy":
        cells = _cells(summed, names, what, by)
        over = means(summed, by)
        shown = {name: (100 * mean).map("{:.1f}".format, na_action="ignore") for name, mean in over.columns.items()}
        beside = (further.LONGER.columns(summed, names, by), of_texts.columns(summed, names, by))
        cells = cells.join(beside[0]).join(beside[1]).assign(**shown).fillna("")
        notes += [
            *places.mixed(summed, names),
            *annotate.notes(summed, names),
            *rates.notes(summed),
            *over.notes,
            *also,
        ]
    else:
        heads = places.headers(summed, names)
        cells = _cells(summed, heads, what, by)
        cells = cells[list(dict.fromkeys(_newest_first(summed, names, heads)))]
        notes += [*places.notes(summed, heads), *_beside_others(summed, heads)]
        notes += [load.NOTE] if what == "speed" and any(map(load.tag, summed.get("other_load", ()))) else []
    cells.index.name, cells.columns.name = by, None
    return Comparison(what, title(summed, what), cells, tuple(notes))


def by_place(summed: pd.DataFrame, by: str = "model") -> Comparison | None:
    """The table of scores of the parts of a text, where runs have them, as those that predict the next symbol."""
    if not further.PLACES.any(summed):
        return None
    names, notes = column_names(summed)
    cells = further.PLACES.columns(summed, names, by).fillna("")
    cells.index.name, cells.columns.name = by, None
    said = (*notes, *places.mixed(summed, names), PLACES)
    return Comparison("places", "test score of the parts of a text, by place", cells, said)


def _cells(summed: pd.DataFrame, heads: Sequence[str], what: str, by: str) -> pd.DataFrame:
    """What stands in the table: of one model and column the numbers of several builds one after another."""
    said = summed.apply(lambda row: text(row, what), axis=1) + places.parts(summed, heads, by)
    long = pd.DataFrame({by: summed[by], "column": list(heads), "said": said})
    joined = long.groupby([by, "column"], sort=False)["said"].agg(lambda each: "; ".join(filter(None, each)))
    return joined.unstack().reindex(index=list(dict.fromkeys(long[by])), columns=list(dict.fromkeys(heads))).fillna("")


def _newest_first(summed: pd.DataFrame, names: Sequence[str], heads: Sequence[str]) -> list[str]:
    """The heads, those of a column together, the place that ran last before others."""
    rows = pd.DataFrame({"name": list(names), "head": list(heads), "started": [str(at) for at in summed["started"]]})
    last = rows.groupby(["name", "head"], sort=False)["started"].max().reset_index()
    order = {name: at for at, name in enumerate(dict.fromkeys(names))}
    newest = last.sort_values("started", ascending=False, kind="stable")
    return list(newest.sort_values("name", key=lambda name: name.map(order), kind="stable")["head"])


def _beside_others(summed: pd.DataFrame, heads: Sequence[str]) -> Iterator[str]:
    """A note on columns whose runs did not have the machine for themselves."""
    for name, rows in summed.assign(column=list(heads)).groupby("column", sort=False):
        at_once = rows["jobs"].dropna().astype(float).max()
        if at_once > 1:
            yield f"{name}: up to {at_once:.0f} runs at a time: no times and peaks of an idle machine"


def title(summed: pd.DataFrame, what: str) -> str:
    """What the numbers of a table are."""
    other = what == "accuracy" and any(named(name) is not ACCURACY for name in summed["metric"])
    return UNITS[what].replace("accuracy, % ↑", "score, accuracy in % ↑") if other else UNITS[what]


def text(row: pd.Series, what: str) -> str:
    """What a table's cell says of a summed row."""
    if pd.isna(row.get(VALUE[what])):
        return "" if row["status"] in SCORED else f"FAIL ({row['status']})"
    missing = row["runs"] - row["finished"]
    failed = f" (FAIL {missing} of {row['runs']}: {row['status']})" if missing else ""
    return {"accuracy": _accuracy_text, "speed": _speed_text, "memory": _memory_text}[what](row) + failed


def _accuracy_text(row: pd.Series) -> str:
    seeds = f", {row['finished']} runs" if row["finished"] > 1 else ""
    value, low, high = (annotate.score(row[key], row["metric"]) for key in ("test_score", "test_low", "test_high"))
    return f"{value} ({low}-{high}{seeds}){annotate.beside(dict(row))}{rates.said(dict(row))}"


def _speed_text(row: pd.Series) -> str:
    rate = f" ({three_digits(row['examples_per_s'])}/s)" if pd.notna(row.get("examples_per_s")) else ""
    return f"{three_digits(row['step_ms_p50'])}" + rate + places.tag(row["fallback"]) + load.tag(row.get("other_load"))


def _memory_text(row: pd.Series) -> str:
    peak = f" ({row['peak_bytes'] / 2**20:,.0f})" if pd.notna(row.get("peak_bytes")) else ""
    return f"{row['compiled_bytes'] / 2**20:,.0f}" + peak + places.tag(row["fallback"])


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
