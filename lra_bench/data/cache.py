"""The cache: one folder a data set, named by the hash of everything that decides its bytes.

A folder holds one .npy for each array of each split, and `manifest.json`. It is written under another name and then
renamed, so that a folder that bears its name is whole. On every load the manifest is held against the files.
While examples are made they are in `unfinished`, where the next try finds them again if this one is killed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from lra_bench import __version__, data
from lra_bench.config import TaskSpec, digest
from lra_bench.data import Dataset, Progress, arguments, cache_root, made, published, staging
from lra_bench.data.formats import labels
from lra_bench.data.made import About
from lra_bench.errors import DataError, PlaceError, TaskError
from lra_bench.metrics import EXACT_MATCH, METRICS
from lra_bench.shapes import Split

MANIFEST = "manifest.json"
ARRAYS = tuple(field.name for field in fields(Split))
NAMED = 10  # classes in a message
ATTEMPTS = 3  # to read what was just written, while others write too


class Unusable(Exception):
    """A folder of the cache that is not what its manifest says."""


def prepare(task: TaskSpec, progress: Progress) -> Dataset:
    """The task's examples, from the cache, or built once into it. A folder that is not whole is built again.

    Whoever built them, and for whichever task, they are held against this one.

    Raises:
        TaskError: what the task asks for cannot be made, or is not what its metric, classes and streams say.
        DataError: a released file is missing or wrong, or has changed since the task was asked for.
        PlaceError: there is no place for the cache.
    """
    key = key_of(task)
    _hold_files(task, key["files"])
    folder = folder_of(task, key)
    for attempt in range(ATTEMPTS):
        try:
            dataset = read(folder, key, fresh=attempt > 0)
            hold(task, dataset.splits, dataset.about)
            return dataset
        except (FileNotFoundError, NotADirectoryError):
            pass
        except Unusable as fault:
            warnings.warn(f"{folder}: {fault}; it is built again", stacklevel=3)
            _discard(folder)
        with staging.place(cache_root() / "unfinished" / folder.name):
            splits = _built(task, progress)
            _write(folder, key, splits, _about(task, splits), progress)
    raise DataError(f"{folder}: written, and could not be read {ATTEMPTS} times; is the disk full or failing?")


def content_of_files(task: TaskSpec) -> str:
    """Sixteen hexadecimal digits over what the files hold that the source reads from the task's folder.

    Raises:
        DataError: one is missing.
    """
    return _digest(_hashes(task))


def _digest(files: Mapping[str, str]) -> str:
    return digest(files)[:16]


def _hashes(task: TaskSpec) -> dict[str, str]:
    """SHA-256 of each file that the source reads from the task's folder, by split or name."""
    files = data.of(task).files(Path(task.folder)) if task.folder is not None else {}
    return {name: _hash_as_it_stands(path, *_stamp(path)) for name, path in files.items()}


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes whenever a file is written to."""
    there = path.stat()
    return there.st_size, there.st_mtime_ns, there.st_ctime_ns


@functools.lru_cache(4096)
def _hash_as_it_stands(path: Path, *stamp: int) -> str:
    return hash_of(path)


def _hold_files(task: TaskSpec, files: Mapping[str, str]) -> None:
    """Raises DataError: the files are not those that the task was asked with."""
    if task.content is not None and (now := _digest(files)) != task.content:
        raise DataError(
            f"{task.folder}: its files have changed since this run was asked for (content {task.content[:10]}, "
            f"now {now[:10]}); lra run with the same flags makes another run, on what they hold now"
        )


def key_of(task: TaskSpec) -> dict[str, Any]:
    """Everything that decides the bytes of the task's examples; files are in it by their content, not their place."""
    source, files = data.of(task), _hashes(task)
    inner = {} if task.of is None else {"of": key_of(task.of)}
    return inner | {
        "source": Path(task.source).name,
        "version": source.VERSION,
        "args": arguments(task).model_dump(),
        "length": task.length,
        "splits": dict(task.splits),
        "seed": task.seed,
        "files": files,
    }


def folder_of(task: TaskSpec, key: Mapping[str, Any]) -> Path:
    """Where the examples of that key are kept."""
    return cache_root() / "data" / f"{Path(task.source.partition('#')[0]).stem}-{digest(key)[:16]}"


def hash_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_of(splits: Mapping[str, Split]) -> str:
    """SHA-256 over the names, types, shapes and elements of all arrays, hexadecimal; no file format is in it."""
    content = hashlib.sha256()
    for split, name, array in _arrays(splits):
        content.update(f"{split}.{name} {array.dtype.str} {array.shape}\n".encode())
        content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def read(folder: Path, key: Mapping[str, Any], fresh: bool) -> Dataset:
    """The data set in `folder`, every file held against the manifest.

    Raises:
        FileNotFoundError: there is no such folder.
        Unusable: it is not what its manifest says, or not of that key.
    """
    folder.stat()
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["key"] != key:
            raise Unusable("its key is another")
        for name, stated in manifest["files"].items():
            if _facts(folder / name) != stated:
                raise Unusable(f"{name} is not what was written")
        splits = {split: _mapped(folder, split) for split in key["splits"]}
        return Dataset(splits, manifest["content"], folder, fresh, About.read(manifest))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"it is not whole: {type(error).__name__}: {error}") from error


def _mapped(folder: Path, split: str) -> Split:
    return Split(*(np.load(folder / f"{split}.{array}.npy", mmap_mode="r") for array in ARRAYS))


def _built(task: TaskSpec, progress: Progress) -> dict[str, Split]:
    """Let the source make the splits, and see that they are what the task says."""
    folder = None if task.folder is None else Path(task.folder)
    args = arguments(task)
    counts = {str(name): n for name, n in task.splits.items()}
    splits = data.of(task).build(args, task.length, counts, task.seed, folder, progress)
    hold(task, splits, made.about(splits))
    return splits


def hold(task: TaskSpec, splits: Mapping[str, Split], about: About) -> None:
    """Raises TaskError: the examples are not what the task's metric, classes and streams say."""
    for name, split in splits.items():
        if split.tokens.shape[1] != task.streams:
            raise TaskError(f"task '{task.name}': streams: {task.streams}, but the source has {split.tokens.shape[1]}")
        _hold_labels(task, name, split.label, about)


def _hold_labels(task: TaskSpec, split: str, label: np.ndarray, about: About) -> None:
    metric = METRICS[task.metric]
    shape = (len(label), *metric.shape(task.classes, task.length))
    if label.shape != shape or (label.dtype == np.float32) != metric.real:
        found = f"{label.dtype} [{', '.join(map(str, label.shape))}]"
        raise TaskError(
            f"task '{task.name}': metric: {metric.name} is of {metric.answer}, C {task.classes}, not {found}"
            + _there_are(about)
        )
    if metric.real:
        try:
            labels.kept(label)
        except DataError as error:
            raise TaskError(f"task '{task.name}': labels of {split}{error}") from None
        return
    highest = task.classes if metric.everywhere else 1 if metric is EXACT_MATCH else task.classes - 1
    if label.max() > highest:
        raise TaskError(
            f"task '{task.name}': classes: {task.classes}, but a label of {split} is {label.max()}{_there_are(about)}"
        )
    if label.min() < 0:
        raise TaskError(f"task '{task.name}': a label of {split} is {label.min()}; they begin with 0")


def _there_are(about: About) -> str:
    """The classes that there are, where they have names; first the rarest, as a fault would be."""
    names = sorted(about.classes or [], key=lambda name: about.times.get(name, 0))
    if not names:
        return ""
    said = [
        f"'{name}' ({about.times[name]:,} rows, the first {about.first[name]})" if name in about.first else f"'{name}'"
        for name in names[:NAMED]
    ]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"; there are {len(names)}: {', '.join(said)}{more}"


def _arrays(splits: Mapping[str, Split]) -> Iterator[tuple[str, str, np.ndarray]]:
    for split in sorted(splits):
        for name in ARRAYS:
            yield split, name, getattr(splits[split], name)


def _facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hash_of(path)}


def _about(task: TaskSpec, splits: Mapping[str, Split]) -> About:
    """What is known of the splits; of those that other people made, also whether they share inputs."""
    known = made.about(splits)
    theirs = task.folder is not None or data.of(task).PUBLISHED
    streams = 1 if task.growing else None  # what grows is the answer
    return replace(known, overlap=published.overlap(splits, streams)) if theirs else known


def about(task: TaskSpec) -> About:
    """What is known of the task's examples beside them, if they are in the cache."""
    key = key_of(task)
    try:
        return About.read(json.loads((folder_of(task, key) / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return About()


def _write(folder: Path, key: Mapping[str, Any], splits: Mapping[str, Split], about: About, progress: Progress) -> None:
    """Put the splits into `folder`, whole or not at all. If another process was quicker, its work stands.

    Raises:
        PlaceError: there is no place for it.
    """
    unfinished = _beside(folder)
    try:
        unfinished.mkdir(parents=True)
        _fill(unfinished, key, splits, about, progress)
        unfinished.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise PlaceError(f"{folder}: cannot be written; $LRA_CACHE may name another place: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fill(folder: Path, key: Mapping[str, Any], splits: Mapping[str, Split], about: About, progress: Progress) -> None:
    """Write one file an array, then the manifest."""
    files = {}
    for done, (split, name, array) in enumerate(_arrays(splits), 1):
        path = folder / f"{split}.{name}.npy"
        with path.open("wb") as file:
            np.save(file, array)
            _to_disk(file)
        files[path.name] = _facts(path)
        progress("writing the cache", done, len(splits) * len(ARRAYS))
    content = {"content": content_of(splits), **about.kept()}
    manifest = {"package": __version__, "key": key, "files": files, **content}
    with (folder / MANIFEST).open("w", encoding="utf-8") as text:
        json.dump(manifest, text, indent=1)
        _to_disk(text)


def _to_disk(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _discard(folder: Path) -> None:
    """Take away a folder that another process may take away too, or replace meanwhile."""
    aside = _beside(folder)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside)
        shutil.rmtree(aside)


def _beside(folder: Path) -> Path:
    """A new name in the same place, under which nobody looks for data."""
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
