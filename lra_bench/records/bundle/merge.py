"""A bundle taken into a results folder: checked whole, then put there run by run, nothing that is there changed."""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lra_bench.config import Run
from lra_bench.data import Progress
from lra_bench.errors import ConfigError
from lra_bench.records import provenance as whose
from lra_bench.records import store
from lra_bench.records.bundle.archive import Archive, opened
from lra_bench.records.bundle.checks import check, provenance, typed
from lra_bench.records.bundle.manifest import MANIFEST, RUN_FILES, Manifest, Provenance

EQUAL = "equal"
BEGUN = "begun here, and has no result yet"
STAGE = ".merge"  # in the results folder, so that a run gets to its place by being renamed


class Merged(NamedTuple):
    """What became of a bundle's runs, by name."""

    by: str | None
    added: list[str]
    marked: dict[str, str]  # of those added: what cannot be had here, its mixer's or its examples' code
    equal: list[str]  # were there already
    conflicts: dict[str, str]  # are there and differ: in what


def merge(bundle: Path, results: Path, count: Progress) -> Merged:
    """Take the bundle's runs into `results`. Killed at any time, it leaves whole runs there, and can be done again.

    Raises:
        ConfigError: something in the bundle is not as it should be; nothing was merged.
    """
    with opened(bundle) as archive, _stage(results) as stage:
        raw = archive.read(MANIFEST) if MANIFEST in archive.names else None
        if raw is None:
            raise ConfigError(f"no {MANIFEST} in it: not a bundle; lra bundle makes them")
        manifest = _manifest(stage, raw)
        _unpacked(archive, manifest, stage, count)
        said = {"by": manifest.by, "made": manifest.made, "manifest": hashlib.sha256(raw).hexdigest()}
        return _placed(_checked(stage, count), results, said)


@contextmanager
def _stage(results: Path) -> Iterator[Path]:
    """An empty folder in `results` for one merge at a time; what a killed one left there is thrown away."""
    results.mkdir(parents=True, exist_ok=True)
    handle, stage = os.open(results, os.O_RDONLY), results / STAGE
    try:
        store.lock(handle, results)
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        os.close(handle)


def _manifest(stage: Path, raw: bytes) -> Manifest:
    (stage / MANIFEST).write_bytes(raw)
    values = store.read_json(stage / MANIFEST)
    return typed(Path(MANIFEST), Manifest, values)


def _unpacked(archive: Archive, manifest: Manifest, stage: Path, count: Progress) -> None:
    """Every file in its place in the stage, its hash as the manifest has it."""
    there = {name for name in archive.names if name != MANIFEST}
    if strange := sorted(there ^ manifest.files.keys()):
        raise ConfigError(f"{strange[0]}: {'not in the manifest' if strange[0] in there else 'missing'}")
    for done, (name, digest) in enumerate(manifest.files.items()):
        content = archive.read(name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ConfigError(f"{name}: not the file that was packed, its hash is another")
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_bytes(content)
        count("unpacked", done + 1, len(manifest.files))


def _checked(stage: Path, count: Progress) -> list[tuple[Path, Run]]:
    folders = sorted((stage / store.RUNS).glob("*"))
    found = []
    for done, folder in enumerate(folders):
        try:
            found.append((folder, check(folder)))
        except ConfigError as error:
            raise ConfigError(str(error).replace(f"{stage}/", "")) from None
        count("checked", done + 1, len(folders))
    return found


def _placed(runs: list[tuple[Path, Run]], results: Path, said: dict[str, Any]) -> Merged:
    """What is new gets to its place, one run after another; what is there is left as it is."""
    merged = Merged(said["by"], [], {}, [], {})
    there = {folder: _difference(store.folder(results, run), folder) for folder, run in runs}
    for folder, run in runs:
        if there[folder] is None:
            try:
                came = _put(folder, run, results, said)
            except OSError:  # begun since we looked
                merged.conflicts[folder.name] = BEGUN
                continue
            merged.added.append(folder.name)
            if foreign := _foreign(came):
                merged.marked[folder.name] = foreign
        elif there[folder] == EQUAL:
            merged.equal.append(folder.name)
        else:
            merged.conflicts[folder.name] = str(there[folder])
    return merged


def _put(folder: Path, run: Run, results: Path, said: dict[str, Any]) -> Provenance:
    came = _provenance(folder, run, said)
    store.write_json(folder / store.PROVENANCE, came.model_dump())
    target = store.folder(results, run)
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    return came


def _provenance(folder: Path, run: Run, said: dict[str, Any]) -> Provenance:
    mixer = whose.of(run)
    return Provenance(
        **said,
        merged=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        mixer=mixer,
        code=None if mixer == "here" else run.code,
        source="own file" if "#" in run.task.source else "here",
        before=provenance(folder),
    )


def _foreign(came: Provenance) -> str | None:
    """What stands in no file here, so that the run's id cannot be computed again from its code."""
    words = [] if came.mixer == "here" else [f"its mixer is of an {came.mixer}"]
    words += [] if came.source == "here" else [f"its examples are of an {came.source}"]
    return ", ".join(words) or None


def _difference(here: Path, there: Path) -> str | None:
    """In what two folders of one run differ: EQUAL if in nothing that counts, None if there is only one."""
    if not here.exists():
        return None
    if not (here / "result.json").exists():
        return BEGUN
    ours, theirs = (store.read_results(folder)[0].as_dict() for folder in (here, there))
    apart = [f"{key} {ours[key]} here, {theirs[key]} there" for key in ours if ours[key] != theirs[key]]
    files = [name for name in RUN_FILES if name not in ("run.json", "result.json", store.PROVENANCE)]
    apart += [name for name in files if _content(here / name) != _content(there / name)]
    more = f" and {len(apart) - 3} more" if len(apart) > 3 else ""
    return "; ".join(apart[:3]) + more if apart else EQUAL


def _content(path: Path) -> Any:
    return store.read_json(path) if path.exists() else None
