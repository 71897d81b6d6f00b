"""One page that works offline: the leaderboard, the figures, the ledger, and how each number was measured."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import altair as alt
import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup

from lra_bench import __version__, mixers
from lra_bench.errors import ConfigError
from lra_bench.metrics import named
from lra_bench.report import charts, growth, ledger, marks, ranks, tables
from lra_bench.report.digits import three_digits
from lra_bench.report.tables import Comparison
from lra_bench.rows import SCORED

TITLE = "Efficient transformers, compared"
MIB = 2.0**-20


@dataclass(frozen=True)
class Head:
    """A column of the leaderboard."""

    title: str
    meaning: str
    number: bool = True


@dataclass(frozen=True)
class Entry:
    """One thing in a line of the leaderboard: what is shown, and what it is sorted by; "" sorts last."""

    text: str
    sort: float | str | None = None  # None: by its text
    bar: float | None = None  # percent of the way from nothing to the best

    @property
    def number(self) -> bool:
        return self.sort is not None and self.bar is None


@dataclass(frozen=True)
class Table:
    """A table below a figure."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...]
    open: bool = False

    @classmethod
    def of(cls, comparison: Comparison) -> Table:
        """As `lra compare` shows it."""
        cells = comparison.cells.reset_index()
        rows = [["" if pd.isna(v) else str(v) for v in row] for row in cells.itertuples(index=False)]
        return cls(comparison.title, [str(name) for name in cells.columns], rows, comparison.notes)


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    id: str
    title: str
    lead: str = ""
    chart: Any = None
    tables: list[Table] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


HEADS = (
    Head("rank", "one more than the models that are significantly better"),
    Head("model", "as named in its paper", number=False),
    Head("family", "after Tay et al.'s survey", number=False),
    Head("task", "under which recipe", number=False),
    Head("score", "on test, with a 95% interval", number=False),
    Head("floor", "the best score without a look at the input"),
    Head("ms/step", "median of a training step"),
    Head("ex/s", "examples a second in training"),
    Head("MiB", "planned by the compiler for a training step"),
    Head("peak MiB", "measured"),
    Head("parameters", "and times those of full attention"),
)


def page(frame: pd.DataFrame, speeds: Sequence[Mapping[str, Any]], out: Path) -> str:
    """The page of a frame of rows and what `lra speed` measured; links are relative to `out`.

    Raises:
        ConfigError: there is nothing to show.
    """
    summed, notes = ranks.beside(frame, tables.summary(frame), "model")
    if "test_score" not in summed:
        raise ConfigError("no run here has finished: there is nothing to report")
    accuracy = tables.compare(summed, "accuracy", also=notes)
    parts = [Part("leaderboard", "Leaderboard"), *_parts(frame, summed, speeds)]
    specs = {part.id: json.loads(charts.styled(part.chart).to_json()) for part in parts if part.chart is not None}
    names = tables.column_names(summed)[0]
    return _template("page.html").render(
        title=TITLE,
        lead=_lead(frame, summed),
        version=__version__,
        css=Markup(_file("page.css")),
        js=Markup(_file("page.js")),
        vega=Markup(_vega().replace("</script", "<\\/script")),
        charts=Markup(json.dumps(specs).replace("<", "\\u003c")),
        parts=parts,
        heads=HEADS,
        columns=list(dict.fromkeys(names)),
        families=list(dict.fromkeys(summed["family"])),
        board=list(_board(frame, summed.assign(column=names), out)),
        notes=accuracy.notes,
    )


def _vega() -> str:
    """The libraries that draw, of the version that the figures are written for: v6.1 of v6.1.0."""
    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version))


def _file(name: str) -> str:
    return (resources.files("lra_bench") / "templates" / "report" / name).read_text()


def _template(name: str) -> jinja2.Template:
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_file(name))


def _lead(frame: pd.DataFrame, summed: pd.DataFrame) -> str:
    failed = int((~frame["status"].isin(SCORED)).sum())
    floor = int((frame["status"] == "did-not-learn").sum())
    said = f"{summed['model'].nunique()} models, {len(frame)} runs"
    return f"{said}; {failed} failed, {floor} did not learn. Accuracy, speed and memory are of the same compiled step."


def _board(frame: pd.DataFrame, summed: pd.DataFrame, out: Path) -> Iterator[dict[str, Any]]:
    """The lines of the leaderboard, the best first."""
    named_frame = frame.assign(model=tables.labels(frame))
    keyed = named_frame.groupby(["model", *tables.COLUMN], dropna=False, sort=False)
    runs = {tuple(None if k != k else k for k in key): rows for key, rows in keyed}
    ordered = summed.assign(missing=summed["test_score"].isna())
    for row in ordered.sort_values(["missing", "column", "test_score"], ascending=[True, True, False]).to_dict(
        "records"
    ):
        key = (row["model"], *tables.column_of(row))
        yield {
            "model": row["model"],
            "family": row["family"],
            "column": row["column"],
            "control": _is_control(row["model"]),
            "cells": _entries(row, float(summed["test_score"].max())),
            "runs": _links(runs[key], out),
        }


def _is_control(model: str) -> bool:
    return model in mixers.names() and bool(mixers.sheet(model).card.control)


def _entries(row: Mapping[Any, Any], best: float) -> list[Entry]:
    score = _score(row, best)
    ratio = "" if pd.isna(row["params_ratio"]) else f" ({row['params_ratio']:.2f}x)"
    rank = row.get("rank")
    return [
        Entry("" if pd.isna(rank) else str(rank), "" if pd.isna(rank) else int(rank)),
        Entry(str(row["model"])),
        Entry(str(row["family"])),
        Entry(str(row["column"])),
        score,
        _entry(row["floor"], lambda v: marks.score(v, row["metric"])),
        _entry(row["step_ms_p50"], three_digits),
        _entry(row["examples_per_s"], three_digits),
        _entry(row["planned_bytes"], lambda v: f"{v * MIB:,.0f}"),
        _entry(row["peak_bytes"], lambda v: f"{v * MIB:,.0f}"),
        _entry(row["params"], lambda v: f"{v:,.0f}{ratio}"),
    ]


def _entry(value: Any, shown: Any) -> Entry:
    return Entry("", "") if pd.isna(value) else Entry(str(shown(float(value))), float(value))


def _score(row: Mapping[Any, Any], best: float) -> Entry:
    if pd.isna(row["test_score"]):
        return Entry(f"FAIL ({row['status']})", "")
    value, low, high = (marks.score(row[key], row["metric"]) for key in ("test_score", "test_low", "test_high"))
    missing = row["runs"] - row["finished"]
    said = f"{value} ({low}-{high}){marks.beside({**row, 'rank': None})}"
    bar = 100 * row["test_score"] / best if named(row["metric"]).share and best > 0 else None
    return Entry(said + (f" FAIL {missing} of {row['runs']}" if missing else ""), float(row["test_score"]), bar)


def _links(rows: pd.DataFrame, out: Path) -> list[dict[str, str]]:
    """To the rows of runs, by their seeds, relative to the page."""
    found = []
    for row in rows.to_dict("records"):
        if pd.notna(row["folder"]):
            path = os.path.relpath(Path(row["folder"]) / "row.json", out.parent)
            found.append(
                {"link": quote(path), "seed": f"s{row['seed']:.0f}", "title": f"{row['cell']}: {row['status']}"}
            )
    return found


def _parts(frame: pd.DataFrame, summed: pd.DataFrame, speeds: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    yield Part(
        "tradeoff",
        "Accuracy against speed",
        "A circle's area is the memory that a training step is planned to need; the dashed line joins the models that "
        "no other beats in both. Click a family to see it alone; each circle says what it is.",
        charts.tradeoff(summed),
        [Table.of(tables.compare(summed, what)) for what in ("speed", "memory")],
    )
    if speeds:
        families = {name: mixers.sheet(name).card.family for name in mixers.names()}
        yield Part(
            "growth",
            "Growth with length",
            "A training step's time over L, both on logarithms: what is linear in L has slope 1.",
            charts.growth(speeds, families),
            [Table.of(growth.report(speeds).tables[0])],
        )
    yield Part("curves", "Learning curves", "The score on val, the mean over seeds.", charts.curves(frame))
    yield Part("ledger", "What each model was given", "", None, [Table.of(ledger.report(frame).tables[0])])
    yield Part("measured", "How each number was measured", "", None, [], list(_measured(frame)))


def _measured(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The protocol, and what differs between rows."""
    yield "accuracy", "on test, read once, with the parameters that were best on val; every example counts once"
    yield "speed", "median of training steps that were each waited for; compilation, evaluation and checkpoints apart"
    yield "planned", "arguments + temporaries + outputs - those that share memory, as the compiler has it"
    yield "peak", "of the device; on CPU the process's resident set, which holds the interpreter and the compiler too"
    yield "mark", ", ".join(sorted(set(frame["mark"].dropna()))) or "none: full-size runs"
    for column, said in (
        ("device", "devices"),
        ("jobs", "cells at once"),
        ("processes", "processes a cell"),
        ("commit", "commits"),
        ("data_hash", "data"),
    ):
        yield said, "; ".join(_counted(frame[column])) or "not said"
    for versions, n in frame["versions"].dropna().value_counts().items():
        pairs = ", ".join(f"{name} {version}" for name, version in json.loads(str(versions)).items())
        yield "versions", f"{pairs} ({n} rows)"


def _counted(values: pd.Series) -> Iterator[str]:
    """Each value and how often it stands there; a hash by its first ten digits."""
    for value, n in values.dropna().value_counts().items():
        short = f"{value:.0f}" if isinstance(value, float) else str(value)[:10] if len(str(value)) >= 40 else value
        yield f"{short} ({n} rows)"
