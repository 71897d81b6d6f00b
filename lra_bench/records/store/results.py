"""Results: kept beside their runs, and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lra_bench.config import FLOATS, Run
from lra_bench.errors import ConfigError
from lra_bench.records.schema import COLUMNS, FINAL, Result, Status
from lra_bench.records.store.files import read_json, write_json
from lra_bench.records.store.runs import RUNS, folder


def blank(run: Run, status: Status, error: str | None = None, **facts: Any) -> Result:
    """The run's result with what was asked, and `facts` of what came out."""
    return Result(**columns(run) | {"status": status, "error": error} | facts)


def columns(run: Run) -> dict[str, Any]:
    """The result's columns on what was asked."""
    recipe, task, precision = run.recipe, run.task, run.techniques.precision
    return {
        "run": run.id,
        "model": run.model,
        "options": json.dumps(run.turned, sort_keys=True),
        "family": run.family,
        "task": run.task_name,
        "task_version": task.version,
        "metric": run.metric.name,
        "variant": task.variant,
        "config": run.config_name,
        "changed": run.changed,
        "tag": run.tag,
        "techniques": json.dumps(facts, sort_keys=True) if (facts := run.techniques.facts()) else None,
        "start": run.start and run.start.id,
        "teacher": run.teacher and run.teacher.id,
        "tuning_trials": run.tuned and run.tuned.trials,
        "tuning_steps": run.tuned and run.tuned.steps,
        "config_hash": run.config_hash,
        "seed": run.seed,
        "length": task.length,
        "batch": recipe.training.batch,
        "accumulate": recipe.training.accumulate,
        "length_buckets": recipe.training.length_buckets if recipe.training.length_buckets > 1 else None,
        "lr": recipe.optimizer.lr,
        "lr_grid": json.dumps(run.lr_grid) if run.lr_grid else None,
        "steps": recipe.training.steps,
        "dtype": FLOATS[precision.compute] if precision and precision.compute else recipe.backbone.dtype,
    }


def save(results: Path, run: Run, result: Result) -> None:
    """Keep the run's result, in place of an earlier one."""
    write_json(folder(results, run) / "result.json", result.as_dict())


def get(results: Path, run: Run) -> Result | None:
    """The run's result, if it has one."""
    path = folder(results, run) / "result.json"
    return _result(path) if path.exists() else None


def done(results: Path, run: Run) -> Result | None:
    """The run's result if running it again would give the same: finished, or diverged."""
    result = get(results, run)
    return result if result is not None and result.status in FINAL else None


def read_results(results: Path) -> list[Result]:
    """Every result in a results folder, or the one of a run's folder, in the order of their names."""
    return [_result(path) for path in _result_files(results)]


def folders(results: Path) -> list[Path]:
    """The folder of each of `read_results`."""
    return [path.parent for path in _result_files(results)]


def _result_files(path: Path) -> list[Path]:
    if (path / "result.json").is_file():
        return [path / "result.json"]
    return sorted([*path.glob(f"{RUNS}/*/result.json"), *path.glob("*/result.json")])


def _result(path: Path) -> Result:
    """The result in a file; a column that another version of the schema did not have is missing.

    Raises:
        ConfigError: it is no result.
    """
    try:
        values = read_json(path)
    except ConfigError as error:
        raise ConfigError(f"{error}; without it the run is not done, and the same lra run makes it again") from None
    if not isinstance(values, dict) or not values.keys() >= {"run", "status", "model", "task"}:
        raise ConfigError(f"{path}: not a result: it lacks run, status, model or task")
    known: dict[str, Any] = {column: values.get(column) for column in COLUMNS}
    return Result(**known)
