"""Ours against a set of published results: equivalent, different, not to be told, or not comparable and why.

Both numbers are uncertain, over their test sets and their seeds: see `equivalence`. It is asked only where ours
was made as that number was: the same length and split, under a recipe that follows the set's protocol, the mechanism
set as there. Every reason against it is said, in words.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from lra_bench import config, statistics
from lra_bench.metrics import named
from lra_bench.records.schema import SCORED, settings_of
from lra_bench.report import tables
from lra_bench.report.published import Mechanism, Protocol, Published, Reported
from lra_bench.report.summary import equivalence
from lra_bench.report.summary.equivalence import MARGIN, Equivalence, Score
from lra_bench.report.summary.seeds import NO_SEEDS, Seeds
from lra_bench.report.tables import Comparison

APART = "not comparable"
VERDICTS = (*equivalence.VERDICTS, APART)
MOVES_NOTHING = (
    "task.folder",
    "training.accumulate",
    "training.length_buckets",
    "training.checkpoint_every",
    "backbone.remat",
)
OURS = ("model", "task", "variant", "config", "changed", "tag", "length", "column", "status", "runs", "finished")
HEADS = ("model", "column", "ours", "published", "verdict", "why")
SCORES = ("test_score", "test_low", "test_high")
NOTES = (
    "their test set is taken to have as many examples as ours, drawn independently; their seeds to vary as ours in the "
    "column, and to be one where the source does not say how many; a published chance level is met by the chance level",
    "what a source does not state of options and sizes is not compared; sizes are layers/width/qkv/mlp/heads",
)
FACTS = ("verdict", "difference", "low", "high", "more")


class Reason(NamedTuple):
    """Why two numbers may not be compared."""

    kind: str  # in a word
    said: str  # ours, and what was published
    of_all: bool  # it holds for every model of the column

    @property
    def whole(self) -> str:
        """The reason as it stands alone."""
        return f"{self.kind}: {self.said}"


@dataclass(frozen=True)
class Line:
    """A row of ours beside one published number."""

    ours: Mapping[str, Any]  # a row of `tables.summary`, with its `column`, `options` and bare `name`
    published: Reported
    held: Equivalence | None  # None where it is not comparable
    reasons: tuple[Reason, ...]  # why it is not comparable; empty where it is
    spread: statistics.Spread | None = None  # how seeds vary in its column; None where that is not known

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        return self.held.verdict if self.held else APART


def against(
    frame: pd.DataFrame, published: Published, margin: float = MARGIN, elsewhere: pd.DataFrame | None = None
) -> list[Line]:
    """A line for each row of ours, seeds joined, and each published number of its model and task.

    `margin`: shares that differ by less are equivalent. Rows `elsewhere` too tell how seeds vary, in the same columns.
    """
    seeds = Seeds.of(frame, elsewhere)
    return [
        _line(row, result, published, seeds.get(row), margin)
        for row in _rows(frame)
        for result in published.results
        if row["name"] in result.models and row["task"] == result.task
    ]


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The summed rows, missing as None, with what a table's numbers alone do not say."""
    summed = tables.summary(frame)
    summed = summed.assign(column=tables.column_names(summed)[0]).astype(object)
    said = frame.reindex(columns=["options", "techniques"]).astype(object)
    said = said.where(said.notna(), None)
    options, techniques = (dict(zip(frame["run"], said[name], strict=True)) for name in ("options", "techniques"))
    for row in summed.where(summed.notna(), None).to_dict("records"):
        first = str(row["run"]).split(" ")[0]
        yield {str(key): value for key, value in row.items()} | {
            "name": str(row["model"]).partition(" + ")[0].partition("[")[0],
            "options": options.get(first),
            "techniques": techniques.get(first),
        }


def _line(
    row: Mapping[str, Any], result: Reported, published: Published, spread: statistics.Spread | None, margin: float
) -> Line:
    why = tuple(reasons(row, result, published))
    return Line(row, result, None if why else _held(row, result, spread, margin), why, spread)


def _held(row: Mapping[str, Any], result: Reported, spread: statistics.Spread | None, margin: float) -> Equivalence:
    """Ours, a row of `tables.summary`, beside theirs; one that stayed at chance has the chance, which is no estimate.

    A token accuracy is taken to vary over examples as an accuracy does, which is the most that a share can.
    """
    ours = Score(row["test_score"], row["test_n"], row["finished"], (row["test_sd"] or 0.0) ** 2)
    if result.score is None:
        return equivalence.held(ours, Score(row["chance"], math.inf, math.inf), spread, margin)
    return equivalence.held(ours, Score(result.score, row["test_n"], result.seeds or 1), spread, margin)


def reasons(row: Mapping[str, Any], result: Reported, published: Published) -> Iterator[Reason]:
    """Why the row may not be held against the published number; nothing where it may."""
    followed = [protocol for protocol in published.protocols if protocol.task == result.task]
    protocol = next((p for p in followed if p.recipe == row["config"]), None)
    about = [m for m in published.mechanisms if m.holds(result.name, result.task, row["config"])]
    yield from _of_the_run(row, result.metric, {option for mechanism in about for option in mechanism.options})
    yield from _of_the_recipe(row, followed)
    yield from _of_the_task(row, protocol or next(iter(followed), None))
    for mechanism in about:
        yield from _of_the_mechanism(row, mechanism, protocol)


def _of_the_run(row: Mapping[str, Any], published: str, options: set[str]) -> Iterator[Reason]:
    if row["status"] not in SCORED:
        yield Reason("status", f"{row['runs'] - row['finished']} of {row['runs']}: {row['status']}", False)
    elif row.get("test_score") is None:
        yield Reason("status", "no score on test", False)
    ours, theirs = named(row["metric"]), named(published)
    if ours is not theirs:
        yield Reason("metric", f"{ours.title}, not {theirs.title}", True)
    if row["tag"]:
        yield Reason("tag", str(row["tag"]), True)
    if row["techniques"]:
        yield Reason("techniques", config.technique_words(row["techniques"]), True)
    moved = [said for said in settings_of(row["changed"]) if not _is_seen_elsewhere(said, row["name"], options)]
    if moved:
        yield Reason("settings", " ".join(moved), True)


def _is_seen_elsewhere(said: str, model: str, options: set[str]) -> bool:
    """Is the setting one that moves no number, or an option that is compared by its value?"""
    key = said.partition("=")[0]
    who, _, option = key.partition(".")
    return key in MOVES_NOTHING or (who in (model, "model") and option in options)


def _of_the_recipe(row: Mapping[str, Any], followed: Sequence[Protocol]) -> Iterator[Reason]:
    recipes = {protocol.recipe: protocol.size for protocol in followed if protocol.recipe}
    if not recipes:
        sizes = "".join(f" ({protocol.size})" for protocol in followed if protocol.size)
        yield Reason("protocol", f"no recipe here follows the published one{sizes}", True)
    elif row["config"] not in recipes:
        meant = " or ".join(f"{name} ({size})" for name, size in recipes.items())
        yield Reason("config", f"{row['config']}, not {meant}", True)


def _of_the_task(row: Mapping[str, Any], protocol: Protocol | None) -> Iterator[Reason]:
    if protocol is None:
        return
    if protocol.length is not None and row["length"] != protocol.length:
        yield Reason("length", f"{row['length']:,.0f} tokens, not {protocol.length:,}", True)
    ours, theirs = _examples(protocol.task, row["variant"]), _examples(protocol.task, protocol.variant)
    if protocol.recipe and ours != theirs:
        yield Reason("task", f"{ours}, not {theirs}", True)
    if protocol.apart:
        yield Reason("split", protocol.apart, True)


def _examples(task: str, variant: str | None) -> str:
    return f"{task}@{variant}" if variant else f"{task} without a variant"


def _of_the_mechanism(row: Mapping[str, Any], mechanism: Mechanism, protocol: Protocol | None) -> Iterator[Reason]:
    if protocol and mechanism.size and mechanism.size != protocol.size:
        yield Reason("size", f"{protocol.size}, not {mechanism.size}", False)
    if mechanism.apart:
        yield Reason("mechanism", mechanism.apart, False)
    if mechanism.options and row["options"] is None:
        yield Reason("options", "not on record", False)
        return
    turned = json.loads(row["options"]) if mechanism.options else {}
    values = {option: (written(turned.get(option)), value) for option, value in mechanism.options.items()}
    unlike = [f"{option} {ours} not {theirs}" for option, (ours, theirs) in values.items() if ours != theirs]
    if unlike:
        yield Reason("options", ", ".join(unlike), False)


def written(value: Any) -> str:
    """A option's value as `models.csv` has it."""
    return value if isinstance(value, str) else json.dumps(value)


def numbers(lines: Sequence[Line]) -> pd.DataFrame:
    """The lines with their numbers as shares and every reason in full: what csv and json export."""
    records = [
        {key: line.ours.get(key) for key in (*OURS, *SCORES)}
        | {"source": line.published.source, "published_model": line.published.name, "published": line.published.said}
        | {"published_score": line.published.score, "published_seeds": line.published.seeds}
        | {key: getattr(line.held, key, None) for key in FACTS}
        | {"verdict": line.verdict, "seeds_sd": line.spread.variance**0.5 if line.spread else None}
        | {"why": "; ".join(reason.whole for reason in line.reasons)}
        for line in lines
    ]
    return pd.DataFrame(records)


def table(lines: Sequence[Line], published: Published, margin: float = MARGIN) -> Comparison:
    """The lines as a table; what holds for a whole column is said in words below it."""
    title = f"test accuracy, %, with a 95% interval, against the published results '{published.name}'"
    records = [
        {
            "model": line.ours["model"],
            "column": line.ours["column"],
            "ours": _ours(line.ours),
            "published": f"{line.published.said} {line.published.name}",
            "verdict": line.held.said if line.held else APART,
            "why": "; ".join(dict.fromkeys(r.kind if r.of_all else r.whole for r in line.reasons)),
        }
        for line in lines
    ]
    notes = _notes(lines, published, margin) if lines else ("nothing here has a counterpart among them",)
    return Comparison("accuracy", title, pd.DataFrame(records, columns=list(HEADS)).set_index("model"), tuple(notes))


def _ours(row: Mapping[str, Any]) -> str:
    """Our score and its interval, %; what has none stands as its status."""
    if row.get("test_score") is None:
        return str(row["status"])
    if not named(row["metric"]).share:
        return f"{row['test_score']:.4g}"
    score, low, high = (f"{100 * row[key]:.1f}" for key in SCORES)
    return f"{score} ({low}-{high})"


def _notes(lines: Sequence[Line], published: Published, margin: float) -> Iterator[str]:
    counts = Counter(line.verdict for line in lines)
    yield ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    yield from _by_column(lines)
    yield (
        f"equivalent: surely within {100 * margin:g} points of the published number (two one-sided tests, 5% each); "
        f"differs: by at least the near end of the 95% interval; seeds that are asked for tell {100 * margin:g} points "
        f"with a power of {100 * equivalence.POWER:.0f}%"
    )
    yield from _of_seeds(lines)
    yield from NOTES
    for protocol in published.protocols:
        met = [line for line in lines if line.published.task == protocol.task]
        if protocol.note and any(protocol.recipe in ("", line.ours["config"]) for line in met):
            yield f"there, on {' under '.join(filter(None, (protocol.task, protocol.recipe)))}: {protocol.note}"
    yield "published: " + "; ".join(dict.fromkeys(line.published.source for line in lines))


def _of_seeds(lines: Sequence[Line]) -> Iterator[str]:
    """How seeds vary in each column where something was held against a published number."""
    known = {line.ours["column"]: line.spread for line in lines if line.held}
    for column, spread in known.items():
        if spread is None:
            yield f"{column}: {NO_SEEDS}"
        else:
            yield (
                f"{column}: seeds vary by {100 * spread.variance**0.5:.1f} points (standard deviation, of "
                f"{spread.models} models with {statistics.LEAST_RUNS} runs or more)"
            )


def _by_column(lines: Sequence[Line]) -> Iterator[str]:
    """A note for each column that is not comparable, whatever the model, with the reasons in full."""
    columns: dict[str, dict[str, None]] = {}
    for line in lines:
        shared = {reason.whole: None for reason in line.reasons if reason.of_all}
        columns.setdefault(line.ours["column"], {}).update(shared)
    yield from (f"{column}: not comparable; {'; '.join(said)}" for column, said in columns.items() if said)
