"""Runs' folders: where they lie, what was asked in them, where they came from."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Any

from lra_bench import config
from lra_bench.config import Run
from lra_bench.errors import ConfigError
from lra_bench.records.store.files import read_json

RUNS = "runs"
PROVENANCE = "bundle.json"


def folder(results: Path, run: Run) -> Path:
    """Where the run's files lie."""
    return folder_in(results / RUNS, run)


def folder_in(runs: Path, run: Run) -> Path:
    """Of the folders in `runs`, the run's: that of its name; or one that has its id and another name, where the same
    was asked for under another config's name."""
    own = runs / run.folder
    return own if own.is_dir() else runs / _by_id(runs, _changed(runs)).get(run.id, run.folder)


def _changed(runs: Path) -> int | None:
    """When a folder was last made or taken away in it, in ns; None where there is none."""
    return runs.stat().st_mtime_ns if runs.is_dir() else None


@functools.lru_cache(8)
def _by_id(runs: Path, changed_ns: int | None) -> dict[str, str]:
    """The names of runs' folders by the ids at their ends."""
    names = [] if changed_ns is None else sorted(path.name for path in runs.iterdir())
    return {name.rpartition("-")[2]: name for name in names}


def on_other_data(results: Path, run: Run) -> list[Path]:
    """The folders of the runs that differ from the run in nothing but what the files hold that they are trained on."""
    alike = escape(f"{run.model}-{run.task_name}-{run.config_name}-s{run.seed}") + "-*"
    return [path for path in sorted((results / RUNS).glob(alike)) if _but_for_data(path, run)]


def _but_for_data(path: Path, run: Run) -> bool:
    try:
        kept = Run.model_validate(asked(path))
    except ValueError:
        return False  # of another version
    return kept.id != run.id and kept.without_content.id == run.without_content.id


def asked(folder: Path) -> Any:
    """What was asked in a run's folder, as its run.json has it; None if there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    path = folder / "run.json"
    return read_json(path) if path.exists() else None


def read_run(folder: Path) -> Run:
    """What was asked in a run's folder.

    Raises:
        ConfigError: it has no run.json, or one that is not what the schema asks for.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: not a run's folder, it has no run.json; lra run leaves them in results/{RUNS}")
    values = read_json(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values")
    return config.validated(Run, values, [config.Overlay(str(path), values)])


def find(run: str, results: Path) -> Path:
    """The folder of a run that a user named: by its path, or by its id or its folder's name in `results`.

    Raises:
        ConfigError: there is none.
    """
    if Path(run).is_dir():
        return Path(run)
    names = [path.parent.name for path in sorted(results.glob(f"{RUNS}/*/run.json"))]
    found = [name for name in names if run in (name, name.rpartition("-")[2])]
    if not found:
        raise ConfigError(f"{run}: no folder, and no run in {results}/{RUNS}; {_like(run, names)}")
    return results / RUNS / found[0]


def _like(run: str, names: Sequence[str]) -> str:
    """The run's name that is nearest; there are too many to list."""
    close = difflib.get_close_matches(run, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"it has {len(names)}; lra ls results shows them"


def provenance(folder: Path) -> dict[str, str | None]:
    """Of a run that was merged: `bundle`, by whom and when it was made, and `code`, ten digits of the hash of its
    mixer's code where that was not this package's; None where it is not so."""
    path = folder / PROVENANCE
    if not path.exists():
        return {"bundle": None, "code": None}
    said = read_json(path)
    try:
        return {"bundle": f"{said['by'] or 'unnamed'}, {said['made'][:10]}", "code": said["code"]}
    except (KeyError, TypeError):
        raise ConfigError(f"{path}: does not say where the run came from") from None


def open_runs(results: Path) -> list[Path]:
    """The folders of runs that have begun and have no result."""
    return [
        path.parent for path in sorted(results.glob(f"{RUNS}/*/run.json")) if not (path.parent / "result.json").exists()
    ]
