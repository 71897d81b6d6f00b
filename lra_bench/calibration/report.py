"""Verdicts as a table, and as a page that says of each check where its outcome is known from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench.calibration import made
from lra_bench.calibration.made import Made
from lra_bench.calibration.verdicts import DIFFERS, REPRODUCED, UNTOLD, Outcome, Verdict
from lra_bench.config.calibration import Check
from lra_bench.report.tables import Comparison, Report, written

HEADS = ("check", "claim", "model", "expected", "published", "ours", "other", "rate", "verdict", "why")
WHERE_THERE = {"published", "other"}  # columns that are left out where no claim has one
NOTE = (
    "ours: test score, %, with a 95% interval over examples, or over seeds where that is wider; other: that of the arm "
    "it is held against; rate: the learning rate that validation chose"
)


def report(told: Sequence[Verdict]) -> Report:
    """The verdicts of all checks: numbers for programs, a table for people."""
    counts = Counter(one.verdict for one in told)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (REPRODUCED, DIFFERS, UNTOLD))
    shown = [*map(_shown, told)]
    heads = [head for head in HEADS if head not in WHERE_THERE or any(row[head] for row in shown)]
    frame = pd.DataFrame(shown, columns=heads).set_index("check")
    notes = (said, NOTE, *filter(None, [made.said(run for one in told for run in _runs(one))]))
    return Report(pd.DataFrame([*map(_numbers, told)]), (Comparison("calibration", "calibration", frame, notes),))


def page(
    checks: Mapping[str, Check], told: Sequence[Verdict], skipped: Mapping[str, str], *, quick: bool = False
) -> str:
    """Markdown: the table of all checks, and a section for each; those that were `skipped` say why."""
    title = f"# Calibration{', short checks (--quick)' if quick else ''}\n"
    (table,) = report(told).tables
    sections = [part for name, check in checks.items() for part in _section(name, check, told, skipped.get(name))]
    return "\n".join([title, written(table, "md"), *sections])


def _section(name: str, check: Check, told: Sequence[Verdict], skipped: str | None) -> Iterator[str]:
    yield f"## {check.title}\n"
    yield f"- Check: `{name}`"
    yield f"- Known from: {check.reference}"
    yield f"- Unlike there: {check.differs}"
    yield f"- A failure would mean: {check.failure}"
    yield f"- Skipped: {skipped}" if skipped else f"- Verdicts: {_tally(name, told)}"
    yield ""


def _tally(name: str, told: Sequence[Verdict]) -> str:
    counts = Counter(one.verdict for one in told if one.check == name)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def _shown(one: Verdict) -> dict[str, Any]:
    return {
        "check": one.check,
        "claim": one.claim,
        "model": one.ours.entrant.model,
        "expected": one.expected,
        "published": "" if one.published is None else f"{100 * one.published:.1f}",
        "ours": _score(one.ours),
        "other": f"{one.theirs.name}: {_score(one.theirs)}" if one.theirs else "",
        "rate": f"{one.ours.rate:g}" if one.ours.rate else "",
        "verdict": one.verdict,
        "why": one.why or "",
    }


def _score(outcome: Outcome) -> str:
    if outcome.interval is None:
        return ""
    score, low, high = (f"{100 * value:.1f}" for value in outcome.interval)
    runs = f", {len(outcome.scores)} runs" if len(outcome.scores) > 1 else ""
    return f"{score} ({low}-{high}{runs})"


def _runs(one: Verdict) -> tuple[Made, ...]:
    """All that the verdict is of."""
    return one.ours.made + (one.theirs.made if one.theirs else ())


def _numbers(one: Verdict) -> dict[str, Any]:
    interval = one.ours.interval
    score, low, high = interval if interval else (None, None, None)
    theirs = one.theirs.interval if one.theirs else None
    return {
        "check": one.check,
        "claim": one.claim,
        "arm": one.ours.entrant.arm,
        "model": one.ours.entrant.model,
        "task": one.ours.entrant.task.name,
        "length": one.ours.length or one.ours.entrant.task.length,
        "expected": one.expected,
        "published": one.published,
        "score": score,
        "score_low": low,
        "score_high": high,
        "than_score": theirs.value if theirs else None,
        "chance": one.ours.chance,
        "runs": len(one.ours.scores),
        "rate": one.ours.rate,
        "verdict": one.verdict,
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "why": one.why,
        **made.columns(_runs(one)),
    }
