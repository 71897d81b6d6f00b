"""MNIST (LeCun et al. 1998) pixel after pixel, in the order of the picture (sequential) or in one that is the same for
all (permuted; Le et al., arXiv 1504.00941, section 4.2).

Read from the four published .gz files, in the user's folder or fetched. token = gray level + 1.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from lra_bench.data import Progress, published
from lra_bench.data.batches import permutation
from lra_bench.data.download import Remote, fetched
from lra_bench.data.formats import quantization
from lra_bench.data.formats.quantization import decode, encode, row, values
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

__all__ = [
    "HEADER", "PUBLISHED", "VERSION", "Args",
    "build", "check", "decode", "encode", "files", "row", "values", "vocabulary",
]  # fmt: skip

VERSION = 1
HEADER = "Source\tTarget"
PUBLISHED = True

PIXELS, CLASSES = 28 * 28, 10
HOME = "https://storage.googleapis.com/cvdf-datasets/mnist/"
REMOTES = {
    name: Remote(f"{HOME}{name}.gz", f"{name}.gz", size, sha256)
    for name, size, sha256 in (
        ("train-images-idx3-ubyte", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1-ubyte", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3-ubyte", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1-ubyte", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    )
}


class Args(published.Args):
    """How the pixels become a sequence, and the published parts splits."""

    order: Annotated[int, Field(ge=0)] | None  # the seed of the pixels' order; null: row by row


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 levels."""
    return quantization.SYMBOLS


def files(folder: Path) -> dict[str, Path]:
    """The four files in `folder`, by their names.

    Raises:
        DataError: one is missing.
    """
    paths = {name: folder / remote.name for name, remote in REMOTES.items()}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise DataError(f"{folder}: looked for the files of {HOME}; not there: {', '.join(missing)}")
    return paths


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """So many pictures of each split, drawn in an order that `seed` gives.

    Raises:
        TaskError: there are not so many, or `length` is not that of a picture.
        DataError: a file is missing or damaged.
    """
    if length != PIXELS:
        raise TaskError(f"length: {length}; a picture has {PIXELS} tokens")
    paths = {name: fetched(remote) for name, remote in REMOTES.items()} if folder is None else files(folder)
    parts = []
    for done, part in enumerate(("train", "t10k"), 1):
        images, labels = paths[f"{part}-images-idx3-ubyte"], paths[f"{part}-labels-idx1-ubyte"]
        parts.append(_pictures(images, labels, args.order))
        progress("reading pictures", done, 2)
    return published.splits(parts[0], parts[1], splits, seed, args.val_from, paths["train-images-idx3-ubyte"].parent)


def _pictures(images: Path, labels: Path, order: int | None) -> Split:
    pixels, label = idx(images, 3), idx(labels, 1)
    if pixels.shape[1:] != (28, 28):
        raise DataError(f"{images}: pictures of {pixels.shape[1]} x {pixels.shape[2]}, not of 28 x 28")
    if len(pixels) != len(label):
        raise DataError(f"{labels}: {len(label)} labels, and {images.name} holds {len(pixels)} pictures")
    if label.max(initial=0) >= CLASSES:
        raise DataError(f"{labels}: a label is {label.max()}, not below {CLASSES}")
    flat = pixels.reshape(len(pixels), PIXELS)
    return quantization.split(flat if order is None else flat[:, permutation(PIXELS, order, 0)], label)


def idx(path: Path, axes: int) -> np.ndarray:
    """The bytes of a gzipped IDX file of so many axes: two of 0, 8 for bytes, the axes, their lengths, the elements.

    Raises:
        DataError: it is damaged, or no such file.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: damaged, or no .gz: {error}") from None
    head = 4 + 4 * axes
    if content[:4] != bytes((0, 0, 8, axes)) or len(content) < head:
        raise DataError(f"{path}: no IDX file of bytes with {axes} axes")
    shape = tuple(int(n) for n in np.frombuffer(content[4:head], ">u4"))
    if len(content) - head != np.prod(shape, dtype=np.int64):
        raise DataError(f"{path}: {len(content) - head} elements, not {' x '.join(map(str, shape))}")
    return np.frombuffer(content[head:], np.uint8).reshape(shape)


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a picture, tokens [1, L], and its label against what there can be. Its label cannot be derived.

    Raises:
        DataError: a pixel is missing, or its label is none of 10.
    """
    quantization.check(tokens[0], label, CLASSES)
