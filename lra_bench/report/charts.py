"""Figures, for the page and for papers: accuracy against speed, growth with L, learning curves, sparsity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import altair as alt
import pandas as pd

from lra_bench import statistics
from lra_bench.errors import ConfigError
from lra_bench.metrics import named
from lra_bench.mixers.card import Family
from lra_bench.records import store
from lra_bench.report import scaling, tables
from lra_bench.report.summary import places

Figure = alt.FacetChart | alt.LayerChart

# Colours that the color-blind tell apart (Krzywinski, mk.bcgsc.ca/colorblind), one a family. Full attention's, the
# baseline, is a gray that is read on white and on black.
COLOURS = (
    "#767676", "#009F81", "#FF5AAF", "#8400CD", "#008DF9", "#00A6C8",
    "#A40122", "#E20134", "#FF6E3A", "#D8A200", "#9F0162", "#6B7A00",
    "#7F4F24",
)  # fmt: skip
FULL = get_args(Family)[0]  # attention of all pairs: what the others are held against
SUFFIXES = (".svg", ".png", ".pdf")
WIDTH, HEIGHT = 460, 330
INK = "#7a828c"  # of axes and labels: read on white and on black


def tradeoff(rows: pd.DataFrame) -> Figure:
    """Score against examples a second, the circle's area what a step is planned to need; Long Range Arena's figure 3.

    `rows` are of `store.frame`: each place where times were measured has a panel of its own, with the score over all
    places. The line joins those that no other beats in both; they and full attention are named.

    Raises:
        ConfigError: no model has a score and a speed.
    """
    there = _placed(rows).dropna(subset=["test_score", "examples_per_s", "compiled_bytes"])
    if there.empty:
        raise ConfigError("no model here has a score, a speed and a memory: there is nothing to draw")
    there = there.assign(
        shown=there["test_score"] * there["metric"].map(lambda m: 100.0 if named(m).share else 1.0),
        mib=there["compiled_bytes"] / 2**20,
        best=[_is_best(row, there) for row in there.to_dict("records")],
    )
    columns = [
        "model",
        "family",
        "column",
        "shown",
        "examples_per_s",
        "mib",
        "params_ratio",
        "best",
        "fallback",
        "named",
    ]
    base = alt.Chart(there[columns])
    x = alt.X(
        "examples_per_s:Q", title="examples a second (training)", scale=alt.Scale(type="log", nice=False, padding=24)
    )
    y = alt.Y("shown:Q", title="score on test, %", scale=alt.Scale(zero=False, padding=16))
    circles = base.mark_circle(opacity=0.75, stroke="white", strokeWidth=0.5).encode(
        x, y,
        size=alt.Size("mib:Q", title="compiled MiB a step", scale=alt.Scale(range=[30, 1200])),
        color=_family(there),
        opacity=alt.condition(_chosen(), alt.value(0.8), alt.value(0.08)),
        tooltip=[
            "model:N", "family:N", alt.Tooltip("shown:Q", title="score", format=".1f"),
            alt.Tooltip("examples_per_s:Q", title="examples/s", format=",.3~g"),
            alt.Tooltip("mib:Q", title="compiled MiB", format=",.0f"),
            alt.Tooltip("params_ratio:Q", title="parameters to full", format=".2f"),
            alt.Tooltip("fallback:N", title="memory fallback"),
        ],
    ).add_params(_chosen())  # fmt: skip
    line = base.transform_filter("datum.best").mark_line(color=INK, strokeDash=[3, 3], strokeWidth=1).encode(x, y)
    told = base.transform_filter(f"datum.best || datum.family == '{FULL}'")
    names = told.mark_text(dy=-14, fontSize=11, color=INK).encode(x, y, text="named:N")
    layered = alt.layer(line, circles, names).properties(width=WIDTH, height=HEIGHT)
    return _faceted(layered, there)


def _placed(rows: pd.DataFrame) -> pd.DataFrame:
    """What was measured in each place, the place in the column's name, and the score over all of them."""
    measured, summed = tables.measured(rows), tables.summary(rows)
    scores = {(row["model"], tables.column_of(row)): row for row in summed.to_dict("records")}
    every = [scores[row["model"], tables.column_of(row)] for row in measured.to_dict("records")]
    fallback = [places.tag(fitted).strip() for fitted in measured["fallback"]]
    return measured.assign(
        test_score=pd.Series([row.get("test_score") for row in every], measured.index, dtype=float),
        column=places.headers(measured, tables.column_names(measured)[0]),
        fallback=[said or "none" for said in fallback],
        named=[f"{model} {said}".strip() for model, said in zip(measured["model"], fallback, strict=True)],
    )


def _is_best(row: Mapping[Any, Any], every: pd.DataFrame) -> bool:
    """Is no model of its column as good in score and speed, and better in one?"""
    its = every[every["column"] == row["column"]]
    sign = 1.0 if named(row["metric"]).higher else -1.0
    score, speed = sign * its["test_score"], its["examples_per_s"]
    ours = sign * row["test_score"], row["examples_per_s"]
    ahead = (score >= ours[0]) & (speed >= ours[1]) & ((score > ours[0]) | (speed > ours[1]))
    return not bool(ahead.any())


def growth(facts: Sequence[Mapping[str, Any]], families: Mapping[str, str]) -> Figure:
    """Milliseconds of a step over L, both on logarithms, with the medians' intervals; `facts` are of `lra speed`.

    `families` are the models'. The number behind a name is the fitted exponent of L.

    Raises:
        ConfigError: nothing was timed.
    """
    timed = [fact for fact in facts if fact["step_ms_p50"] is not None]
    if not timed:
        raise ConfigError("no step was timed: there is nothing to draw")
    timed = scaling.arranged(timed)
    lines = []
    for fact in timed:
        over = scaling.interval(fact)
        lines.append(
            {
                "model": scaling.label(fact, facts), "family": families.get(fact["model"], ""), "L": fact["length"],
                "ms": over.value, "low": over.low, "high": over.high,
            }
        )  # fmt: skip
    frame = pd.DataFrame(lines)
    powers = {
        name: statistics.power(its["L"].to_numpy(), its["ms"].to_numpy()).value for name, its in frame.groupby("model")
    }
    frame["exponent"] = frame["model"].map(powers)
    lengths = sorted(set(frame["L"]))
    x = alt.X("L:Q", scale=alt.Scale(type="log", base=2), axis=alt.Axis(values=lengths, format=","), title="L, tokens")
    y = alt.Y("ms:Q", scale=alt.Scale(type="log"), title="training step, ms")
    base = alt.Chart(frame).encode(x, color=_family(frame), detail="model:N")
    tips = ["model:N", "family:N", alt.Tooltip("L:Q", format=","), alt.Tooltip("ms:Q", format=",.3~g")]
    tips.append(alt.Tooltip("exponent:Q", title="exponent of L", format=".2f"))
    faint = alt.condition(_chosen(), alt.value(0.85), alt.value(0.06))
    drawn = base.mark_line(point=True, strokeWidth=1.3).encode(y=y, opacity=faint, tooltip=tips).add_params(_chosen())
    rules = base.mark_rule().encode(y="low:Q", y2="high:Q", opacity=faint)
    layers = [rules, drawn] if frame["low"].notna().any() else [drawn]
    return alt.layer(*layers).properties(width=1.6 * WIDTH, height=1.4 * HEIGHT)


def curves(frame: pd.DataFrame) -> Figure:
    """The score on val over steps, a line a model, the mean over its seeds; `frame` is of `store.frame`.

    Raises:
        ConfigError: no run here keeps its curve.
    """
    there = _named(frame.assign(model=tables.labels(frame)).dropna(subset=["folder"]))
    points = [
        {"model": row["model"], "family": row["family"], "column": row["column"], "step": point["step"]}
        | {"val": point["val_score"] * (100.0 if named(row["metric"]).share else 1.0), "loss": point["train_loss"]}
        for row in there.to_dict("records")
        for point in _curve(Path(row["folder"]))
    ]
    if not points:
        raise ConfigError("no run here keeps its learning curve: results folders have them, tables do not")
    keys = ["model", "family", "column", "step"]
    mean = pd.DataFrame(points).groupby(keys, sort=False).mean().reset_index()
    drawn = alt.Chart(mean).mark_line(point=True, strokeWidth=1.2).encode(
        alt.X("step:Q", title="steps"),
        alt.Y("val:Q", title="score on val, %", scale=alt.Scale(zero=False)),
        color=_family(mean),
        detail="model:N",
        opacity=alt.condition(_chosen(), alt.value(0.8), alt.value(0.06)),
        tooltip=[
            "model:N", "family:N", "step:Q", alt.Tooltip("val:Q", format=".1f"), alt.Tooltip("loss:Q", format=".3f"),
        ],
    ).add_params(_chosen())  # fmt: skip
    return _faceted(alt.layer(drawn).properties(width=WIDTH, height=HEIGHT), mean)


def sparsity(frame: pd.DataFrame) -> Figure:
    """The score on test over the share of weights that are zero, a line a model, way of pruning and further steps.

    A line begins at the model that was pruned. `frame` is of `store.frame`.

    Raises:
        ConfigError: no run here was pruned.
    """
    rows = _named(frame.assign(model=tables.labels(frame.assign(techniques=None)))).to_dict("records")
    points = [point for row in rows for point in _sparse(row, rows)]
    if not points:
        raise ConfigError("no run here was pruned to a sparsity: lra prune RUN --sparsity 0.5,0.7,0.9")
    mean = pd.DataFrame(points).groupby(["model", "column", "how", "zero"], sort=False).mean().reset_index()
    base = alt.Chart(mean).encode(
        alt.X("zero:Q", title="weights of matrices that are zero, %"),
        alt.Y("shown:Q", title="score on test, %", scale=alt.Scale(zero=False)),
        color=alt.Color("model:N", scale=alt.Scale(range=list(COLOURS))),
        detail="how:N",
    )
    dashes = alt.Legend(symbolType="stroke", symbolSize=400, symbolStrokeWidth=2, symbolStrokeColor=INK)
    lines = base.mark_line(strokeWidth=1.3).encode(strokeDash=alt.StrokeDash("how:N", title="pruned by", legend=dashes))
    tips = ["model:N", "how:N", alt.Tooltip("zero:Q", format=".1f"), alt.Tooltip("shown:Q", format=".1f")]
    points = base.mark_point(filled=True, opacity=1).encode(tooltip=tips)
    return _faceted(alt.layer(lines, points).properties(width=WIDTH, height=HEIGHT), mean)


def _sparse(row: Mapping[Any, Any], rows: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """The points of a run that was pruned to a sparsity, and of the one that it began with."""
    technique = json.loads(row["techniques"]).get("prune") if isinstance(row["techniques"], str) else None
    if not technique or not technique["sparsity"] or pd.isna(row["test_score"]):
        return []
    how = f"{technique['by']}, {technique['steps']} steps"
    both = [one for one in rows if one["run"] == row["start"]] + [row]
    return [
        {"model": row["model"], "column": row["column"], "how": how, "zero": 100 * one["sparsity"]}
        | {"shown": one["test_score"] * (100.0 if named(one["metric"]).share else 1.0)}
        for one in both
    ]


def _curve(folder: Path) -> list[dict[str, Any]]:
    path = folder / "curve.json"
    return list(store.read_json(path)) if path.exists() else []


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """With the column's short name, as the tables have it."""
    whole = places.settled(frame, tables.COLUMN)
    return frame.assign(column=tables.column_names(whole)[0])


def _family(frame: pd.DataFrame) -> alt.Color:
    every = get_args(Family)
    here = [family for family in every if family in set(frame["family"])]
    colors = [COLOURS[every.index(family) % len(COLOURS)] for family in here]
    here += sorted(set(frame["family"].dropna()) - set(here))
    colors += [INK] * (len(here) - len(colors))
    return alt.Color("family:N", scale=alt.Scale(domain=here, range=colors), legend=alt.Legend(title="family"))


def _chosen() -> alt.Parameter:
    """The families that are clicked in the legend; all, if none."""
    return alt.selection_point(name="family", fields=["family"], bind="legend")


def _faceted(chart: Figure, frame: pd.DataFrame) -> Figure:
    """One picture a column of the tables, where there are several."""
    columns = list(dict.fromkeys(frame["column"]))
    if len(columns) == 1:
        return chart.properties(title=columns[0])
    facet = alt.Facet("column:N", sort=columns, title=None, header=alt.Header(labelFontWeight="bold", labelColor=INK))
    return chart.facet(facet, columns=2).resolve_scale(x="independent", y="independent")


def styled(chart: Figure) -> Figure:
    """In the house's style: no frame, a faint grid, no ground, so that a page's own shows."""
    words = {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal"}
    grid = {"gridColor": "rgba(128, 128, 128, 0.18)", "domainColor": INK, "tickColor": INK}
    plain = chart.configure(background="transparent", font="system-ui, sans-serif").configure_view(stroke=None)
    return plain.configure_axis(**words, **grid).configure_legend(**words).configure_title(color=INK)


def save(chart: Figure, path: Path) -> None:
    """Write the figure as SVG, PNG (twice as fine) or PDF.

    Raises:
        ConfigError: the name ends otherwise.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--out {path}: must end in {', '.join(SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        styled(chart).save(str(path), scale_factor=2)
    else:
        styled(chart).save(str(path))
