"""Image: what does a picture of 32 x 32 pixels show? CIFAR-10 (Krizhevsky 2009), pixel after pixel, as in Long Range
Arena (arXiv 2011.04006, section 2.2.4).

Read from `cifar-10-binary.tar.gz` itself, in the user's folder or fetched. What differs from LRA (google-research/
long-range-arena, lra_benchmarks/image/input_pipeline.py):

- token = gray level + 1: there black is 0, which is padding, and is masked by those models that have a mask, as with
  `black: padding`;
- val is cut from train in an order of the task's seed; there it is the last tenth in TFDS' order, as with
  `val_from: tfds`;
- every example is counted; there the last, short batch is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress, published, split_schemes
from lra_bench.data.download import Remote, fetched
from lra_bench.data.formats import archives, quantization
from lra_bench.data.formats.quantization import decode, encode, row, values
from lra_bench.data.splits import taken
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

__all__ = [
    "HEADER", "PUBLISHED", "VERSION", "Args",
    "build", "check", "decode", "encode", "files", "row", "values", "vocabulary",
]  # fmt: skip

VERSION = 1
HEADER = "Source\tTarget"
PUBLISHED = True

REMOTE = Remote(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    name="cifar-10-binary.tar.gz",
    bytes=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
BATCH = re.compile(r"cifar-10-batches-bin/(?P<part>data|test)_batch(?:_\d)?\.bin")
BATCHES = 6
PIXELS, CLASSES = 32 * 32, 10
LUMA = np.array([0.2989, 0.5870, 0.1140], np.float32)  # of red, green and blue in TensorFlow's rgb_to_grayscale


class Args(Strict):
    """How the pixels become a sequence, and the published parts splits."""

    val_from: Literal["train", "test", "tfds"]  # what val is cut from; "tfds": train's last tenth in TFDS' order
    color: Literal["gray", "rgb"]  # a token a pixel, or three, side by side
    black: quantization.Black


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 levels."""
    return quantization.SYMBOLS


def channels(args: Args) -> int:
    """Numbers that stand side by side for one pixel."""
    return 3 if args.color == "rgb" else 1


def files(folder: Path) -> dict[str, Path]:
    """The archive in `folder`, which holds all splits.

    Raises:
        DataError: there is none, or there are several.
    """
    return {"archive": archives.one(folder, "cifar-10-binary*.tar.gz", REMOTE.url)}


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """So many pictures of each split, drawn in an order that `seed` gives.

    Raises:
        TaskError: there are not so many, or `length` is not that of a picture.
        DataError: the archive is missing or damaged, or a batch in it is no whole number of pictures.
    """
    tokens = PIXELS * (3 if args.color == "rgb" else 1)
    if length != tokens:
        raise TaskError(f"length: {length}; a picture in {args.color} has {tokens} tokens")
    path = fetched(REMOTE) if folder is None else files(folder)["archive"]
    batches: dict[str, dict[str, bytes]] = {"data": {}, "test": {}}
    for done, (named, content) in enumerate(archives.members(path, BATCH), 1):
        batches[named["part"]][named[0]] = content
        progress(f"reading {path.name}", done, BATCHES)
    train, test = (_pictures(path, part, args) for part in batches.values())
    if args.val_from == "tfds":
        return published.first({**_in_tfds_order(train), "test": test}, splits, {"train": path})
    return published.splits(train, test, splits, seed, args.val_from, path)


def _in_tfds_order(train: Split) -> dict[str, Split]:
    """Train [:90%] and val [90%:] of the published train, whose pictures TFDS gives their numbers for keys."""
    order = split_schemes.tfds_order([str(i) for i in range(len(train))], "train")
    limit = round(0.9 * len(order))
    return {"train": taken(train, order[:limit]), "val": taken(train, order[limit:])}


def _pictures(path: Path, batches: Mapping[str, bytes], args: Args) -> Split:
    """The pictures of a part: a byte for the label and three planes of pixels each, as CIFAR-10's page has it."""
    size = 1 + 3 * PIXELS
    for name, content in batches.items():
        if not content or len(content) % size:
            raise DataError(f"{path}: {name}: {len(content)} bytes, no whole number of pictures of {size}")
    if not batches:
        raise DataError(f"{path}: holds no batch of a part")
    records = np.frombuffer(b"".join(batches[name] for name in sorted(batches)), np.uint8).reshape(-1, size)
    if records[:, 0].max() >= CLASSES:
        raise DataError(f"{path}: a label is {records[:, 0].max()}, not below {CLASSES}")
    rgb = records[:, 1:].reshape(-1, 3, PIXELS).swapaxes(1, 2)
    pixels = gray(rgb) if args.color == "gray" else rgb.reshape(len(rgb), -1)
    return quantization.split(pixels, records[:, 0], args.black)


def gray(rgb: np.ndarray) -> np.ndarray:
    """Gray levels, uint8 [N, P], of pixels, uint8 [N, P, 3], rounded as TensorFlow's rgb_to_grayscale rounds."""
    return ((rgb.astype(np.float32) / 255) @ LUMA * 255.5).astype(np.uint8)


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a picture, tokens [1, L], and its label against what there can be. Its label cannot be derived.

    Raises:
        DataError: a pixel is missing, or its label is none of 10.
    """
    quantization.check(tokens[0], label, CLASSES, args.black)
