"""When runs were made, and by which code: a calibration is a statement about code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lra_bench.records import fingerprint, store
from lra_bench.sweeps import Entrant

UNKNOWN = "that is not known"


class Made(NamedTuple):
    """Of a run that ended."""

    run: str  # its id
    started: str | None  # ISO 8601, UTC
    code_hash: str | None
    present: bool  # is it by the code and the libraries that stand here?


def of(entrant: Entrant, results: Path) -> tuple[Made, ...]:
    """The runs of the entrant that ended, those of the other learning rates too."""
    ended = ((run, store.done(results, run)) for run in entrant.expected(results))
    return tuple(
        Made(run.id, result.started, result.code_hash, fingerprint.since(result, run) is None)
        for run, result in ended
        if result is not None
    )


def columns(every: Iterable[Made]) -> dict[str, Any]:
    """Of a verdict's runs: when the first and the last began, the hashes of their code, and whether all are of the
    present one."""
    runs = _once(every)
    began = sorted(one.started for one in runs if one.started)
    return {
        "first_started": began[0] if began else None,
        "last_started": began[-1] if began else None,
        "code_hash": "; ".join(_hashes(runs)) or None,
        "present_code": all(one.present for one in runs) if runs else None,
    }


def said(every: Iterable[Made]) -> str | None:
    """All of it in a sentence; None where no run ended."""
    runs = _once(every)
    if not runs:
        return None
    present = sum(one.present for one in runs)
    share = "all are" if present == len(runs) else f"{present} of {len(runs)} are" if present else "none is"
    here = f"by the code and libraries that they are judged with (code {fingerprint.common()})"
    return f"{len(runs)} runs, {_days(runs)}by code {_codes(runs)}; {share} {here}"


def _once(every: Iterable[Made]) -> list[Made]:
    """Each run once: several verdicts are of the same ones."""
    return list({one.run: one for one in every}.values())


def _days(runs: Sequence[Made]) -> str:
    days = sorted({one.started[:10] for one in runs if one.started})
    if not days:
        return ""
    return f"begun on {days[0]}, " if len(days) == 1 else f"begun from {days[0]} to {days[-1]}, "


def _codes(runs: Sequence[Made]) -> str:
    """The hashes, and of how many runs each is where there are several."""
    counts = _hashes(runs)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{code} ({count} run{'s' if count > 1 else ''})" for code, count in counts.items())


def _hashes(runs: Sequence[Made]) -> dict[str, int]:
    """How many runs are by each code, that of the most first."""
    return dict(Counter(one.code_hash or UNKNOWN for one in runs).most_common())
