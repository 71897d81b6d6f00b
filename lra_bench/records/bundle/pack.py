"""The results of a results folder as one file."""

from __future__ import annotations

import datetime
import hashlib
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lra_bench.data import Progress
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.records.bundle.checks import check
from lra_bench.records.bundle.manifest import COUNT, FILE_BYTES, MANIFEST, RUN_FILES, TOTAL_BYTES, Manifest

EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in a zip, so that the same results are the same bytes


class Packed(NamedTuple):
    """What went in, and what did not."""

    out: Path
    results: list[str]
    left_out: dict[str, str]  # by name: why


def pack(results: Path, out: Path, by: str | None, count: Progress) -> Packed:
    """Write the results in `results`, a results folder or one run's, to `out`: a zip, or, of any other name, a folder.

    A result whose files do not agree is left out, as nobody could merge it.

    Raises:
        ConfigError: there is no result, `out` is there already, or `by` cannot be shown.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already")
    if by is not None and not by.isprintable():
        raise ConfigError(f"--by {by!r}: has characters that cannot be shown")
    folders, left_out = store.folders(results), dict[str, str]()
    if not folders:
        raise ConfigError(
            f"{results}: no results here; a run leaves {store.RUNS}/<run>/result.json in its results folder"
        )
    for done, folder in enumerate(folders):
        count("checked", done + 1, len(folders))
        try:
            check(folder)
        except ConfigError as error:
            left_out[folder.name] = str(error)
    taken = [folder for folder in folders if folder.name not in left_out]
    if taken:
        _write(out, _files(taken), by, _versions(taken))
    return Packed(out, [folder.name for folder in taken], left_out)


def _files(folders: Sequence[Path]) -> dict[str, bytes]:
    paths = [folder / name for folder in folders for name in RUN_FILES if (folder / name).exists()]
    sizes = {path: path.stat().st_size for path in paths}
    if large := next((path for path, size in sizes.items() if size > FILE_BYTES), None):
        raise ConfigError(f"{large}: larger than a bundle's file may be, {FILE_BYTES:,} bytes")
    if sum(sizes.values()) > TOTAL_BYTES or len(paths) >= COUNT:
        raise ConfigError(
            f"{sum(sizes.values()):,} bytes, {len(paths):,} files: a bundle has {TOTAL_BYTES:,}, {COUNT:,}"
        )
    return {f"runs/{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


def _versions(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Every version of each library that the results name."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for library, version in json.loads(store.read_results(folder)[0].versions or "{}").items():
            found.setdefault(library, set()).add(str(version))
    return {library: sorted(versions) for library, versions in sorted(found.items())}


def _write(out: Path, files: dict[str, bytes], by: str | None, versions: dict[str, list[str]]) -> None:
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = Manifest(format=1, by=by, made=made, versions=versions, files=hashes)
    whole = {MANIFEST: manifest.model_dump_json(indent=1).encode(), **files}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        made_at = Path(scratch) / out.name
        (_as_zip if out.suffix == ".zip" else _as_folder)(made_at, whole)
        made_at.rename(out)


def _as_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            file.writestr(info, content)


def _as_folder(path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
