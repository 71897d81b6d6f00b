"""Data sets as TensorFlow Datasets prepares them, read by its own builders, without TensorFlow.

The user's `folder` is one prepared set, or holds one: a folder with `dataset_info.json`, in array_record or parquet. No
folder: the set is prepared once in the cache, from what its authors have published.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress, cache_root, published
from lra_bench.data.download import knock, no_place
from lra_bench.data.formats import labels
from lra_bench.data.made import Made
from lra_bench.data.published import Examples
from lra_bench.data.splits import stacked
from lra_bench.errors import DataError, TaskError, nearest
from lra_bench.shapes import SPLITS, Split

FORMAT = "array_record"
INFO = "dataset_info.json"


class Args(Strict):
    """Which set, and what in it is what."""

    name: str  # as TFDS names it, with the version: imdb_reviews/plain_text:1.0.0
    feature: str  # what is read
    label: str  # the class, or a number: then the metric is of numbers
    train_split: str  # as TFDS names it; a slice too: train[:90%]
    val_split: str | None  # null: cut from train
    test_split: str | None  # null: cut from train


class Kind(NamedTuple):
    """What can be read."""

    what: str
    fits: Callable[[Any], bool]  # is a feature of TFDS such a thing?
    tokens: Callable[[Any], np.ndarray]  # of one such thing [n]; DataError: it has none
    unit: str  # what it is long in
    is_long: Callable[[Any], bool] = lambda found: False  # is it longer than the task's length, and cut?


def files(folder: Path) -> dict[str, Path]:
    """All files of the prepared set, by their names.

    Raises:
        DataError: there is none in `folder`, or there are several.
    """
    return {path.name: path for path in sorted(_set_in(folder).iterdir()) if path.is_file()}


def made(
    args: Args,
    kind: Kind,
    length: int,
    counts: Mapping[str, int],
    seed: int,
    folder: Path | None,
    progress: Progress,
) -> Made:
    """So many examples of each split, of that which `args` names, or of train, as `published.completed` chooses them.

    Raises:
        TaskError: there are not so many, or the set has no such split or feature, or it is of another kind.
        DataError: the set cannot be had or read, or an example is wrong; it is named.
    """
    builder = _fetched(args.name) if folder is None else _opened(_set_in(folder), args.name)
    features = dict(getattr(builder.info.features, "items", tuple)())  # a set may have but one, without a name
    readable = [name for name, found in features.items() if kind.fits(found)]
    _demand(args.name, "feature", args.feature, readable, kind.what)
    _demand(
        args.name, "label", args.label, [name for name, found in features.items() if _is_answer(found)], "an answer"
    )
    named = dict(zip(SPLITS, (args.train_split, args.val_split, args.test_split), strict=True))
    wanted = {split: name for split, name in named.items() if name is not None}
    for split, name in wanted.items():
        _demand(args.name, f"{split}_split", name.partition("[")[0], list(builder.info.splits), "a split")
    files = {split: _stacked(builder, name, args, kind, length, progress) for split, name in wanted.items()}
    chosen = published.completed(files, counts, seed, {"train": args.name}, kind.unit)
    return chosen.known(classes=list(getattr(features[args.label], "names", None) or []) or None)


def _stacked(builder: Any, name: str, args: Args, kind: Kind, length: int, progress: Progress) -> Examples:
    """A split of the set, whole, in its own order."""
    read = list(_examples(builder, name, args, kind, progress))
    split = stacked([(streams, label) for streams, label, _ in read], length)
    if split.label.dtype.kind == "f":
        try:
            split = Split(split.tokens, split.lengths, labels.kept(split.label, [args.label]))
        except DataError as error:
            raise DataError(f"{builder.data_dir}: {name}: {error}") from None
    return Examples(split, np.array([long for _, _, long in read]))


def _set_in(folder: Path) -> Path:
    found = sorted(path.parent for path in folder.rglob(INFO))
    if len(found) != 1:
        named = ", ".join(str(path.relative_to(folder)) for path in found[:5]) or f"no {INFO}"
        raise DataError(f"{folder}: looked for one set that TFDS has prepared; there is {named}")
    return found[0]


def _opened(folder: Path, name: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:
        raise DataError(f"{folder}: cannot be read as a set of TFDS: {_line(error)}") from None
    configured, _, version = builder.info.full_name.rpartition("/")
    names = [f"{configured}:{version}", configured, f"{builder.name}:{version}", builder.name]
    if name not in names:
        raise TaskError(f"args.name: {name}; {folder} holds {names[0]}")
    return builder


def _fetched(name: str) -> Any:
    """The set, prepared in the cache if it is not there yet."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of what is not yet prepared
    place = cache_root() / "tfds"
    try:
        builder = tfds.builder(name, data_dir=place, file_format=FORMAT)
    except Exception as error:
        bare = name.partition("/")[0].partition(":")[0]
        known = tfds.list_builders(with_community_datasets=False)
        what = _line(error) if bare in known else f"TFDS has no such set; {nearest(bare, known)}"
        raise TaskError(f"args.name: {name}: {what}") from None
    if not builder.is_prepared():
        try:
            for url in list(builder.url_infos or ())[:1]:
                knock(url)
            with contextlib.redirect_stdout(sys.stderr):  # it prints
                builder.download_and_prepare(file_format=FORMAT)
        except Exception as error:
            if fault := no_place(error, place):
                raise fault from error
            raise DataError(
                f"{name}: cannot be prepared here ({_line(error)}); prepare it elsewhere, `tfds build {name} "
                f"--file_format={FORMAT}`, and name the folder: --set task.folder=FOLDER"
            ) from None
    return builder


def _demand(name: str, key: str, value: str, known: list[str], what: str) -> None:
    if value not in known:
        raise TaskError(f"args.{key}: '{value}' is not {what} in {name}; {nearest(value, known)}")


def _is_answer(feature: Any) -> bool:
    """One class or number, or several numbers."""
    shape, kind = feature.shape, np.dtype(feature.np_dtype).kind
    return (shape == () and kind in "iuf") or (shape is not None and len(shape) == 1 and kind == "f")


def _answer(name: str, found: Any) -> int | np.ndarray:
    """A class, or numbers, float [C].

    Raises:
        DataError: it is no class, or no number.
    """
    value = np.asarray(found)
    if value.dtype.kind == "f":
        if not np.isfinite(value).all():
            raise DataError(f"{name}: {value} is no number")
        return np.atleast_1d(value)
    if not 0 <= value <= np.iinfo(np.int32).max:
        raise DataError(f"{name}: {value} is no class")
    return int(value)


def _examples(
    builder: Any, split: str, args: Args, kind: Kind, progress: Progress
) -> Iterator[tuple[list[np.ndarray], int | np.ndarray, bool]]:
    """The stream of tokens and the answer of each example of a split, and whether it was cut."""
    where = f"{builder.data_dir}: {split}"
    number = -1
    try:
        source = builder.as_data_source(split=split)
        for number, example in enumerate(source):
            answer = _answer(args.label, example[args.label])
            found = example[args.feature]
            yield [kind.tokens(found)], answer, kind.is_long(found)
            if number % 1000 == 0:
                progress(f"reading {split}", number, len(source))
    except DataError as error:
        raise DataError(f"{where}[{number}]: {error}") from None
    except Exception as error:
        raise DataError(f"{where}: cannot be read: {_line(error)}") from None


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" *")]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
