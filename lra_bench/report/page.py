"""One page that works offline: the leaderboard, the figures, the budget, and how each number was measured."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import altair as alt
import jinja2
import pandas as pd
import vl_convert
from markupsafe import Markup

from lra_bench import __version__, mixers
from lra_bench.errors import ConfigError
from lra_bench.records.schema import SCORED
from lra_bench.report import budget, charts, headline, labels, model_sections, scaling_fits, tables
from lra_bench.report.drawing import style
from lra_bench.report.drawing.style import NARROW, WIDE, Figure
from lra_bench.report.leaderboard import board, heads
from lra_bench.report.summary import load, ranks, rates
from lra_bench.report.tables import Comparison, Report

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
    figure: Mapping[str, Any] = field(default_factory=dict)  # Vega-Lite, by the name of the layout
    tables: list[Table] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


def page(frame: pd.DataFrame, speeds: Sequence[Mapping[str, Any]]) -> str:
    """The page of a frame of rows and what `lra speed` measured.

    Raises:
        ConfigError: there is nothing to show.
    """
    every, frame = frame, rates.chosen(frame)
    summed, notes = ranks.beside(frame, tables.summary(frame), "model")
    measured = tables.measured(frame)
    if "test_score" not in summed:
        raise ConfigError("no run here has finished: there is nothing to report")
    accuracy = tables.compare(summed, "accuracy", also=notes)
    parts = list(_parts(frame, budget.report(every), summed, measured, speeds))
    drawn = [part for part in parts if part.figure]
    summed = summed.assign(column=tables.column_names(summed)[0])
    anchors = labels.anchors(tables.labels(frame))
    lines = list(board(frame, summed, measured))
    return _template("page.html").render(
        title=TITLE,
        headline=headline.headline(summed, speeds),
        findings=headline.findings(summed, speeds),
        hero=next((part for part in drawn if part.id == "growth"), next(iter(drawn), None)),
        lead=_lead(frame, summed),
        version=__version__,
        css=Markup(_css()),
        js=Markup(_file("page.js")),
        vega=Markup(_vega().replace("</script", "<\\/script")),
        figures=_embedded({part.id: part.figure for part in drawn}),
        themes=_embedded({"light": style.config(style.LIGHT), "dark": style.config(style.DARK)}),
        parts=parts,
        heads=heads(summed),
        columns=list(dict.fromkeys(summed["column"])),
        families=list(dict.fromkeys(summed["family"])),
        board=lines,
        places=_letters(cell.place for line in lines for cell in line["cells"] if cell.place),
        notes=(*accuracy.notes, *([load.NOTE] if any(map(load.tag, frame["other_load"])) else [])),
        sections=model_sections.sections(frame, anchors),
        anchor=lambda label: labels.anchor(label, anchors),
    )


def _letters(places: Iterable[str]) -> dict[str, str]:
    """A sign for each place that is not the one of most of its column: a to z, then aa, and so on."""
    every = dict.fromkeys(places)
    letters = string.ascii_lowercase
    signs = (a + b for a in ("", *letters) for b in letters)
    return dict(zip(every, signs, strict=False))


def _embedded(data: Mapping[str, Any]) -> Markup:
    """JSON that can stand in a page's script."""
    return Markup(json.dumps(data).replace("<", "\\u003c"))


def _css() -> str:
    """The page's style, with the colors of both themes."""
    light, dark = style.css(style.LIGHT), style.css(style.DARK)
    themes = (
        f":root {{ color-scheme: light dark; {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )
    return themes + _file("page.css")


@cache
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
    said = f"{summed['model'].nunique()} models, {len(frame)} runs, {failed} failed, {chance} at chance"
    tag = ", ".join(sorted(set(frame["tag"].dropna())))
    lengths = " and ".join(f"{length:,.0f}" for length in sorted(set(frame["length"].dropna())))
    short = f" The runs are tagged {tag}: of {lengths} tokens." if tag else ""
    return f"{said}.{short} Accuracy, speed and memory are of the same compiled step."


def _parts(
    frame: pd.DataFrame,
    given: Report,
    summed: pd.DataFrame,
    measured: pd.DataFrame,
    speeds: Sequence[Mapping[str, Any]],
) -> Iterator[Part]:
    families = {name: mixers.model_card(name).card.family for name in mixers.names()}
    placed = charts.placed(measured, summed)
    yield Part(
        "tradeoff",
        "Accuracy against speed",
        "A point's area is the compiled memory of a training step. The dashed line is the Pareto front: no model beats "
        "these in both. Each machine and code has a panel of its own. A pointer on a point shows its numbers.",
        _drawn(lambda: charts.tradeoff(placed)),
        [Table.of(tables.compare(measured, what)) for what in ("speed", "memory")],
    )
    kept = _drawn(lambda: charts.state(summed))
    if kept:
        yield Part(
            "state",
            "Accuracy against state",
            "The state is what decoding keeps of one text to write the next symbol. A point's area is "
            "the model's parameters. The dashed line joins the models that none beats in both.",
            kept,
        )
    by_place = tables.by_place(summed)
    if by_place:
        lead = "Scores of the parts of a text, where each place is asked for the next symbol."
        yield Part("places", "Scores by place", lead, tables=[Table.of(by_place)])
    if speeds:
        yield Part(
            "growth",
            "Scaling with length",
            "Both axes are logarithmic: what is linear in L has slope 1, what is quadratic has slope 2. Models that "
            "are not named are pale.",
            _drawn(lambda: charts.growth(speeds, families)),
            [Table.of(scaling_fits.report(speeds).tables[0])],
        )
    curves = _drawn(lambda: charts.curves(frame))
    if curves:
        yield Part("curves", "Learning curves", "The score on validation, mean over seeds.", curves)
    yield Part("budget", "Training budget", "", {}, [Table.of(given.tables[0])])
    yield Part("measured", "How each number was measured", "", {}, [], list(_measured(frame)))


def _drawn(prepare: Callable[[], Figure]) -> dict[str, Any]:
    """A figure for a wide and a narrow screen, if there is something to draw: a table's rows have no curves."""
    try:
        figure = prepare()
    except ConfigError:
        return {}
    return {"wide": figure.to_dict(WIDE), "narrow": figure.to_dict(NARROW)}


def _measured(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The protocol, and what differs between rows."""
    yield "accuracy", "on test, evaluated once, with the parameters that were best on validation"
    yield "speed", "median of training steps, each waited for; without compilation, evaluation and checkpoints"
    yield "compiled memory", "arguments + temporaries + outputs - those that share memory, as the compiler has it"
    yield "peak", "of the device; on CPU the process's resident set, which holds the interpreter and the compiler too"
    yield "tag", ", ".join(sorted(set(frame["tag"].dropna()))) or "none: full-size runs"
    for column, said in (
        ("device", "devices"),
        ("jobs", "parallel runs"),
        ("processes", "processes per run"),
        ("code_hash", "code hashes"),
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
