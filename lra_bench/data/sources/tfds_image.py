"""Pictures with a class each, from any set of TensorFlow Datasets (`prepared.py`), pixel after pixel, row by row.

token = level + 1. A picture in color becomes gray as in the source `image`, or three tokens a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lra_bench.data import Progress
from lra_bench.data.formats import labels, prepared, quantization
from lra_bench.data.formats.prepared import files
from lra_bench.data.formats.quantization import decode, encode, row, values
from lra_bench.data.made import Made
from lra_bench.data.sources.image import gray
from lra_bench.errors import DataError

__all__ = [
    "HEADER", "PUBLISHED", "VERSION", "Args",
    "build", "check", "decode", "encode", "files", "row", "values", "vocabulary",
]  # fmt: skip

VERSION = 2
HEADER = "Source\tTarget"
PUBLISHED = True


class Args(prepared.Args):
    """Which set, what in it is what, and how pixels in color become a sequence."""

    color: Literal["gray", "rgb"]  # a token a pixel, or three, side by side; no matter where there is one channel


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 levels. It is the same for all `args`."""
    return quantization.SYMBOLS


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> Made:
    """So many pictures of each split, of that which `args` names, or of train, as `published.completed` chooses them.

    Raises:
        TaskError: there are not so many, or the set has no such split or feature.
        DataError: the set cannot be had or read, or a picture has not `length` tokens.
    """
    kind = prepared.Kind("a picture", _is_picture, partial(_tokens, length, args.color), "symbols")
    return prepared.made(args, kind, length, splits, seed, folder, progress)


def _is_picture(feature: Any) -> bool:
    """Bytes of rows, columns and one or three channels, or of rows and columns."""
    shape: tuple[int | None, ...] = feature.shape or ()
    return feature.np_dtype == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)))


def _tokens(length: int, color: str, picture: np.ndarray) -> np.ndarray:
    """The tokens, uint16 [L], of a picture [rows, columns] or [rows, columns, channels]."""
    pixels = picture.reshape(picture.shape[0] * picture.shape[1], -1)
    flat = gray(pixels[None])[0] if pixels.shape[1] == 3 and color == "gray" else pixels.reshape(-1)
    if len(flat) != length:
        size = " x ".join(map(str, picture.shape))
        raise DataError(f"a picture of {size} has {len(flat)} tokens, not the task's length of {length}")
    return flat.astype(np.uint16) + np.uint16(1)


def check(args: Args, tokens: np.ndarray, label: Any) -> None:
    """Hold a picture, tokens [1, L], and its label against what there can be. Its label cannot be derived.

    Raises:
        DataError: a pixel is missing, or its label is below 0.
    """
    labels.check(label)
    quantization.hold(tokens[0])
