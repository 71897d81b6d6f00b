"""Texts with a class each, from any set of TensorFlow Datasets (`prepared.py`), as the bytes of their UTF-8."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.data import Progress
from lra_bench.data.formats import labels, prepared, text_bytes
from lra_bench.data.formats.prepared import Args, files
from lra_bench.data.formats.text_bytes import decode, encode
from lra_bench.data.made import Made

__all__ = ["HEADER", "PUBLISHED", "VERSION", "Args", "build", "check", "decode", "encode", "files", "row", "vocabulary"]

VERSION = 2
HEADER = ""
PUBLISHED = True


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 bytes. It is the same for all `args`."""
    return text_bytes.SYMBOLS


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> Made:
    """So many texts of each split, of that which `args` names, or of train, as `published.completed` chooses them.

    Raises:
        TaskError: there are not so many, or the set has no such split or feature.
        DataError: the set cannot be had or read, or a text is empty or no UTF-8.
    """
    read = partial(text_bytes.tokens_of, length=length)
    kind = prepared.Kind("a text", _is_text, read, "bytes", lambda text: len(text) > length)
    return prepared.made(args, kind, length, splits, seed, folder, progress)


def _is_text(feature: Any) -> bool:
    return feature.shape == () and feature.np_dtype in (str, bytes, object, np.str_, np.bytes_, np.object_)


def check(args: Args, tokens: np.ndarray, label: Any) -> None:
    """Hold a text, tokens [1, L], and its label against what there can be. Its label cannot be derived.

    Raises:
        DataError: it is empty or no UTF-8, or its label is below 0.
    """
    text_bytes.check(tokens[0])
    labels.check(label)


def row(tokens: np.ndarray, label: int) -> str:
    """A text, tokens [1, L], as a line: the class's number and the text."""
    return f"{label}\t{text_bytes.escaped(decode(tokens[0]))}"
