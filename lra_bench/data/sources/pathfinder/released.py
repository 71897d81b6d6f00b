"""Pathfinder as it was released: folders of PNG files, with lists of their labels.

`<difficulty>/imgs/<k>/sample_<i>.png` and `<difficulty>/metadata/<k>.npy`, which is text for all its name, a picture
a line: sub-folder, file, number, label, continuity, paddles of a contour and of a distractor, a paddle's length,
thickness and margin, number of contrasts. The public generator (drewlinsley/pathfinder) writes an array of such strings
instead; both are read, and neither is trusted with a path.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from lra_bench.data import Progress, split_schemes, staging, workers
from lra_bench.data.formats.quantization import Black, tokens_of
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

FOLDERS = {"easy": "curv_baseline", "intermediate": "curv_contour_length_9", "hard": "curv_contour_length_14"}
RESOLUTION = "pathfinder{}"
COLUMNS = 11
LABEL, CONTOUR = 3, 5  # columns
SUBFOLDER, FILE = re.compile(r"imgs/[0-9]+"), re.compile(r"[A-Za-z0-9_]+\.png")
NUMPY = b"\x93NUMPY"
AT_ONCE = 256  # pictures that a process reads in one go


class Entry(NamedTuple):
    """A line of a list."""

    path: Path  # of the picture
    label: int
    key: str  # by which TensorFlow Datasets orders it
    place: str  # file and line, for a message


@dataclass(frozen=True)
class Album:
    """All pictures of a difficulty, in the order of the numbers of their lists."""

    folder: Path
    size: int
    difficulty: str
    entries: list[Entry]


def lists(folder: Path) -> dict[str, Path]:
    """The lists in `folder`, which is a difficulty's, a resolution's, or holds those of several resolutions.

    Raises:
        DataError: there are none.
    """
    patterns = ("metadata/*.npy", "curv_*/metadata/*.npy", "pathfinder*/curv_*/metadata/*.npy")
    found = {str(path.relative_to(folder)): path for pattern in patterns for path in sorted(folder.glob(pattern))}
    if not found:
        raise DataError(f"{folder}: no metadata/*.npy in it, in curv_* or in pathfinder*/curv_*")
    return found


def album(folder: Path, size: int, difficulty: str, contour: int) -> Album:
    """The pictures of a difficulty, whose contours have so many paddles.

    Raises:
        DataError: the folder or a picture is missing, or a line of a list is wrong.
    """
    below = FOLDERS[difficulty]
    tried = [folder / RESOLUTION.format(size) / below, folder / below, folder]
    base = next((path for path in tried if (path / "metadata").is_dir()), None)
    if base is None:
        raise DataError(f"{folder}: looked for metadata in {', '.join(map(str, tried))}; there is none")
    paths = list((base / "metadata").glob("*.npy"))
    for path in paths:
        if not path.stem.isdecimal():
            raise DataError(f"{path}: a list's name is a number and .npy")
    entries = [
        _entry(base, path, number, columns, contour)
        for path in sorted(paths, key=lambda path: int(path.stem))
        for number, columns in enumerate(_lines(path), 1)
    ]
    return Album(base, size, difficulty, entries)


def _lines(path: Path) -> list[list[str]]:
    """The columns of each line of a list."""
    content = path.read_bytes()
    try:
        if not content.startswith(NUMPY):
            return [line.split(" ") for line in content.decode("utf-8").splitlines()]
        table = np.load(io.BytesIO(content), allow_pickle=False)
        if table.dtype.kind not in "US" or table.ndim != 2:
            raise ValueError(f"an array of {table.dtype} [{', '.join(map(str, table.shape))}], not of strings [N, 11]")
        return table.astype(str).tolist()
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: neither lines of text nor an array of strings: {error}") from None


def _entry(base: Path, path: Path, number: int, columns: Sequence[str], contour: int) -> Entry:
    place = f"{path}:{number}"
    if len(columns) != COLUMNS:
        raise DataError(f"{place}: has {len(columns)} columns, not {COLUMNS}")
    below, name = columns[:2]
    if not SUBFOLDER.fullmatch(below) or not FILE.fullmatch(name):
        raise DataError(f"{place}: '{below}' and '{name}' are not a sub-folder imgs/<k> and the name of a PNG file")
    if columns[LABEL] not in ("0", "1"):
        raise DataError(f"{place}: its label is '{columns[LABEL]}', not 0 or 1")
    if columns[CONTOUR] != str(contour):
        raise DataError(f"{place}: contours of {columns[CONTOUR]} paddles; this difficulty has {contour}")
    return Entry(base / below / name, int(columns[LABEL]), f"{below}_{name}_{number}", place)


def splits(
    album: Album, counts: Mapping[str, int], scheme: str, seed: int, black: Black, progress: Progress
) -> dict[str, Split]:
    """So many pictures of each split. Files of no length, of which the release has one, are left out and counted.

    Raises:
        TaskError: there are not so many.
        DataError: a picture is missing, damaged, or of another size.
    """
    full = np.array([_size(entry) > 0 for entry in album.entries], bool)
    if not full.all():
        first = album.entries[int(full.argmin())].path
        warnings.warn(f"{first}: of no length; {(~full).sum()} of {len(full)} pictures are left out so", stacklevel=2)
    chosen = _cut(album, full, counts, scheme, seed)
    for split, n in counts.items():
        if n > len(chosen[split]):
            raise TaskError(f"splits.{split}: asks for {n} examples; {album.folder} leaves {len(chosen[split])}")
    return {split: _read(album, split, chosen[split][:n], black, progress) for split, n in counts.items()}


def _size(entry: Entry) -> int:
    try:
        return entry.path.stat().st_size
    except OSError:
        raise DataError(f"{entry.place}: {entry.path} is not there") from None


def _cut(album: Album, full: np.ndarray, counts: Mapping[str, int], scheme: str, seed: int) -> dict[str, np.ndarray]:
    """The places in the album of each split's pictures. TFDS cuts before empty ones are left out, the others after."""
    there = np.flatnonzero(full)
    if scheme == split_schemes.TFDS:
        parts = split_schemes.tfds([entry.key for entry in album.entries], album.difficulty)
        return {split: part[full[part]] for split, part in parts.items()}
    torch = scheme == split_schemes.TORCH
    parts = split_schemes.torch_42(len(there)) if torch else split_schemes.shuffled(len(there), counts, seed)
    return {split: there[part] for split, part in parts.items()}


def _read(album: Album, split: str, places: np.ndarray, black: Black, progress: Progress) -> Split:
    """The pictures at some places of the album, and their labels."""
    n, pixels = len(places), album.size * album.size
    tokens = staging.array(f"{split}.tokens", (n, 1, pixels), np.dtype(np.uint16))
    entries = [album.entries[place] for place in places]
    done = 0
    for part in workers.results(partial(_levels, album.size), _batches(entries)):
        tokens[done : done + len(part), 0] = tokens_of(part, black)
        done += len(part)
        progress(f"reading {split}", done, n)
    label = np.array([entry.label for entry in entries], np.int32)
    lengths = np.array([np.count_nonzero(picture, axis=1) for picture in tokens], np.int32).reshape(n, 1)
    return Split(tokens, lengths, label)


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    rest = iter(entries)
    while batch := list(islice(rest, AT_ONCE)):
        yield batch


def _levels(size: int, entries: Sequence[Entry]) -> np.ndarray:
    """The levels of pictures, uint8 [n, size * size]."""
    return np.stack([_picture(size, entry).reshape(-1) for entry in entries])


def _picture(size: int, entry: Entry) -> np.ndarray:
    content = entry.path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            found = image.mode, image.size
            if found == ("L", (size, size)):
                image.verify()
        if found == ("L", (size, size)):
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                return np.asarray(image)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{entry.place}: {entry.path} is damaged, or no PNG: {error}") from None
    mode, (width, height) = found
    wrong = f"is {width} x {height} of mode {mode}, not {size} x {size} of 8-bit gray"
    raise DataError(f"{entry.place}: {entry.path} {wrong}")
