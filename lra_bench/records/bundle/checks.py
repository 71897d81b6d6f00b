"""Is a run's folder what it says: its result of its run, its score of its examples, its best step of its curve?"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import pydantic

from lra_bench import config
from lra_bench.config import Run, Strict
from lra_bench.errors import ConfigError
from lra_bench.metrics import named
from lra_bench.records import store
from lra_bench.records.bundle.manifest import RUN, RUN_FILES, Provenance
from lra_bench.records.schema import SCORED, Result

S = TypeVar("S", bound=Strict)
LATER = ("lr",)
ROUNDING = 1e-5  # relative, of the mean of scores that were written with seven digits


class Point(Strict):
    """One evaluation on val."""

    step: int
    train_loss: float | None  # of a run without a step
    val_score: float


class Fallback(Strict):
    """fallback.json: a list of these two."""

    accumulate: int
    remat: bool


def _schema() -> type[Strict]:
    """A result, strictly; what another version did not have may be missing."""
    hints = get_type_hints(Result)
    fields: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is dataclasses.MISSING else field.default)
        for field in dataclasses.fields(Result)
    }
    return pydantic.create_model("RowFile", __base__=Strict, **fields)


ROW = _schema()


def check(folder: Path) -> Run:
    """The run of a run's folder in which all agrees.

    Raises:
        ConfigError: names the file, and what is wrong in it.
    """
    if not re.fullmatch(RUN, folder.name):
        raise ConfigError(f"{folder}: a bundle's names are of A-Z a-z 0-9 _ . + -")
    for name in RUN_FILES:
        if (folder / name).exists():
            _printable(folder / name, store.read_json(folder / name))
    run = store.read_run(folder)
    ends = (f"{run.model}-{run.task_name}-", f"-s{run.seed}-{run.id}")  # between them, whose config it was
    if not (folder.name.startswith(ends[0]) and folder.name.endswith(ends[1])):
        raise ConfigError(f"{folder.name}/run.json: of {run.folder}, by its content")
    result = _result(folder / "result.json", run)
    _scores(folder, result)
    _curve(folder / "curve.json", result)
    if (folder / "fallback.json").exists():
        typed(folder / "fallback.json", Fallback, dict(_paired(folder / "fallback.json")))
    provenance(folder)
    return run


def provenance(folder: Path) -> Provenance | None:
    """Where a run came from, if not from here.

    Raises:
        ConfigError: its bundle.json is not one.
    """
    path = folder / store.PROVENANCE
    return typed(path, Provenance, store.read_json(path)) if path.exists() else None


def typed(path: Path, schema: type[S], values: Any) -> S:
    """`values`, which a file holds, as a `schema`.

    Raises:
        ConfigError: they are not.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values")
    return config.validated(schema, values, [config.Overlay(str(path), values)])


def _printable(path: Path, value: Any) -> None:
    """Text is shown on terminals and pages: no control characters in it."""
    if isinstance(value, str) and not value.isprintable():
        raise ConfigError(f"{path}: has characters that cannot be shown: {ascii(value)[:60]}")
    if isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            _printable(path, part)


def _result(path: Path, run: Run) -> Result:
    result = Result(**typed(path, ROW, store.read_json(path)).model_dump())
    asked = store.columns(run)
    had = result.as_dict()
    wrong = next((key for key, value in asked.items() if had[key] != value and not _may_differ(key, had[key])), None)
    if wrong:
        raise ConfigError(f"{path}: {wrong}: {getattr(result, wrong)}, and {asked[wrong]} by its run.json")
    return result


def _may_differ(key: str, had: Any) -> bool:
    """Does a fallback change it, or is it a column that earlier results do not have?"""
    return key == "accumulate" or (key in LATER and had is None)


def _scores(folder: Path, result: Result) -> None:
    kinds = [name for name in ("per_example.json", "scores.json") if (folder / name).exists()]
    wanted = ["per_example.json" if named(result.metric).binary else "scores.json"] if result.status in SCORED else []
    if kinds != wanted:
        raise ConfigError(f"{folder}: has {' and '.join(kinds) or 'no scores of examples'}, and is {result.status}")
    scores = store.scores(folder)
    if scores is None:
        if result.test_score is not None:
            raise ConfigError(f"{folder / 'result.json'}: test_score: {result.test_score}, and is {result.status}")
        return
    if len(scores) != result.test_n or not len(scores):
        raise ConfigError(f"{folder / kinds[0]}: {len(scores)} examples, and test_n is {result.test_n}")
    mean, off = float(scores.mean(dtype=float)), 1e-9 if scores.dtype == bool else ROUNDING
    if result.test_score is None or not math.isclose(mean, result.test_score, rel_tol=off, abs_tol=1e-9):
        raise ConfigError(f"{folder / kinds[0]}: a mean of {mean:.6g}, and test_score is {result.test_score}")


def _curve(path: Path, result: Result) -> None:
    points = store.read_json(path) if path.exists() else []
    if not isinstance(points, list):
        raise ConfigError(f"{path}: must be a list of points")
    best = [p.val_score for p in (typed(path, Point, point) for point in points) if p.step == result.best_step]
    if result.status in SCORED and best != [result.val_score]:
        raise ConfigError(
            f"{path}: no val_score of {result.val_score} at step {result.best_step}, as the result has it"
        )


def _paired(path: Path) -> Iterator[tuple[str, Any]]:
    values = store.read_json(path)
    if not isinstance(values, list) or len(values) != len(Fallback.model_fields):
        raise ConfigError(f"{path}: must be a list of {' and '.join(Fallback.model_fields)}")
    return zip(Fallback.model_fields, values, strict=True)
