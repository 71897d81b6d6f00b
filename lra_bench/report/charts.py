"""Figures, for the page and for papers: accuracy against speed, scaling with L, learning curves, sparsity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import altair as alt
import pandas as pd

from lra_bench import statistics
from lra_bench.errors import ConfigError, nearest
from lra_bench.metrics import named
from lra_bench.mixers.card import Family
from lra_bench.records import store
from lra_bench.report import published, scaling, tables
from lra_bench.report.drawing import lines, points, style
from lra_bench.report.drawing.style import Figure, Layout
from lra_bench.report.labels import bare
from lra_bench.report.summary import places

FULL = get_args(Family)[0]  # attention of all pairs: what the others are held against
BENCHMARK = "paper"  # the set of published results whose models are named where there is no room for all names
SUFFIXES = (".svg", ".png", ".pdf")


def tradeoff(there: pd.DataFrame) -> Figure:
    """Score against examples a second, the point's area what a step is planned to need; Long Range Arena's figure 3.

    Of `placed` rows: each place where times were measured has a panel of its own. The line joins those that no other
    beats in both; they and full attention are named, others where there is room.

    Raises:
        ConfigError: no model has a score and a speed.
    """
    there = there.dropna(subset=["test_score", "examples_per_s", "compiled_bytes"])
    if there.empty:
        raise ConfigError("no model here has a score, a speed and a memory: there is nothing to draw")
    sized = there.assign(size=there["compiled_bytes"] / 2**20)
    return _scattered(sized, "examples_per_s", "training speed, examples/s", "compiled MiB per step", higher=True)


def state(summed: pd.DataFrame) -> Figure:
    """Score against the bytes that decoding keeps of one text: the figure of recall against state of arXiv 2312.04927.
    Of `tables.summary`, wherever the runs ran: the bytes are counted from the arrays. A point's area is its parameters.

    Raises:
        ConfigError: no model has both.
    """
    known = summed.reindex(columns=[*summed.columns, *({"test_score", "state_bytes"} - set(summed.columns))])
    there = known.dropna(subset=["test_score", "state_bytes"])
    if there.empty:
        raise ConfigError("no model here has a score and a state: only causal models that decode have one")
    names = tables.column_names(there)[0]
    named_ = there.assign(column=names, name=there["model"], size=there["params"])
    return _scattered(named_, "state_bytes", "state of one text, bytes", "parameters", higher=False)


def _scattered(there: pd.DataFrame, across: str, title: str, size: str, *, higher: bool) -> Figure:
    """Score against a column, of which more is better if `higher`; a panel for each `column`. `size` says what the
    points' is."""
    best = [_is_best(row, there, across, higher) for row in there.to_dict("records")]
    full = there["family"] == FULL
    drawn = pd.DataFrame(
        {
            **{key: there[key] for key in ("model", "family", "column", "name", "params_ratio", "size")},
            **{key: there[key] for key in ("fallback",) if key in there},
            "x": there[across],
            "y": there["test_score"] * there["metric"].map(_scale),
            "best": best,
            "group": [points.GROUPS[0 if f else 1 if b else 2] for f, b in zip(full, best, strict=True)],
        }
    )
    tips = [
        "model:N", "family:N", alt.Tooltip("y:Q", title="score", format=".1f"),
        alt.Tooltip("x:Q", title=title, format=",.3~g"),
        alt.Tooltip("size:Q", title=size, format=",.0f"),
        alt.Tooltip("params_ratio:Q", title="parameters to full attention's", format=".2f"),
        *([alt.Tooltip("fallback:N", title="memory fallback")] if "fallback" in there else []),
    ]  # fmt: skip
    titles = (title, _score_title("test", there["metric"]), size)
    largest = float(drawn["size"].max())

    def draw(layout: Layout) -> alt.ConcatChart:
        panels = [
            points.panel(its, *titles, largest, layout, tips=tips).properties(title=_titled(str(column)))
            for column, its in drawn.groupby("column", sort=False)
        ]
        return style.joined(panels, layout).resolve_scale(size="shared", color="shared", shape="shared")

    return Figure(draw)


def _scale(metric: object) -> float:
    return 100.0 if named(metric).share else 1.0


def _score_title(split: str, metrics: pd.Series) -> str:
    """The title of an axis of scores."""
    titles = list(dict.fromkeys(named(metric).title for metric in metrics))
    share = all(named(metric).share for metric in metrics)
    return f"{split} {titles[0] if len(titles) == 1 else 'score'}" + (", %" if share else "")


def _titled(column: str) -> alt.TitleParams:
    """A column's name, and where it was measured on a second line."""
    name, _, place = column.partition(", ")
    return alt.TitleParams(name, subtitle=place)


def placed(measured: pd.DataFrame, summed: pd.DataFrame) -> pd.DataFrame:
    """What was measured in each place (`tables.measured`), the place in the column's name, and the score over all of
    them, of `tables.summary`."""
    scores = {(row["model"], tables.column_of(row)): row for row in summed.to_dict("records")}
    every = [scores[row["model"], tables.column_of(row)] for row in measured.to_dict("records")]
    fallback = [places.tag(fitted).strip() for fitted in measured["fallback"]]
    return measured.assign(
        test_score=pd.Series([row.get("test_score") for row in every], measured.index, dtype=float),
        column=places.headers(measured, tables.column_names(measured)[0]),
        fallback=[said or "none" for said in fallback],
        name=[f"{model} {said}".strip() for model, said in zip(measured["model"], fallback, strict=True)],
    )


def _is_best(row: Mapping[Any, Any], every: pd.DataFrame, across: str, higher: bool) -> bool:
    """Is no model of its column as good in score and in the other column, and better in one?"""
    its = every[every["column"] == row["column"]]
    sign, other = 1.0 if named(row["metric"]).higher else -1.0, 1.0 if higher else -1.0
    score, cost = sign * its["test_score"], other * its[across]
    ours = sign * row["test_score"], other * row[across]
    ahead = (score >= ours[0]) & (cost >= ours[1]) & ((score > ours[0]) | (cost > ours[1]))
    return not bool(ahead.any())


def growth(facts: Sequence[Mapping[str, Any]], families: Mapping[str, str], models: Sequence[str] = ()) -> Figure:
    """Milliseconds of a step over L, both on logarithms, with the medians' intervals; `facts` are of `lra speed`.

    `families` are the models'. `models` are drawn alone; without them all are, and those of the benchmark's paper and
    the fastest one are named where there is no room for all names.

    Raises:
        ConfigError: nothing was timed, or nothing of a model that is asked for.
    """
    timed = [fact for fact in scaling.of_one_mode(scaling.told_apart(facts)) if fact["step_ms_p50"] is not None]
    if not timed:
        raise ConfigError("no step was timed: there is nothing to draw")
    timed = scaling.arranged(_asked(timed, models) if models else timed)
    frame = pd.DataFrame([_timed(fact, timed, families) for fact in timed])
    powers = {
        name: statistics.power(its["x"].to_numpy(), its["y"].to_numpy()).value for name, its in frame.groupby("model")
    }
    frame = frame.assign(exponent=frame["model"].map(powers))
    lengths = sorted(set(frame["x"]))
    x = alt.X(
        "x:Q", title="sequence length L, tokens", axis=alt.Axis(values=lengths, format=",", labelOverlap="greedy"),
        scale=alt.Scale(type="log", base=2, domain=[lengths[0], lengths[-1]], nice=False),
    )  # fmt: skip
    tips = ["model:N", "family:N", alt.Tooltip("x:Q", title="L", format=",")]
    tips += [alt.Tooltip("y:Q", title="ms", format=",.3~g"), alt.Tooltip("exponent:Q", title="exponent", format=".2f")]
    fastest = frame[frame["x"] == lengths[-1]].sort_values(["y", "model"])["model"].head(1)
    shown = lines.ordered(frame, _with_names(frame["model"], list(fastest)), FULL)
    step = scaling.ONE[scaling.mode_of(timed[0])]

    def draw(layout: Layout) -> alt.ConcatChart:
        drawn = lines.panel(frame, shown, x, f"{step}, ms", layout, log=True, tips=tips)
        setup = scaling.setup(timed)
        said = ["; ".join(setup)] if layout.columns > 1 else setup
        title = alt.TitleParams(f"Time of a {step} against sequence length", subtitle=said)
        return style.joined([drawn], layout, title=title)

    return Figure(draw)


def _timed(fact: Mapping[str, Any], facts: Sequence[Mapping[str, Any]], families: Mapping[str, str]) -> dict[str, Any]:
    over = scaling.interval(fact)
    named_ = {"model": scaling.label(fact, facts), "family": families.get(fact["model"], "")}
    return {**named_, "x": fact["length"], "y": over.value, "low": over.low, "high": over.high}


def _asked(facts: Sequence[Mapping[str, Any]], models: Sequence[str]) -> list[Mapping[str, Any]]:
    """The facts of the models, by their names or by the labels that tell several settings of one apart.

    Raises:
        ConfigError: there is none of one of them.
    """
    names = [(str(fact["model"]), scaling.label(fact, facts)) for fact in facts]
    known = list(dict.fromkeys(name for both in names for name in both))
    lacking = next((model for model in models if model not in known), None)
    if lacking is not None:
        raise ConfigError(f"--model {lacking}: no step of it was timed; {nearest(lacking, known)}")
    return [fact for fact, both in zip(facts, names, strict=True) if set(both) & set(models)]


def _with_names(labels: pd.Series, also: Sequence[str]) -> list[str]:
    """The labels that are drawn: all if they can be told apart, else those of the benchmark's paper, and `also`."""
    every = list(dict.fromkeys(labels))
    if len(every) <= style.MOST:
        return every
    theirs = {model for result in published.load(BENCHMARK).results for model in result.models}
    return [*also, *(label for label in every if bare(label) in theirs and label not in also)][: style.MOST]


def curves(frame: pd.DataFrame) -> Figure:
    """The score on validation over steps, a line a model, the mean over its seeds; `frame` is of `store.to_dataframe`.

    Raises:
        ConfigError: no run here keeps its curve.
    """
    there = _named(frame.assign(model=tables.labels(frame)).dropna(subset=["folder"]))
    found = [
        {"model": row["model"], "family": row["family"], "column": row["column"], "x": point["step"]}
        | {"y": point["val_score"] * _scale(row["metric"]), "loss": point["train_loss"]}
        for row in there.to_dict("records")
        for point in _curve(Path(row["folder"]))
    ]
    if not found:
        raise ConfigError("no run here keeps its learning curve: results folders have them, tables do not")
    mean = pd.DataFrame(found).groupby(["model", "family", "column", "x"], sort=False).mean().reset_index()
    tips = ["model:N", "family:N", alt.Tooltip("x:Q", title="step", format=","), alt.Tooltip("y:Q", format=".1f")]
    tips.append(alt.Tooltip("loss:Q", title="training loss", format=".3f"))
    last = mean.sort_values(["x", "y", "model"], ascending=[True, True, False]).groupby("column").tail(1)
    shown = lines.ordered(mean, _with_names(mean["model"], list(last["model"])), FULL)
    return _faceted(mean, shown, "step", _score_title("validation", there["metric"]), tips)


def _faceted(frame: pd.DataFrame, shown: Sequence[str], x: str, y: str, tips: Sequence[Any]) -> Figure:
    """Lines over a linear axis, a panel a column of the tables; a model looks alike in each."""

    def draw(layout: Layout) -> alt.ConcatChart:
        panels = [
            lines.panel(its, shown, _linear(x, its["x"]), y, layout, log=False, tips=tips).properties(title=str(column))
            for column, its in frame.groupby("column", sort=False)
        ]
        return style.joined(panels, layout)

    return Figure(draw)


def _linear(title: str, values: pd.Series) -> alt.X:
    scale = alt.Scale(domain=[float(values.min()), float(values.max())], nice=False, zero=False)
    return alt.X("x:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))


def sparsity(frame: pd.DataFrame) -> Figure:
    """The score on test over the share of zero weights: a line for each model, way of pruning and count of steps.

    A line begins at the model that was pruned. `frame` is of `store.to_dataframe`.

    Raises:
        ConfigError: no run here was pruned.
    """
    rows = _named(frame.assign(model=tables.labels(frame.assign(techniques=None)))).to_dict("records")
    found = [point for row in rows for point in _sparse(row, rows)]
    if not found:
        raise ConfigError("no run here was pruned to a sparsity: lra prune RUN --sparsity 0.5,0.7,0.9")
    drawn = pd.DataFrame(found)
    title = _score_title("test", drawn["metric"])
    mean = drawn.groupby(["family", "column", "model", "x"], sort=False)["y"].mean().reset_index()
    tips = ["model:N", alt.Tooltip("x:Q", title="zero, %", format=".1f"), alt.Tooltip("y:Q", format=".1f")]
    shown = lines.ordered(mean, list(mean["model"]), FULL)
    return _faceted(mean, shown, "weights that are zero, %", title, tips)


def _sparse(row: Mapping[Any, Any], rows: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """The points of a run that was pruned to a sparsity, and of the one that it began with."""
    technique = json.loads(row["techniques"]).get("prune") if isinstance(row["techniques"], str) else None
    if not technique or not technique["sparsity"] or pd.isna(row["test_score"]):
        return []
    line = f"{row['model']}, {technique['by']}, {technique['steps']} steps"
    both = [one for one in rows if one["run"] == row["start"]] + [row]
    return [
        {"model": line, "metric": row["metric"], "family": row["family"], "column": row["column"]}
        | {"x": 100 * one["sparsity"], "y": one["test_score"] * _scale(one["metric"])}
        for one in both
    ]


def _curve(folder: Path) -> list[dict[str, Any]]:
    path = folder / "curve.json"
    return list(store.read_json(path)) if path.exists() else []


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """With the column's short name, as the tables have it."""
    whole = places.settled(frame, tables.COLUMN)
    return frame.assign(column=tables.column_names(whole)[0])


def save(figure: Figure, path: Path) -> None:
    """Write the figure on a white ground as SVG, PNG (twice as fine) or PDF.

    Raises:
        ConfigError: the name ends otherwise.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--out {path}: must end in {', '.join(SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    style.styled(figure).save(str(path), scale_factor=2 if path.suffix == ".png" else 1)
