"""Sequences, or pairs of them, or pictures, with a class each, from NumPy arrays of the user's own: .npz.

The folder holds `train.npz`, and `val.npz` and `test.npz` if there are such (`split_files.py` has the names); what it
lacks is cut from train, in an order of the task's seed, and shares no example with it. Where fewer examples are
asked for than a file has, they are drawn by that seed. token = symbol + 1.

An array holds integers, which are symbols as they stand, or numbers of any kind, which become levels between `low`
and `high`; what lies beyond these counts as the nearer of them. Its shape is [N, L], or [N, 2, L] for pairs, or any
other whose examples have `length` numbers each: pictures, [N, rows, columns] or [N, rows, columns, channels], are read
row by row. An array is in memory once beside its tokens.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from numpy.lib.npyio import NpzFile
from pydantic import Field

from lra_bench.config import Strict
from lra_bench.data import Progress, published
from lra_bench.data.formats import labels, quantization, split_files
from lra_bench.data.formats.quantization import decode, encode
from lra_bench.data.made import Made
from lra_bench.data.published import Examples
from lra_bench.errors import DataError, TaskError, nearest
from lra_bench.shapes import Split

__all__ = [
    "HEADER", "PUBLISHED", "VERSION", "Args",
    "build", "check", "decode", "encode", "files", "row", "values", "vocabulary",
]  # fmt: skip

VERSION = 2
HEADER = ""
PUBLISHED = True

SUFFIX = ".npz"
AT_ONCE = 1 << 22  # numbers that are made into tokens in one go


class Args(Strict):
    """Which arrays are what, and what their numbers mean."""

    x: str  # the array of the sequences
    y: str  # the array of the answers: classes, integers from 0, [N]; labels, 0 or 1, [N, C]; fractions, [N (, C)]
    symbols: Annotated[int, Field(ge=2, le=65_535)]  # how many: integers from 0, or levels from low to high
    low: float | None  # null, and high too: x holds symbols; else the number of the first level
    high: float | None  # the number of the last level
    lengths: str | None  # the array of how long each is, [N] or [N, 2]; null: it is whole, but for padding
    padding: int | None  # the symbol that fills x on the right; null: there is none

    @pydantic.model_validator(mode="after")
    def _one_meaning(self) -> Args:
        levelled = self.low is not None and self.high is not None
        if not levelled and (self.low, self.high) != (None, None):
            raise ValueError(f"low: {self.low}, high: {self.high}; must be both numbers, or both null")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low: {self.low}, high: {self.high}; must be below it")
        if self.padding is not None and (levelled or self.lengths is not None):
            raise ValueError(f"padding: {self.padding}; must be null where there are lengths, or low and high")
        return self


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding, and the integers from 0."""
    return (quantization.PADDING, *map(str, range(args.symbols)))


def values(args: Args) -> np.ndarray:
    """The number that each id stands for, float32 [V, 1]: from 0, the first symbol or `low`, to 1; padding for 0."""
    return np.concatenate(([0.0], np.linspace(0, 1, args.symbols))).astype(np.float32)[:, None]


def files(folder: Path) -> dict[str, Path]:
    """The archives in `folder`, by split.

    Raises:
        DataError: there is none for train, or a split has two.
    """
    return split_files.one_each(folder, SUFFIX)


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> Made:
    """So many examples of each split, of its file, or of train, as `published.completed` chooses them.

    Raises:
        TaskError: there are not so many, or examples have not `length` numbers.
        DataError: no folder is named, a file is damaged, lacks an array, or an example is wrong; it is named.
    """
    if folder is None:
        raise DataError("folder: null; name one that holds train.npz: --set task.folder=FOLDER")
    paths = files(folder)
    parts = {}
    for done, (split, path) in enumerate(paths.items(), 1):
        examples = _examples(path, args, length)
        parts[split] = Examples(examples, np.zeros(len(examples), bool))
        progress("reading arrays", done, len(paths))
    made = published.completed(parts, splits, seed, paths)
    return made.known(notes=split_files.unread([folder], [SUFFIX], list(paths.values())))


def _examples(path: Path, args: Args, length: int) -> Split:
    streams, name = _streams(path, args, length), f"{path}: {args.x}"
    places, shape = np.arange(length), streams.shape[:2]
    tokens = np.zeros(streams.shape, np.min_scalar_type(args.symbols))
    lengths = _lengths(path, args.lengths, shape, length) if args.lengths else np.full(shape, length, np.int32)
    label = _labels(path, args.y, len(streams))
    rows = max(1, AT_ONCE // streams[0].size)
    for start in range(0, len(streams), rows):
        part = slice(start, start + rows)
        if args.padding is not None:
            lengths[part] = _unpadded(name, start, streams[part], args.padding)
        tokens[part] = _tokens(name, start, streams[part], places < lengths[part][..., None], args)
    return Split(tokens, lengths, label)


def _streams(path: Path, args: Args, length: int) -> np.ndarray:
    """The array of the sequences as [N, S, L], of its own type.

    Raises:
        TaskError: its examples have not `length` numbers.
        DataError: it is missing, holds no numbers or no example, or fractions, and nothing says of what range.
    """
    x = _array(path, args.x)
    if x.dtype.kind not in "biuf" or x.ndim < 2 or not x.size:
        raise DataError(f"{path}: {args.x} is {_kind(x)}, not numbers of examples [N, L]")
    if x.dtype.kind == "f" and args.low is None:
        low, high = np.nanmin(x), np.nanmax(x)
        raise DataError(
            f"{path}: {args.x} holds fractions from {low:.6g} to {high:.6g}; say between which numbers they become "
            f"levels: --set task.args.low={low:.6g} --set task.args.high={high:.6g}"
        )
    if math.prod(x.shape[1:]) == length:
        return x.reshape(len(x), 1, length)
    if x.shape[1:] == (2, length):
        return x
    raise TaskError(
        f"length: {length}; {path}: {args.x} is {_kind(x)}, and an example has {math.prod(x.shape[1:])} numbers"
    )


def _unpadded(name: str, start: int, numbers: np.ndarray, padding: int) -> np.ndarray:
    """How many of the numbers [n, S, L] come before the padding, [n, S]; `start` is the first one's place in the array.

    Raises:
        DataError: an example is all padding, or has some elsewhere than at its end.
    """
    kept = numbers != padding
    lengths = kept.sum(-1)
    right = (lengths > 0) & (kept == (np.arange(kept.shape[-1]) < lengths[..., None])).all(-1)
    if not right.all():
        where = f"{name}[{start + right.all(1).argmin()}]"
        raise DataError(f"{where}: {padding} is padding, and it stands there alone, or not at the end")
    return lengths


def _tokens(name: str, start: int, numbers: np.ndarray, real: np.ndarray, args: Args) -> np.ndarray:
    """The tokens of the numbers [n, S, L] that are real; `start` is the first one's place in the array.

    Raises:
        DataError: a number is no symbol, or no number.
    """
    if args.low is None or args.high is None:
        symbols = numbers.astype(np.int64)
        right, what = (symbols >= 0) & (symbols < args.symbols), f"no symbol; they are 0 to {args.symbols - 1}"
    else:
        right, what = ~np.isnan(numbers), "no number"
        within = np.clip(np.where(right, numbers, args.low).astype(np.float64), args.low, args.high)
        symbols = np.rint((within - args.low) / (args.high - args.low) * (args.symbols - 1)).astype(np.int64)
    if (wrong := real & ~right).any():
        place = np.argwhere(wrong)[0]
        raise DataError(f"{name}[{start + place[0]}]: {numbers[tuple(place)]} is {what}")
    return np.where(real, symbols + 1, 0)


def _lengths(path: Path, name: str, shape: tuple[int, ...], length: int) -> np.ndarray:
    """How long each stream is, int32 [N, S]."""
    lengths = _array(path, name)
    if lengths.dtype.kind not in "iu" or lengths.size != math.prod(shape) or len(lengths) != shape[0]:
        raise DataError(f"{path}: {name} is {_kind(lengths)}, not an integer for each of {shape[0]} examples")
    if lengths.min() < 1 or lengths.max() > length:
        raise DataError(f"{path}: {name} is from {lengths.min()} to {lengths.max()}, and must be from 1 to {length}")
    return lengths.reshape(shape).astype(np.int32)


def _labels(path: Path, name: str, count: int) -> np.ndarray:
    """The classes, int32 [N], labels, uint8 [N, C], or numbers, float32 [N, C]."""
    label = _array(path, name)
    if label.dtype.kind not in "biuf" or label.ndim not in (1, 2) or len(label) != count:
        raise DataError(f"{path}: {name} is {_kind(label)}, not numbers for each of {count} examples")
    several = label.ndim == 2 and label.shape[1] > 1
    try:
        if label.dtype.kind == "f":
            return labels.kept(label.reshape(count, -1))
        return labels.whole(label if several else label.reshape(count))
    except DataError as error:
        raise DataError(f"{path}: {name}{error}") from None


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _array(path: Path, name: str) -> np.ndarray:
    """An array of the archive; no other is read.

    Raises:
        DataError: there is none of that name, or the archive is damaged, or holds objects of Python's own.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise ValueError("it is one array, without a name")
        with archive:
            if name not in archive.files:
                raise DataError(f"{path}: has no array '{name}'; {nearest(name, archive.files)}")
            return archive[name]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path}: damaged, or no .npz of plain arrays: {error}") from None


def check(args: Args, tokens: np.ndarray, label: Any) -> None:
    """Hold an example, tokens [S, L], against what there can be. Its label cannot be derived.

    Raises:
        DataError: a stream is empty, a symbol is none, or its label is below 0.
    """
    for stream in tokens:
        if not stream.any():
            raise DataError("it is empty")
        if stream.max() > args.symbols:
            raise DataError(f"a symbol is {int(stream.max()) - 1}, and there are {args.symbols}")
    labels.check(label)


def row(tokens: np.ndarray, label: Any) -> str:
    """An example, tokens [S, L], as a line: its answer and the numbers of each stream."""
    return "\t".join([labels.written(label), *(decode(stream) for stream in tokens)])
