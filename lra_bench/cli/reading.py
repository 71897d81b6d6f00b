"""Results, as a command that reads them is given them; what cannot be read is said, with the command that can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lra_bench.cli import options
from lra_bench.errors import ConfigError, nearest

TABLES = (".csv", ".json")
OF_SPEED = {"step_ms_p50", "length", "laps_ms"}  # keys of what `lra speed` measured of one step


@contextmanager
def frame(asked: Sequence[Path] | None) -> Iterator[Any]:
    """The results of all that was asked for, or of the results folder; `DIR@REV` is DIR as it was at a git revision.

    Raises:
        ConfigError: a path has no results; the line says where there are some, or which command is for it.
    """
    from lra_bench.launch import provenance
    from lra_bench.records import store

    with ExitStack() as stack:
        there = {}
        for path in asked or [standard()]:
            folder, at, revision = str(path).rpartition("@")
            past = at and not path.exists()
            if not past:
                refuse(path)
            there[stack.enter_context(provenance.at(revision, Path(folder))) if past else path] = str(path)
        results = store.to_dataframe(list(there))
        yield results.assign(origin=results["origin"].map({str(real): said for real, said in there.items()}))


def standard() -> Path:
    """The results folder, or this one where it is that."""
    return Path() if not options.RESULTS.exists() and Path("runs").is_dir() else options.RESULTS


def refuse(path: Path) -> None:
    """Say what a path is that has no results.

    Raises:
        ConfigError: it has none.
    """
    if path.is_dir():
        _refuse_folder(path)
    elif path.is_file():
        _refuse_file(path)
    else:
        beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        said = nearest(path.name, beside) if beside else "there is none"
        hint = f"; {said}" if said.startswith("did you mean") else ""
        raise ConfigError(f"{path}: no results here: there is no such folder or file{hint}")


def _refuse_folder(path: Path) -> None:
    from lra_bench.records import store

    if store.folders(path):
        return
    below = [one for one in sorted(path.iterdir()) if one.is_dir() and store.folders(one)]
    above = [
        one for one in path.resolve().parents[:3] if (one / "result.json").is_file() or (one / store.RUNS).is_dir()
    ]
    where = ", ".join(map(str, below or above[:1]))
    said = f"there are some in {where}" if where else "lra run leaves them in its results folder, --results DIR"
    raise ConfigError(f"{path}: no results here; {said}")


def _refuse_file(path: Path) -> None:
    import zipfile

    if path.suffix == ".lra":
        raise ConfigError(f"{path}: a model of `lra export`, no results; lra predict {path} FILE is for it")
    if zipfile.is_zipfile(path):
        raise ConfigError(
            f"{path}: a bundle; lra merge {path} {options.RESULTS} takes its results into a results folder"
        )
    if path.suffix not in TABLES:
        raise ConfigError(f"{path}: no results: these are a folder, a run, or a table ({', '.join(TABLES)})")
    if is_of_speed(path):
        raise ConfigError(f"{path}: steps that `lra speed` timed, no runs; lra scale {path} is for them")


def is_of_speed(path: Path) -> bool:
    """Does a file hold what `lra speed` measured?"""
    import json

    if path.suffix != ".json":
        return False
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(held, list) and bool(held) and isinstance(held[0], dict) and held[0].keys() >= OF_SPEED
