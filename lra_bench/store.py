"""results/: put, get, done, frame.

results/runs/<model>-<task>-<recipe>-s<seed>-<cell id>/
    cell.json      what was asked, fully resolved; written before anything runs
    row.json       what came out; written last, atomically
    hits.json      one bit an example of test, in order, hexadecimal; scores.json: a number each, of other metrics
    fitted.json    slices of a batch and recomputation with which the step fits in memory
    curve.json     training loss and validation accuracy over steps
    checkpoints/   the latest state
    log.txt        what the cell's process wrote to stderr; log-1.txt and so on: the others, where several train it
    bundle.json    where it came from, if it was merged from a bundle
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench import config
from lra_bench.config import Cell
from lra_bench.errors import ConfigError
from lra_bench.metrics import Metric
from lra_bench.rows import COLUMNS, FINAL, Row, Status

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

RUNS = "runs"
PROVENANCE = "bundle.json"


def folder(results: Path, cell: Cell) -> Path:
    """Where the cell's files lie."""
    return results / RUNS / cell.folder


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def put_scores(folder: Path, scores: np.ndarray, metric: Metric) -> None:
    """Keep the score of every example of test, [N], in order."""
    import numpy as np

    if metric.share:
        bits = np.packbits(scores > 0).tobytes().hex()
        write_json(folder / "hits.json", {"n": len(scores), "hits": bits})
    else:
        write_json(folder / "scores.json", {"n": len(scores), "scores": [float(f"{x:.7g}") for x in scores]})


def scores(folder: Path) -> np.ndarray | None:
    """The score of every example of test, [N], in order: bool where they are bits; None where none were kept.

    Raises:
        ConfigError: the file is cut short, or no such thing.
    """
    import numpy as np

    file = next((folder / name for name in ("hits.json", "scores.json") if (folder / name).exists()), None)
    if file is None:
        return None
    kept = read_json(file)
    try:
        if "hits" in kept:
            found = np.unpackbits(np.frombuffer(bytes.fromhex(kept["hits"]), np.uint8))[: kept["n"]].astype(bool)
        else:
            found = np.array(kept["scores"], float)
        whole = len(found) == kept["n"]
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise ConfigError(f"{file}: not the score of every example of test")
    return found


def asked(folder: Path) -> Any:
    """What was asked in a run's folder, as its cell.json has it; None if there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    path = folder / "cell.json"
    return read_json(path) if path.exists() else None


def cell(folder: Path) -> Cell:
    """What was asked in a run's folder.

    Raises:
        ConfigError: it has no cell.json, or one that is not what the schema asks for.
    """
    path = folder / "cell.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: not a run's folder, it has no cell.json; lra run leaves them in results/{RUNS}")
    values = read_json(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values")
    return config.validated(Cell, values, [config.Overlay(str(path), values)])


def find(run: str, results: Path) -> Path:
    """The folder of a run that a user named: by its path, or by its id or its folder's name in `results`.

    Raises:
        ConfigError: there is none.
    """
    if Path(run).is_dir():
        return Path(run)
    names = [path.parent.name for path in sorted(results.glob(f"{RUNS}/*/cell.json"))]
    found = [name for name in names if run in (name, name.rpartition("-")[2])]
    if not found:
        raise ConfigError(f"{run}: no folder, and no run in {results}/{RUNS}; {_like(run, names)}")
    return results / RUNS / found[0]


def _like(run: str, names: Sequence[str]) -> str:
    """The run's name that is nearest; there are too many to list."""
    close = difflib.get_close_matches(run, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"it has {len(names)}; lra ls results shows them"


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ConfigError: it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def blank(cell: Cell, status: Status, error: str | None = None, **facts: Any) -> Row:
    """The cell's row with what was asked, and `facts` of what came out."""
    return Row(**columns(cell) | {"status": status, "error": error} | facts)


def columns(cell: Cell) -> dict[str, Any]:
    """The row's columns on what was asked."""
    recipe, task = cell.recipe, cell.task
    return {
        "cell": cell.id,
        "model": cell.model,
        "knobs": json.dumps(cell.knobs, sort_keys=True),
        "family": cell.family,
        "task": task.name,
        "task_version": task.version,
        "metric": task.metric,
        "variant": task.variant,
        "recipe": cell.recipe_name,
        "changed": cell.changed,
        "mark": cell.mark,
        "seed": cell.seed,
        "length": task.length,
        "batch": recipe.training.batch,
        "accumulate": recipe.training.accumulate,
        "steps": recipe.training.steps,
        "dtype": recipe.trunk.dtype,
    }


def put(results: Path, cell: Cell, row: Row) -> None:
    """Keep the cell's row, in place of an earlier one."""
    write_json(folder(results, cell) / "row.json", row.as_dict())


def get(results: Path, cell: Cell) -> Row | None:
    """The cell's row, if it has one."""
    path = folder(results, cell) / "row.json"
    return _row(path) if path.exists() else None


def done(results: Path, cell: Cell) -> Row | None:
    """The cell's row if running it again would give the same: finished, or diverged."""
    row = get(results, cell)
    return row if row is not None and row.status in FINAL else None


def rows(results: Path) -> list[Row]:
    """Every row in a results folder, or the one of a run's folder, in the order of their names."""
    return [_row(path) for path in _row_files(results)]


def folders(results: Path) -> list[Path]:
    """The folder of each of `rows`."""
    return [path.parent for path in _row_files(results)]


def came(folder: Path) -> dict[str, str | None]:
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


def open_cells(results: Path) -> list[Path]:
    """The folders of cells that have begun and have no row."""
    return [
        path.parent for path in sorted(results.glob(f"{RUNS}/*/cell.json")) if not (path.parent / "row.json").exists()
    ]


def _row_files(path: Path) -> list[Path]:
    if (path / "row.json").is_file():
        return [path / "row.json"]
    return sorted([*path.glob(f"{RUNS}/*/row.json"), *path.glob("*/row.json")])


def _row(path: Path) -> Row:
    """The row in a file; a column that another version of the schema did not have is missing."""
    values = read_json(path)
    if not isinstance(values, dict) or not values.keys() >= {"cell", "status", "model", "task"}:
        raise ConfigError(f"{path}: not a row: it lacks cell, status, model or task")
    known: dict[str, Any] = {column: values.get(column) for column in COLUMNS}
    return Row(**known)


def frame(paths: Sequence[Path]) -> pd.DataFrame:
    """The rows of results folders, single runs, and exported tables (.csv, .json), one below another.

    The column `origin` says which of `paths` a row came from, `folder` in which folder the run's other files lie,
    `bundle` and `code` what `came` does; they are missing for the rows of a table.

    Raises:
        ConfigError: a path is not there, or holds no row.
    """
    import pandas as pd

    parts = []
    for path in paths:
        part = _table(path) if path.is_file() else _runs(path)
        if part.empty:
            raise ConfigError(f"{path}: no results here; a run leaves {RUNS}/<cell>/row.json in its results folder")
        parts.append(part.assign(origin=str(path)))
    return pd.concat([p.dropna(axis="columns", how="all") for p in parts], ignore_index=True).reindex(
        columns=[*COLUMNS, "origin", "folder", "bundle", "code"]
    )


def _runs(path: Path) -> pd.DataFrame:
    import pandas as pd

    files = _row_files(path)
    found = [_row(file).as_dict() | {"folder": str(file.parent)} | came(file.parent) for file in files]
    return pd.DataFrame(found, columns=[*COLUMNS, "folder", "bundle", "code"])


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_json(path)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: not a table of rows (.csv or .json): {error}") from None
    missing = [c for c in ("model", "task", "status") if c not in table]
    if missing:
        raise ConfigError(f"{path}: not a table of rows: the column '{missing[0]}' is missing")
    return table


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the cell's folder against other processes; wait for one that has it. A killed holder lets go."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / "cell.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_claimed(path: Path) -> bool:
    """Does another process run this cell now?"""
    lock = path / "cell.lock"
    if not lock.exists():
        return False
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
