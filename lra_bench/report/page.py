"""One page that works offline: the leaderboard, the figures, the budget, and how each number was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup

from lra_bench import __version__, mixers
from lra_bench.errors import ConfigError
from lra_bench.records.schema import SCORED
from lra_bench.report import budget, charts, growth, tables
from lra_bench.report.leaderboard import HEADS, board
from lra_bench.report.summary import load, ranks
from lra_bench.report.tables import Comparison

TITLE = "Efficient transformers, compared"


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
    chart: charts.Figure | None = None
    tables: list[Table] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


def page(frame: pd.DataFrame, speeds: Sequence[Mapping[str, Any]], out: Path) -> str:
    """The page of a frame of rows and what `lra speed` measured; links are relative to `out`.

    Raises:
        ConfigError: there is nothing to show.
    """
    summed, notes = ranks.beside(frame, tables.summary(frame), "model")
    if "test_score" not in summed:
        raise ConfigError("no run here has finished: there is nothing to report")
    accuracy = tables.compare(summed, "accuracy", also=notes)
    parts = [Part("leaderboard", "Leaderboard"), *_parts(frame, speeds)]
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
        board=list(board(frame, summed.assign(column=names), out)),
        notes=(*accuracy.notes, *([load.NOTE] if any(map(load.tag, frame["other_load"])) else [])),
    )


def _vega() -> str:
    """The libraries that draw, of the version that the figures are written for: v6.1 of v6.1.0."""
    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version))


def _file(name: str) -> str:
    return (resources.files("lra_bench") / "templates" / "report" / name).read_text(encoding="utf-8")


def _template(name: str) -> jinja2.Template:
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_file(name))


def _lead(frame: pd.DataFrame, summed: pd.DataFrame) -> str:
    failed = int((~frame["status"].isin(SCORED)).sum())
    chance = int((frame["status"] == "at-chance").sum())
    said = f"{summed['model'].nunique()} models, {len(frame)} runs"
    return f"{said}; {failed} failed, {chance} at chance. Accuracy, speed and memory are of the same compiled step."


def _parts(frame: pd.DataFrame, speeds: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    families = {name: mixers.sheet(name).card.family for name in mixers.names()}
    measured = tables.measured(frame)
    yield Part(
        "tradeoff",
        "Accuracy against speed",
        "A circle's area is the memory that a training step is planned to need; the dashed line is the Pareto front: "
        "no model beats these in both; each machine and code has a panel of its own. Click a family to see it alone; "
        "each circle says what it is.",
        _drawn(lambda: charts.tradeoff(frame)),
        [Table.of(tables.compare(measured, what)) for what in ("speed", "memory")],
    )
    if speeds:
        yield Part(
            "growth",
            "Growth with length",
            "A training step's time over L, both on logarithms: what is linear in L has slope 1.",
            _drawn(lambda: charts.growth(speeds, families)),
            [Table.of(growth.report(speeds).tables[0])],
        )
    curves = _drawn(lambda: charts.curves(frame))
    if curves is not None:
        yield Part("curves", "Learning curves", "The score on val, the mean over seeds.", curves)
    yield Part("budget", "What each model was given", "", None, [Table.of(budget.report(frame).tables[0])])
    yield Part("measured", "How each number was measured", "", None, [], list(_measured(frame)))


def _drawn(draw: Callable[[], charts.Figure]) -> charts.Figure | None:
    """A figure, if there is something to draw: a table's rows have no curves."""
    try:
        return draw()
    except ConfigError:
        return None


def _measured(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The protocol, and what differs between rows."""
    yield "accuracy", "on test, read once, with the parameters that were best on val; every example counts once"
    yield "speed", "median of training steps that were each waited for; compilation, evaluation and checkpoints apart"
    yield "compiled memory", "arguments + temporaries + outputs - those that share memory, as the compiler has it"
    yield "peak", "of the device; on CPU the process's resident set, which holds the interpreter and the compiler too"
    yield "tag", ", ".join(sorted(set(frame["tag"].dropna()))) or "none: full-size runs"
    for column, said in (
        ("device", "devices"),
        ("jobs", "cells at once"),
        ("processes", "processes a cell"),
        ("code_hash", "codes"),
        ("commit", "commits"),
        ("matmul", "precision of float32 products"),
        ("fallback", "memory fallbacks"),
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
