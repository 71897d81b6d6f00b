"""What running runs would take: which are done, their size and cost, whether they fit, hours. Nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

from lra_bench.config import Run
from lra_bench.launch import local
from lra_bench.launch.place import Place, places
from lra_bench.measure.asked import Asked
from lra_bench.records import fingerprint, store
from lra_bench.records.schema import SCORED, Result

PLACE = ("platform", "device", "devices")  # on which hours and bytes depend
PROBE = Asked(rounds=3, fitting=True)
KNOWN = (
    *("params", "params_ratio", "compiled_bytes", "flops_per_step", "compile_s"),
    *("step_ms_p50", "other_load", "fallback", "error"),
)


def states(every: Sequence[Run], results: Path) -> list[dict[str, Any]]:
    """Which of the runs are done, begun or new, by what lies in the results folder; and by what other code."""
    return [_asked(run, results) for run in every]


def _state(run: Run, results: Path) -> str:
    if store.done(results, run):
        return "done"
    return "begun" if (store.folder(results, run) / "checkpoints").is_dir() else "new"


def _asked(run: Run, results: Path) -> dict[str, Any]:
    result = store.done(results, run)
    asked: dict[str, Any] = {"run": run.id, "model": run.model, "task": run.task_name, "config": run.config_name}
    asked |= {"variant": run.task.variant, "techniques": run.techniques.words or None}
    asked |= {"lr": run.trained_first.recipe.optimizer.lr if run.lr_grid else None, "tag": run.tag}
    asked |= {"length": run.task.length, "seed": run.seed, "but_for_seed": but_for_seed(run)}
    return asked | {"state": _state(run, results), "other_code": fingerprint.since(result, run) if result else None}


def job_list(every: Sequence[Run], results: Path, jobs: int) -> list[str]:
    """A line of a shell for each run that is not done, in order, to be run where this folder of results is seen."""
    return [local.line(run, results, jobs) for run in every if store.done(results, run) is None]


def plan(
    every: Sequence[Run], results: Path, tell: Callable[[Run, dict[str, Any]], None], jobs: int = 1
) -> list[dict[str, Any]]:
    """Each run as `states` has it, its size and cost, whether a step fits in `available_bytes`, and its hours.

    `hours`, from a run's start to its end, are what it took with another seed on such a machine (`hours_from` "row"),
    else reckoned from a few steps on random tokens ("probe"), on one job's share of the machine, once for all seeds.
    """
    place = places(jobs)[0]
    here, found = local.machine(place), dict[str, dict[str, Any]]()
    for run in every:
        key = but_for_seed(run)
        if key not in found:
            found[key] = _from_result(run, results, here) or _probed(run, partial(tell, run), place)
    return [_plan(run, results, found[but_for_seed(run)], here) for run in every]


def _plan(run: Run, results: Path, found: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    result = store.done(results, run)
    known = result.as_dict() if result else found
    spent: dict[str, Any] = (
        {"hours": 0.0, "hours_from": None} if result else {k: found[k] for k in ("hours", "hours_from")}
    )
    planned, there = known.get("compiled_bytes"), here["available_bytes"]
    room = {"available_bytes": there, "limited_by": here.get("limited_by")}
    room |= {"fits": None if planned is None or there is None else planned <= there}
    return _asked(run, results) | {column: known.get(column) for column in KNOWN} | room | spent


def but_for_seed(run: Run) -> str:
    """An id that a run shares with those that differ from it in the seed alone."""
    return run.throughout(lambda _: {"seed": 0}).id


def _from_result(run: Run, results: Path, here: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the run, finished with any seed on such a machine, took."""
    seeds = escape(f"{run.model}-{run.task_name}-{run.config_name}-s") + "*"
    for folder in sorted((results / store.RUNS).glob(seeds)):
        result = _result_of(folder, run)
        if result is None or result.status not in SCORED or result.wall_s is None:
            continue
        if all(getattr(result, k) == here[k] for k in PLACE):
            return result.as_dict() | {"hours": result.wall_s / 3600, "hours_from": "row"}
    return None


def _result_of(folder: Path, run: Run) -> Result | None:
    """The result of a folder, if its run is this one with another seed."""
    try:
        kept = Run.model_validate(store.asked(folder))
    except ValueError:
        return None  # of another version
    return store.get(folder.parent.parent, kept) if but_for_seed(kept) == but_for_seed(run) else None


def _probed(run: Run, tell: Callable[[dict[str, Any]], None], place: Place) -> dict[str, Any]:
    known = local.measure([run], PROBE, tell, place)[0]
    return known | {"hours": _hours(run, known.get("step_ms_p50"), known.get("compile_s")), "hours_from": "probe"}


def _hours(run: Run, step_ms: float | None, compile_s: float | None) -> float | None:
    """An estimate from the time of a step: a forward pass counts a third of one, and takes as long to compile; examples
    that are to be made, and checkpoints, count nothing."""
    if step_ms is None or compile_s is None:
        return None
    t, sizes = run.recipe.training, {k: min(n, run.limit or n) for k, n in run.task.splits.items()}
    evaluations = -(-t.steps // t.eval_every) * sizes["val"] + sizes["test"]
    steps = t.steps + evaluations / t.batch / 3
    return (steps * step_ms / 1e3 + 2 * compile_s) / 3600
