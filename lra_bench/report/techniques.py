"""What each technique costs and gains: a model with it beside the same model without."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from lra_bench import config, statistics
from lra_bench.errors import ConfigError
from lra_bench.metrics import named
from lra_bench.records.schema import SCORED
from lra_bench.report import tables
from lra_bench.report.summary import annotate, load, places, ranks
from lra_bench.report.summary.digits import three_digits
from lra_bench.report.summary.places import BUILD, PLACE
from lra_bench.report.summary.seeds import Seeds
from lra_bench.report.summary.summing import newest_of_seeds
from lra_bench.report.tables import COLUMN, Comparison, Report

MEANS = (
    "test_score",
    "params",
    "trained_params",
    "sparsity",
    "model_bytes",
    "flops_per_step",
)
TIMES = ("step_ms_p50", "inference_ms_p50", "peak_bytes")  # of one place, see `places`
NOTES = (
    f"against none: difference of test scores with its 95% interval; *: p < {statistics.ALPHA} by {statistics.SEEDS}, "
    "after Holm over the table's pairs; where nothing is known of seeds, the interval is of these runs on other "
    "examples, and there is no *",
    "model: the parameters that the forward pass reads, integers packed, zeros of sparse arrays left out; inference: "
    "the forward pass of a batch; step: a training step of the run itself, none where it takes no step; GFLOP: of it, "
    "as the compiler counts, or of the forward pass",
)


def report(frame: pd.DataFrame, elsewhere: pd.DataFrame | None = None) -> Report:
    """A row a technique, model and column, the same model without a technique first.

    Rows `elsewhere` are not shown: they too tell how seeds vary, in the same columns.

    Raises:
        ConfigError: no result was run with a technique.
    """
    if "techniques" not in frame or frame["techniques"].isna().all():
        raise ConfigError("no run with a technique here; lra run --technique applies one, lra ls techniques lists them")
    frame = frame[frame["run"].isna() | ~frame["run"].duplicated()]
    applied = frame["techniques"].map(lambda facts: config.technique_words(facts) if isinstance(facts, str) else "none")
    done = frame.assign(bare=_bare(frame), technique=applied, model=tables.labels(frame))
    done = newest_of_seeds(places.settled(done[done["status"].isin(SCORED)], COLUMN), ["model", *COLUMN])
    models, seeds = done.groupby([*COLUMN, "bare"], dropna=False, sort=False), Seeds.of(frame, elsewhere)
    numbers = pd.DataFrame([line for key, rows in models for line in _lines(key, rows, seeds)])
    numbers = numbers.assign(p_holm=statistics.holm(list(numbers["p"])))
    names, notes = tables.column_names(numbers)
    told = numbers.assign(column=names)
    notes += seeds.notes(told[told["difference"].notna()])
    each = [_table(str(name), rows, notes) for name, rows in told.groupby("column", sort=False)]
    return Report(numbers, (_overview(told, notes), *each))


def _bare(frame: pd.DataFrame) -> pd.Series:
    """Each row's model without its techniques: labels of the rows as if none had been applied."""
    return tables.labels(frame.assign(techniques=None))


def _lines(key: tuple[Any, ...], rows: pd.DataFrame, seeds: Seeds) -> Iterator[dict[str, Any]]:
    """Of one model in one column: a line a technique. Alone, a model without techniques is not shown."""
    column = dict(zip([*COLUMN, "bare"], key, strict=True))
    groups = {str(label): group for label, group in rows.groupby("model", sort=False)}
    if len(groups) == 1 and rows["techniques"].isna().all():
        return
    scores = ranks.scores(rows.dropna(subset="folder"))
    plain = scores.get(str(column["bare"]))
    spread = seeds.get(column)
    for label in sorted(groups, key=lambda label: _order(groups[label]["techniques"].iloc[0])):
        group = groups[label]
        line = {**column, "model": label, "technique": group["technique"].iloc[0], "runs": len(group)}
        line |= {name: group[name].astype(float).mean() for name in MEANS}
        last = places.newest(group)
        line |= {name: last[name].astype(float).mean() for name in TIMES}
        line |= {name: last[name].iloc[0] for name in (*PLACE, *BUILD)}
        line["other_load"] = last.reindex(columns=["other_load"])["other_load"].astype(float).max()
        ours = None if label == column["bare"] else scores.get(label)
        found = None if ours is None or plain is None else statistics.every_two([ours, plain], spread)[0]
        yield line | {name: getattr(found, name, math.nan) for name in ("difference", "low", "high", "p")}


def _order(facts: Any) -> tuple[list[int], str]:
    """None first; then by when in a model's life a technique is applied."""
    applied = json.loads(facts) if isinstance(facts, str) else {}
    sections = list(config.Techniques.model_fields)
    return sorted((sections.index(name) for name in applied), reverse=True), str(facts)


def _overview(numbers: pd.DataFrame, notes: list[str]) -> Comparison:
    """A line a technique: the score of each model in each column, and how far it is from none."""
    said = [_beside(row) for row in numbers.to_dict("records")]
    long = pd.DataFrame(
        {"technique": numbers["technique"], "where": numbers["bare"] + ", " + numbers["column"], "said": said}
    )
    cells = long.pivot(index="technique", columns="where", values="said").fillna("")
    cells = cells.reindex(index=list(dict.fromkeys(long["technique"])), columns=list(dict.fromkeys(long["where"])))
    cells.columns.name = None
    return Comparison("techniques", "test score, and its difference from none", cells, (*notes, NOTES[0]))


def _beside(row: dict[Any, Any]) -> str:
    if pd.isna(row["difference"]):
        return str(annotate.score(row["test_score"], row["metric"]))
    scale = 100 if named(row["metric"]).share else 1
    sure = " *" if row["p_holm"] < statistics.ALPHA else ""
    return f"{annotate.score(row['test_score'], row['metric'])} ({scale * row['difference']:+.1f}{sure})"


def _table(name: str, rows: pd.DataFrame, notes: list[str]) -> Comparison:
    metric = rows["metric"].iloc[0]
    cells = pd.DataFrame(
        {
            "model": rows["bare"],
            "technique": rows["technique"],
            "test": [annotate.score(value, metric) for value in rows["test_score"]],
            "against none": [_difference(row) for row in rows.to_dict("records")],
            "trained": rows["trained_params"].map(_count),
            "parameters": rows["params"].map(_count),
            "zero %": rows["sparsity"].map(lambda share: f"{100 * share:.0f}" if share > 0.005 else ""),
            "model KiB": (rows["model_bytes"] / 2**10).map(_count),
            "GFLOP": (rows["flops_per_step"] / 1e9).map(_digits),
            "inference ms": [_answered(row) for row in rows.to_dict("records")],
            "step ms": [_timed(row) for row in rows.to_dict("records")],
        }
    ).set_index("model")
    where = [places.of(row) for row in rows.to_dict("records")]
    if len(every := list(dict.fromkeys(where))) > 1:
        at = {place: f"#{number}" for number, place in enumerate(every, 1)}
        cells = cells.assign(timed=[at[place] for place in where])
        words = "; ".join(f"{at[place]} {said}" for place, said in zip(every, places.apart(every), strict=True))
        notes = [*notes, f"{name}: timed: compare times of one number alone: {words}"]
    told = [note for note in notes if note.startswith(f"{name}: ")]
    told += [load.NOTE] if any(map(load.tag, rows["other_load"])) else []
    score = "accuracy, %" if named(metric).share else named(metric).title
    return Comparison("techniques", f"{name}: techniques, test {score}", cells, (*told, *NOTES))


def _difference(row: dict[Any, Any]) -> str:
    if pd.isna(row["difference"]):
        return ""
    scale = 100 if named(row["metric"]).share else 1
    value, low, high = (f"{scale * row[key]:+.1f}" for key in ("difference", "low", "high"))
    return f"{value} ({low} to {high})" + (" *" if row["p_holm"] < statistics.ALPHA else "")


def _timed(row: dict[Any, Any]) -> str:
    return _digits(row["step_ms_p50"]) + (places.tag(row["fallback"]) if pd.notna(row["step_ms_p50"]) else "")


def _answered(row: dict[Any, Any]) -> str:
    said = _digits(row["inference_ms_p50"])
    return said + load.tag(row["other_load"]) if said else ""


def _count(value: float) -> str:
    return "" if pd.isna(value) else f"{value:,.0f}"


def _digits(value: float) -> str:
    return "" if pd.isna(value) else str(three_digits(value))
