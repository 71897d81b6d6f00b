"""What running runs would take, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group

from lra_bench.cli.screen import mebibytes, titled, what_runs
from lra_bench.report.summary import load
from lra_bench.report.summary.digits import three_digits

Plan = Mapping[str, Any]
STATES = ("new", "begun", "done")


def table(plans: Sequence[Plan], jobs: int) -> Group:
    """A line for the runs that differ in their seed alone, and the hours with so many jobs at once."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(plan["but_for_seed"], []).append(plan)
    lines = [what_runs(group[0], plans) | _line(group) for group in groups.values()]
    return titled("what would run", lines, [*_to_go(plans, jobs), *_room(plans)])


def calibration(lines: Sequence[Plan], jobs: int) -> Group:
    """What a calibration would take: a line a model of a check's arm, and the hours with so many jobs at once."""
    shown = [
        {key: line[key] for key in ("check", "arm", "model", "runs", "left")}
        | {key: None if line[key] is None else f"{line[key]:.3f}" for key in ("hours_each", "hours")}
        for line in lines
    ]
    left, hours = sum(line["left"] for line in lines), sum(line["hours"] or 0.0 for line in lines)
    unknown = [f"{line['model']} of {line['check']}: {line['error']}" for line in lines if line["hours"] is None]
    said = f"to be run: {left}, {jobs} at once; hours on this machine: about {hours / max(min(jobs, left), 1):.2f}"
    return titled("what would run", shown, [said, *unknown])


def _line(group: Sequence[Plan]) -> dict[str, Any]:
    first, hours = group[0], _left(group)
    return {
        "config": first["config"],
        "L": first["length"],
        **{state: sum(plan["state"] == state for plan in group) or None for state in STATES},
        "params": None if first["params"] is None else f"{first['params']:,}",
        "to full": None if first["params_ratio"] is None else f"{first['params_ratio']:.2f}",
        "MiB": mebibytes(first["compiled_bytes"]),
        "fits": _fits(first),
        "GFLOP": None if first["flops_per_step"] is None else f"{first['flops_per_step'] / 1e9:.1f}",
        "ms": None if first["step_ms_p50"] is None else _timed(first),
        "hours": None if hours is None else f"{hours:.2f}",
        "from": next((plan["hours_from"] for plan in group if plan["hours_from"]), None),
    }


def _timed(plan: Plan) -> str:
    return f"{three_digits(plan['step_ms_p50'])}{load.tag(plan.get('other_load'))}"


def _left(group: Sequence[Plan]) -> float | None:
    known = [plan["hours"] for plan in group if plan["hours"] is not None]
    return sum(known) if known else None


def _fits(plan: Plan) -> str | None:
    if plan["fits"] is None:
        return None
    return (plan["fallback"] or "yes") if plan["fits"] else "no"


def _to_go(plans: Sequence[Plan], jobs: int) -> Iterator[str]:
    left = [plan for plan in plans if plan["state"] != "done"]
    hours = (_left(left) or 0.0) / max(min(jobs, len(left)), 1)
    unknown = sum(plan["hours"] is None for plan in left)
    said = f"runs: {len(plans)}, to be run: {len(left)}{f', {jobs} at once' if jobs > 1 else ''}"
    yield f"{said}, hours on this machine: about {hours:.2f}{f', {unknown} that failed apart' if unknown else ''}"
    yield "hours from result: what the run took here with another seed; from probe: by a few timed steps"
    if any(load.tag(plan.get("other_load")) for plan in plans):
        yield f"{load.NOTE}, and so do the hours"


def _room(plans: Sequence[Plan]) -> Iterator[str]:
    there = next((plan["available_bytes"] for plan in plans if plan["available_bytes"]), None)
    yield "MiB, GFLOP, ms: of a training step; MiB as the compiler plans it"
    by = next((plan["limited_by"] for plan in plans if plan.get("limited_by")), None)
    if there:
        said = f"{there / 2**30:.1f} GiB{f', {by}' if by else ''}"
        yield f"fits: in {said}; or what would be changed so that it does"
