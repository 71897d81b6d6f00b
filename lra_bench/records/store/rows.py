"""Rows: put beside their runs, and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lra_bench.config import FLOATS, Run
from lra_bench.errors import ConfigError
from lra_bench.records.schema import COLUMNS, FINAL, Result, Status
from lra_bench.records.store.files import read_json, write_json
from lra_bench.records.store.runs import RUNS, folder


def blank(cell: Run, status: Status, error: str | None = None, **facts: Any) -> Result:
    """The run's result with what was asked, and `facts` of what came out."""
    return Result(**columns(cell) | {"status": status, "error": error} | facts)


def columns(cell: Run) -> dict[str, Any]:
    """The result's columns on what was asked."""
    recipe, task, precision = cell.recipe, cell.task, cell.techniques.precision
    return {
        "run": cell.id,
        "model": cell.model,
        "options": json.dumps(cell.turned, sort_keys=True),
        "family": cell.family,
        "task": cell.task_name,
        "task_version": task.version,
        "metric": cell.metric.name,
        "variant": task.variant,
        "config": cell.config_name,
        "changed": cell.changed,
        "tag": cell.tag,
        "techniques": json.dumps(facts, sort_keys=True) if (facts := cell.techniques.facts()) else None,
        "start": cell.start and cell.start.id,
        "teacher": cell.teacher and cell.teacher.id,
        "tuning_trials": cell.tuned and cell.tuned.trials,
        "tuning_steps": cell.tuned and cell.tuned.steps,
        "config_hash": cell.config_hash,
        "seed": cell.seed,
        "length": task.length,
        "batch": recipe.training.batch,
        "accumulate": recipe.training.accumulate,
        "length_buckets": recipe.training.length_buckets if recipe.training.length_buckets > 1 else None,
        "steps": recipe.training.steps,
        "dtype": FLOATS[precision.compute] if precision and precision.compute else recipe.backbone.dtype,
    }


def put(results: Path, cell: Run, row: Result) -> None:
    """Keep the run's result, in place of an earlier one."""
    write_json(folder(results, cell) / "result.json", row.as_dict())


def get(results: Path, cell: Run) -> Result | None:
    """The run's result, if it has one."""
    path = folder(results, cell) / "result.json"
    return _row(path) if path.exists() else None


def done(results: Path, cell: Run) -> Result | None:
    """The run's result if running it again would give the same: finished, or diverged."""
    row = get(results, cell)
    return row if row is not None and row.status in FINAL else None


def rows(results: Path) -> list[Result]:
    """Every result in a results folder, or the one of a run's folder, in the order of their names."""
    return [_row(path) for path in _row_files(results)]


def folders(results: Path) -> list[Path]:
    """The folder of each of `rows`."""
    return [path.parent for path in _row_files(results)]


def _row_files(path: Path) -> list[Path]:
    if (path / "result.json").is_file():
        return [path / "result.json"]
    return sorted([*path.glob(f"{RUNS}/*/result.json"), *path.glob("*/result.json")])


def _row(path: Path) -> Result:
    """The result in a file; a column that another version of the schema did not have is missing.

    Raises:
        ConfigError: it is no row.
    """
    try:
        values = read_json(path)
    except ConfigError as error:
        raise ConfigError(f"{error}; without it the run is not done, and the same lra run makes it again") from None
    if not isinstance(values, dict) or not values.keys() >= {"run", "status", "model", "task"}:
        raise ConfigError(f"{path}: not a result: it lacks run, status, model or task")
    known: dict[str, Any] = {column: values.get(column) for column in COLUMNS}
    return Result(**known)
