"""What a reader should know first: a sentence on scores, one on steps, and the best of each thing that is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, get_args

import pandas as pd

from lra_bench import mixers
from lra_bench.metrics import named
from lra_bench.mixers.card import Family
from lra_bench.report import scaling
from lra_bench.report.summary import annotate
from lra_bench.report.summary.digits import three_digits

FULL = get_args(Family)[0]
COLUMNS = 2  # whose best model is told

Fact = Mapping[str, Any]


class Finding(NamedTuple):
    """The best model in one thing."""

    title: str
    model: str
    value: str
    said: str


class Longest(NamedTuple):
    """The steps at the longest length that full attention was timed at."""

    length: int
    full: Fact  # the fastest step of full attention
    others: list[Fact]  # of the other families
    facts: Sequence[Fact]

    def label(self, fact: Fact) -> str:
        """The name of a fact's line."""
        return scaling.label(fact, self.facts)


def longest(facts: Sequence[Fact]) -> Longest | None:
    """What was timed at the longest length; None without full attention, or without others."""
    timed = [fact for fact in scaling.of_one_mode(scaling.told_apart(facts)) if fact["step_ms_p50"] is not None]
    full = [fact for fact in timed if _family(fact["model"]) == FULL]
    if not full:
        return None
    length = max(fact["length"] for fact in full)
    there = [fact for fact in timed if fact["length"] == length]
    others = [fact for fact in there if _family(fact["model"]) != FULL]
    best = min((fact for fact in full if fact["length"] == length), key=lambda fact: fact["step_ms_p50"])
    return Longest(length, best, others, timed) if others else None


def _family(model: str) -> str:
    return mixers.model_card(model).card.family if model in mixers.names() else ""


def headline(summed: pd.DataFrame, facts: Sequence[Fact]) -> str:
    """What is known first: of the first column's scores, and of steps at the longest length, where these were timed."""
    return ". ".join([*(_scored(best) for best in islice(_best(summed), 1)), *_timed(facts)])


def _scored(best: Finding) -> str:
    return f"{best.title}: {best.model} with {best.value} ({best.said})"


def _timed(facts: Sequence[Fact]) -> Iterator[str]:
    """How many models take less time for a step than full attention, if any was timed beside it."""
    there = longest(facts)
    if there is None:
        return
    faster = sum(_is_surely_less(fact, there.full) for fact in there.others)
    best = min(there.others, key=lambda fact: fact["step_ms_p50"])
    times = there.full["step_ms_p50"] / best["step_ms_p50"]
    share = f"all {faster}" if faster == len(there.others) else f"{faster} of {len(there.others)}"
    step = scaling.ONE[scaling.mode_of(best)]
    yield (
        f"At {there.length:,} tokens, {share} efficient models take less time for a {step} than full attention; "
        f"{there.label(best)}, the fastest, is {three_digits(times) if times < 2 else f'{times:,.0f}'} times as fast"
    )


def _is_surely_less(fact: Fact, other: Fact) -> bool:
    """Do the two medians' intervals tell it? Where there are none, the medians."""
    ours, theirs = scaling.interval(fact), scaling.interval(other)
    high = ours.value if ours.high != ours.high else ours.high
    low = theirs.value if theirs.low != theirs.low else theirs.low
    return high < low


def findings(summed: pd.DataFrame, facts: Sequence[Fact]) -> list[Finding]:
    """The best models: of the first columns by score, and at the longest length by time and memory."""
    there = longest(facts)
    return [*_best(summed), *(_at_length(there) if there else ())]


def _best(summed: pd.DataFrame) -> Iterator[Finding]:
    """By score, of the first columns; `summed` has the column's name in `column`."""
    scored = summed.dropna(subset="test_score")
    for column in list(dict.fromkeys(scored["column"]))[:COLUMNS]:
        its = scored[scored["column"] == column]
        metric = its["metric"].iloc[0]
        row = its.sort_values("test_score", ascending=not named(metric).higher, kind="stable").iloc[0]
        value, low, high = (annotate.score(row[key], metric) for key in ("test_score", "test_low", "test_high"))
        unit = "%" if named(metric).share else f" {named(metric).title}"
        said = f"95% interval {low}-{high}{_beside(row, its)}"
        yield Finding(f"Best score, {column}", str(row["model"]), f"{value}{unit}", said)


def _beside(best: pd.Series, its: pd.DataFrame) -> str:
    """How many of a column's models are not told from the best: by rank, or where there is none, by their intervals."""
    if len(its) == 1:
        return ""
    ranks = its.reindex(columns=["rank"])["rank"].astype(float)
    if (ranks == 1).any():
        return f"; {(ranks == 1).sum()} of {len(its)} models share rank 1"
    beside = its.drop(index=best.name)
    others = ((beside["test_low"] <= best["test_high"]) & (beside["test_high"] >= best["test_low"])).sum()
    return f"; not told from {others} other{'s' if others > 1 else ''}" if others else ""


def _at_length(there: Longest) -> Iterator[Finding]:
    fast = min(there.others, key=lambda fact: fact["step_ms_p50"])
    full = f"full attention {three_digits(there.full['step_ms_p50'])} ms"
    time = f"{three_digits(fast['step_ms_p50'])} ms"
    yield Finding(f"Fastest step, {there.length:,} tokens", there.label(fast), time, full)
    small = min(there.others, key=lambda fact: fact["compiled_bytes"])
    full = f"full attention {there.full['compiled_bytes'] / 2**20:,.0f} MiB"
    size = f"{small['compiled_bytes'] / 2**20:,.0f} MiB"
    yield Finding(f"Least compiled memory, {there.length:,} tokens", there.label(small), size, full)
